// The numbers of P, the object that it is compared with, and the conflict of this image.

import { button, html, panel } from "../page/dom.js";
import { fixed } from "../page/numbers.js";

export class ProposalPanel {
  constructor(page) {
    this.page = page;
    this.fields = ["x1", "y1", "x2", "y2"].map((name) => html("input", {
      type: "text", inputmode: "decimal", name, "aria-label": name, autocomplete: "off",
      onchange: () => this.take(),
      onkeydown: (event) => {
        if (event.key !== "Enter") return;
        this.take();
        page.root.focus();
      },
    }));
    this.about = html("p", { class: "about" });
    this.conflict = html("p", { class: "about conflict" });
    const labels = this.fields.map((field) => html("label", {}, field.name, field));
    this.element = panel("Proposal P", html("div", { class: "fields" }, labels, html("span", {}, "px")), this.about, this.conflict);
  }

  /** What follows the pointer. */
  drawFields() {
    this.page.state("proposal").forEach((value, i) => {
      if (document.activeElement !== this.fields[i]) this.fields[i].value = Number(value.toFixed(1));
    });
  }

  /** What follows from the answer. */
  draw() {
    const { proposal: [x1, y1, x2, y2], nearest } = this.page.told("answer");
    const size = `${Math.abs(x2 - x1).toFixed(1)} × ${Math.abs(y2 - y1).toFixed(1)} px`;
    const name = nearest && html("b", { class: "truth-name" }, nearest.name);
    this.about.replaceChildren(...(!nearest
      ? [`${size}; the image has no objects`]
      : nearest.overlap > 0
        ? [`${size}; IoU ${fixed(nearest.overlap)} with the object `, name]
        : [`${size}; overlaps no object, the nearest one is `, name]));
    this.drawConflict(this.page.told("image").conflict);
  }

  drawConflict(conflict) {
    this.conflict.hidden = !conflict;
    if (!conflict) return;
    const choose = (label, proposal) => button(label, "take this proposal", () => this.page.set({ proposal }), { class: "link" });
    this.conflict.replaceChildren(
      `Score and box disagree most about the object ${conflict.name}. Of its RPN proposals: `,
      choose(`the best scored one, IoU ${fixed(conflict.score_iou)}`, conflict.by_score), " · ",
      choose(`the one with the best box, IoU ${fixed(conflict.best_iou)}`, conflict.by_iou));
  }

  /** Ask for the numbers that were typed; a number that is none is named and set back. */
  take() {
    const typed = this.fields.map(({ value }) => (value.trim() === "" ? NaN : Number(value.replace(",", "."))));
    const wrong = typed.findIndex((number) => !Number.isFinite(number));
    if (wrong < 0) return this.page.set({ proposal: typed });
    const field = this.fields[wrong];
    this.page.say(`${field.name} must be a number of pixels; “${field.value}” is not a number.`);
    field.value = Number(this.page.state("proposal")[wrong].toFixed(1));
  }
}
