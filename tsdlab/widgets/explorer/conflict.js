// Of an image that was asked about disagreement: the object that score and box disagree about, and its two proposals.

import { button, html } from "../page/dom.js";
import { fixed } from "../page/numbers.js";

export class ConflictLine {
  constructor(page) {
    this.page = page;
    this.element = html("p", { class: "conflict", hidden: true });
  }

  draw() {
    const { conflict } = this.page.told("image");
    if (conflict === this.drawn) return;
    this.drawn = conflict;
    this.element.hidden = !conflict;
    if (!conflict) return;
    const choose = (label, proposal) => button(label, "take this proposal", () => this.page.set({ proposal }), { class: "link" });
    this.element.replaceChildren(
      `Score and box disagree most about the object ${conflict.name}. Of its RPN proposals: `,
      choose(`the best scored one, IoU ${fixed(conflict.score_iou)}`, conflict.by_score), " · ",
      choose(`the one with the best box, IoU ${fixed(conflict.best_iou)}`, conflict.by_iou));
  }
}
