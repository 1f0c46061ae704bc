// The numbers of P, to be typed: the four of them are taken together.

import { html, panel } from "../page/dom.js";
import { refusalOf } from "./geometry.js";

const NAMES = ["x1", "y1", "x2", "y2"];

export class TypedBox {
  constructor(page) {
    this.page = page;
    this.typed = null; // the proposal that was there when typing began; null while nobody types
    this.fields = NAMES.map((name) => html("input", {
      type: "text", inputmode: "decimal", name, autocomplete: "off", "aria-label": `${name} of P, pixels`,
      oninput: () => this.begin(),
      onkeydown: (event) => this.press(event),
    }));
    this.error = html("p", { class: "error", role: "alert", hidden: true });
    this.size = html("span", { class: "size" });
    const labels = this.fields.map((field) => html("label", {}, field.name, field));
    this.group = html("div", { class: "fields", role: "group", "aria-label": "the corners of P", onfocusout: (event) => this.leave(event) },
      labels, this.size);
    this.element = panel("Proposal P, pixels", this.group, this.error);
  }

  /** The numbers follow P, but not while they are typed. */
  draw() {
    const proposal = this.page.state("proposal");
    if (this.typed && this.typed.every((value, i) => value === proposal[i])) return;
    this.end();
    proposal.forEach((value, i) => { this.fields[i].value = Number(value.toFixed(1)); });
    const [x1, y1, x2, y2] = proposal;
    this.size.textContent = `${Math.abs(x2 - x1).toFixed(1)} × ${Math.abs(y2 - y1).toFixed(1)} px`;
  }

  begin() {
    this.typed ??= [...this.page.state("proposal")];
  }

  end() {
    this.typed = null;
    this.refuse(null);
  }

  press(event) {
    if (event.key === "Enter" && this.take()) this.page.root.focus({ preventScroll: true });
    if (event.key !== "Escape") return;
    this.end();
    this.draw();
    this.page.root.focus({ preventScroll: true });
  }

  leave({ relatedTarget }) {
    if (!this.group.contains(relatedTarget)) this.take();
  }

  /** Ask for the box that was typed, or say at the field why it cannot be; returns whether it was asked for. */
  take() {
    if (!this.typed) return true;
    const box = this.fields.map(({ value }) => (value.trim() === "" ? NaN : Number(value.replace(",", "."))));
    const wrong = wrongOf(box, this.fields);
    this.refuse(wrong);
    if (wrong) return false;
    this.typed = null;
    this.page.set({ proposal: box });
    return true;
  }

  /** Show what is wrong with a field: {index, why}; null if nothing is. */
  refuse(wrong) {
    this.error.hidden = !wrong;
    this.error.textContent = wrong?.why ?? "";
    this.fields.forEach((field, i) => field.setAttribute("aria-invalid", String(i === wrong?.index)));
  }
}

/** The first field whose number cannot be, and why; null if there is none. */
function wrongOf(box, fields) {
  const at = (index, why) => (index < 0 ? null : { index, why: `${NAMES[index]} ${why(index)}` });
  return at(box.findIndex(Number.isNaN), (i) => `must be a number of pixels; “${fields[i].value}” is not a number.`)
    ?? at(box.findIndex((value) => refusalOf([value])), () => "must lie within ±1,000,000 pixels.")
    ?? at([2, 3].find((i) => box[i] < box[i - 2]) ?? -1, (i) => `must not be less than ${NAMES[i - 2]}, which is ${box[i - 2]}.`);
}
