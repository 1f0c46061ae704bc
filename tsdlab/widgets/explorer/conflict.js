// The conflict of an image in the order by disagreement: of an object's proposals, the one that the score chooses and
// the one with the best box.

import { button, html, svg } from "../page/dom.js";
import { fixed } from "../page/numbers.js";
import { boxShape } from "./shapes.js";

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

/** The two boxes over the image. @param u a pixel of the screen in pixels of the image */
export function conflictShapes({ name, by_score: scored, by_iou: fitting }, palette, u) {
  const label = (x, y, text, fill) => svg("text", {
    x, y, fill, stroke: "white", "stroke-width": 3 * u, "paint-order": "stroke", "font-size": 12 * u, "font-weight": 600,
  }, text);
  const [left, top] = [0, 1].map((i) => Math.min(scored.box[i], fitting.box[i]));
  const bottom = Math.max(scored.box[3], fitting.box[3]);
  const what = ({ score, iou }) => `score ${fixed(score)}, IoU ${fixed(iou)}`;
  return [
    ...boxShape(fitting.box, palette.localization, u, { dash: "9 4", name: "conflict by_iou" }),
    ...boxShape(scored.box, palette.classification, u, { name: "conflict by_score" }),
    label(left, top - 5 * u, `chosen by score (${name}): ${what(scored)}`, palette.classification),
    label(left, bottom + 15 * u, `best box: ${what(fitting)}`, palette.localization),
  ];
}
