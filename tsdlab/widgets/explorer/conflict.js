// The conflict of an image in the order by disagreement: of an object's proposals, the one that the score chooses and
// the one with the best box.

import { button, html, svg } from "../page/dom.js";
import { fixed } from "../page/numbers.js";
import { besideBox } from "./labels.js";
import { BoxShape } from "./shapes.js";

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
    const choose = (label, { proposal }) => button(label, "take this proposal", () => this.page.set({ proposal }), { class: "link" });
    const { name, by_score: scored, by_iou: fitting } = conflict;
    this.element.replaceChildren(
      `Score and box disagree most about the object ${name}. Of its RPN proposals: `,
      choose(`the best scored one, IoU ${fixed(scored.iou)}`, scored), " · ",
      choose(`the one with the best box, IoU ${fixed(fitting.iou)}`, fitting));
  }
}

/** The two boxes over the image. */
export class ConflictShapes {
  constructor({ localization, classification }) {
    this.fitting = new BoxShape(localization, { dash: "9 4", name: "conflict by_iou" });
    this.scored = new BoxShape(classification, { name: "conflict by_score" });
    this.element = svg("g", {}, this.fitting.element, this.scored.element);
  }

  /** @param u a pixel of the screen in pixels of the image; without a conflict nothing is drawn */
  draw(conflict, u) {
    this.fitting.draw(conflict?.by_iou.box ?? null, u);
    this.scored.draw(conflict?.by_score.box ?? null, u);
  }
}

/** What is written beside them. */
export function conflictNames({ by_score: scored, by_iou: fitting }, { localization, classification }) {
  return [
    { key: "conflict by_score", text: `best score: IoU ${fixed(scored.iou)}`, color: classification, places: besideBox(scored.box, "nw") },
    { key: "conflict by_iou", text: `best box: IoU ${fixed(fitting.iou)}`, color: localization, places: besideBox(fitting.box, "sw") },
  ];
}
