// What answers a page. The kernel's side of the same protocol is widgets/protocol.py.
//
// A page works with an answerer, and does not know what it is. An answerer has
//   state(name)       a field of the state: what the page asked for last, else what the answerer has
//   told(name)        what the answerer tells the page about a subject, such as "image"
//   ask({set, go})    ask for a change of the state
//   busy              whether an answer is still to come
//   close()
// and calls the page's methods
//   changed()                   something was asked for: show what needs no answer
//   answered(serial)            an answer came
//   redraw()                    what `state` or `told` return has changed
//   say(text, lasting), lose()  a notice for the person; there will be no more answers

const PATIENCE = 8000; // ms without an answer before the page says so

/** Asks Python, by the widget's model: {serial, set, go} → everything that follows, with {done: serial, refused}. */
export class KernelAnswerer {
  constructor(model, page) {
    // Several pages may show one model, so a serial must be unlike those of other pages.
    Object.assign(this, { model, page, serial: Date.now(), sent: null, wanted: null });
    this.listeners = {
      "msg:custom": ({ progress: [done, total] }) =>
        page.say(`Asking the detector about image ${done + 1} of ${total} …`, true),
      "change:_request": () => this.receive(),
      change: () => page.redraw(),
    };
    for (const [event, listener] of Object.entries(this.listeners)) model.on(event, listener);
  }

  get busy() {
    return Boolean(this.wanted || this.sent);
  }

  state(name) {
    for (const change of [this.wanted?.set, this.sent?.set]) if (change && name in change) return change[name];
    return this.model.get(name);
  }

  told(name) {
    return this.model.get(`_${name}`);
  }

  /** Of what is asked while Python is at work, only the last value of each field is sent on. */
  ask({ set = {}, go }) {
    this.wanted = { set: { ...this.wanted?.set, ...set }, go: go ?? this.wanted?.go };
    this.page.changed();
    this.send();
  }

  send() {
    if (this.sent || !this.wanted) return;
    this.sent = { serial: ++this.serial, ...this.wanted };
    this.wanted = null;
    this.alarm = setTimeout(
      () => this.page.say("No answer yet: the kernel is busy or has stopped. If it was restarted, run the cell again.", true),
      PATIENCE,
    );
    try {
      this.model.send(this.sent);
    } catch {
      clearTimeout(this.alarm);
      this.page.lose();
    }
  }

  receive() {
    const { done, refused } = this.model.get("_request");
    if (done !== this.sent?.serial) return;
    clearTimeout(this.alarm);
    this.sent = null;
    this.page.say(refused ?? "");
    this.page.answered(done);
    this.send();
  }

  close() {
    clearTimeout(this.alarm);
    for (const [event, listener] of Object.entries(this.listeners)) this.model.off(event, listener);
  }
}
