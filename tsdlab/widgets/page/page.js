// What all pages have: a root element, a notice, and a frame in which everything that has changed is drawn once.
//
// On the root, data-waiting says whether an answer is still to come, and data-answered is the serial of the last answer
// that is drawn.

import { html } from "./dom.js";

const NOTICE = 6000; // ms

export class Page {
  /**
   * @param connect makes the answerer of this page; see protocol.js
   * @param {HTMLElement} root what the page builds itself in
   */
  constructor(connect, root) {
    this.root = root;
    this.answerer = connect(this);
    this.fixed = this.told("fixed");
    this.pending = { frame: 0, redraw: true, serial: null };
    this.standing = ""; // the notice while there is no other
    this.notice = html("div", { class: "notice", role: "status" });
    root.classList.add("tsdlab-page");
    root.dataset.waiting = "no";
    const { proposal, classification, localization, truth } = this.fixed.palette;
    const colors = { classification, localization, truth, "proposal-on-image": proposal };
    for (const [name, color] of Object.entries(colors)) root.style.setProperty(`--${name}`, color);
  }

  /** Draw. `all` says whether anything but what the person is doing has changed. To be written by each page. */
  draw(all) {
    throw new Error(`draw(${all}) is missing`);
  }

  state(name) {
    return this.answerer.state(name);
  }

  told(name) {
    return this.answerer.told(name);
  }

  /** Change fields of the state. */
  set(change) {
    this.answerer.ask({ set: change });
  }

  /** Go on by one entry of what the page steps through, or go back by one. */
  go(by) {
    this.answerer.ask({ go: by });
  }

  changed() {
    this.root.dataset.waiting = "yes";
    this.schedule();
  }

  answered(serial) {
    this.pending.serial = serial;
    this.schedule();
  }

  redraw() {
    this.pending.redraw = true;
    this.schedule();
  }

  say(text, lasting = false) {
    clearTimeout(this.silence);
    this.notice.textContent = text || this.standing;
    if (text && !lasting) this.silence = setTimeout(() => this.say(""), NOTICE);
  }

  /** There will be no more answers of Python. `without` says what goes on without it; else the page is greyed. */
  lose(without = "") {
    this.standing = `The kernel is gone; run the cell again. ${without}`;
    this.say("");
    this.root.classList.add(without ? "alone" : "lost");
    this.schedule();
  }

  schedule() {
    this.pending.frame ||= requestAnimationFrame(() => {
      const { redraw, serial } = this.pending;
      this.pending = { frame: 0, redraw: false, serial: null };
      this.draw(redraw);
      this.root.dataset.waiting = this.answerer.busy ? "yes" : "no";
      if (serial) this.root.dataset.answered = serial;
    });
  }

  close() {
    cancelAnimationFrame(this.pending.frame);
    clearTimeout(this.silence);
    this.answerer.close();
  }
}
