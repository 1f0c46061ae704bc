// What answers a page. The kernel's side of the same protocol is widgets/protocol.py.
//
// A page works with an answerer, and does not know what it is. An answerer has
//   state(name)       a field of the state: what the page asked for last, else what the answerer has
//   told(name)        what the answerer tells the page about a subject, such as "image"
//   ask({set, go})    ask for a change of the state
//   who               what answers, in words, where a page shows it
//   busy              whether an answer is still to come
//   close()
// and calls the page's methods
//   changed()                   something was asked for: show what needs no answer
//   answered(serial)            an answer came
//   redraw()                    what `state` or `told` return has changed
//   say(text, lasting), lose(without)  a notice for the person; the kernel is gone, and what goes on without it

const PATIENCE = 8000; // ms without an answer before the page says so

/** Asks Python, by the widget's model: {serial, set, go} → everything that follows, with {done: serial, refused}. */
export class KernelAnswerer {
  constructor(model, page) {
    // Several pages may show one model, so a serial must be unlike those of other pages.
    Object.assign(this, { model, page, serial: Date.now(), sent: null, wanted: null, lost: false });
    this.listeners = {
      "msg:custom": (content, buffers) => this.hear(content, buffers),
      "change:_request": () => this.receive(),
      "comm_live_update": () => this.lose(), // the kernel was restarted
      change: () => page.redraw(),
    };
    for (const [event, listener] of Object.entries(this.listeners)) model.on(event, listener);
  }

  /** Whether the person waits for an answer. */
  get busy() {
    return [this.wanted, this.sent].some((request) => request && !request.quiet);
  }

  state(name) {
    for (const change of [this.wanted?.set, this.sent?.set]) if (change && name in change) return change[name];
    return this.model.get(name);
  }

  told(name) {
    return this.model.get(`_${name}`);
  }

  ask(change) {
    this.queue(change);
    this.page.changed();
  }

  /**
   * Of what is asked while Python is at work, only the last value of each field is sent on. Nobody waits for a quiet
   * request: Python is only told.
   */
  queue({ set = {}, go, quiet = false }) {
    if (this.lost) return;
    const { wanted } = this;
    this.wanted = { set: { ...wanted?.set, ...set }, go: go ?? wanted?.go, quiet: quiet && (wanted?.quiet ?? true) };
    this.send();
  }

  send() {
    if (this.busy) {
      this.alarm ??= setTimeout(
        () => this.page.say("No answer yet: the kernel is busy or has stopped. If it was restarted, run the cell again.", true),
        PATIENCE,
      );
    }
    if (this.sent || !this.wanted) return;
    this.sent = { serial: ++this.serial, ...this.wanted };
    this.wanted = null;
    this.post(this.sent);
  }

  post(message) {
    if (this.lost) return;
    try {
      this.model.send(message);
    } catch {
      this.lose();
    }
  }

  /** The kernel that this page belongs to is gone: nothing that was asked for will be answered. */
  lose() {
    if (this.lost) return;
    this.lost = true;
    this.stopAlarm();
    this.sent = this.wanted = null;
    this.page.lose(this.without);
  }

  /** What goes on without the kernel, as a sentence. */
  get without() {
    return "";
  }

  /** What Python sends between the answers: its progress. */
  hear({ progress, go_on: goOn }) {
    if (!progress) return;
    const [done, total] = progress;
    this.page.say(done < total ? `Asking the detector about image ${done + 1} of ${total} …` : "", true);
    if (goOn) this.post({ need: "scan" });
  }

  receive() {
    const { done, refused } = this.model.get("_request");
    if (done !== this.sent?.serial) return;
    const { quiet } = this.sent;
    this.stopAlarm();
    this.sent = null;
    if (refused || !quiet) this.page.say(refused ?? "");
    this.page.answered(done);
    this.send();
  }

  stopAlarm() {
    clearTimeout(this.alarm);
    this.alarm = undefined;
  }

  close() {
    this.stopAlarm();
    for (const [event, listener] of Object.entries(this.listeners)) this.model.off(event, listener);
  }
}
