// The mean displacement of each task: an arrow for each bin of P, or the box that P becomes.

import { html, svg } from "../page/dom.js";
import { fixed } from "../page/numbers.js";
import { nothing } from "./shapes.js";

export class MeanField {
  constructor(page) {
    this.page = page;
    this.body = html("div", { class: "body" });
    this.element = html("section", { class: "panel field" }, html("h4", {}, "Mean displacement on P"), this.body);
  }

  draw() {
    const { regions, count } = this.page.told("shown");
    if (!count) return this.body.replaceChildren(nothing());
    const { regions: ofAll, total } = this.page.fixed;
    const filtered = count < total;
    const moved = Object.entries(regions);
    const arrows = moved.filter(([, { offsets }]) => offsets);
    const boxes = moved.filter(([, { offsets }]) => !offsets);
    const note = boxes.map(([task, { translation }]) =>
      `mean ${task === "classification" ? "ΔC" : "ΔR"} (${translation.map((part) => fixed(part, 1).replace("-", "−")).join(", ")}) % of P`);
    this.body.replaceChildren(
      svg("svg", { viewBox: "-0.27 -0.27 1.54 1.54", role: "img", "aria-label": "mean displacement on the proposal" },
        svg("rect", { class: "box proposal", x: 0, y: 0, width: 1, height: 1 }),
        arrows.map(([task, { offsets }]) => svg("g", { class: task },
          filtered ? this.arrows(ofAll[task].offsets, "ghost") : null, this.arrows(offsets, "arrow"),
          this.each(offsets, (x, y, dx, dy) => [
            svg("circle", { class: "from", cx: x, cy: y, r: 0.011 }), svg("circle", { class: "to", cx: x + dx, cy: y + dy, r: 0.017 })]))),
        boxes.map(([task, { box: [x1, y1, x2, y2] }]) => svg("rect", { class: `box moved ${task}`, x: x1, y: y1, width: x2 - x1, height: y2 - y1 }))),
      html("p", { class: "note" }, [...note, ...(filtered && arrows.length ? ["grey: all proposals"] : [])].join("; ")));
  }

  arrows(field, style) {
    return this.each(field, (x, y, dx, dy) => svg("path", { class: style, d: `M${x} ${y}l${dx} ${dy}` }));
  }

  /** `draw(x, y, dx, dy)` of every bin: its centre on P as the unit square, and its mean offset. */
  each(field, draw) {
    const bins = field.length;
    return field.flatMap((line, i) => line.map(([dx, dy], j) => draw((j + 0.5) / bins, (i + 0.5) / bins, dx, dy)));
  }
}
