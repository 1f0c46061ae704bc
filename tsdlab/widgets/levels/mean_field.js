// The mean displacement: an arrow for each bin of P, and the region that P is moved to.

import { html, svg } from "../page/dom.js";
import { short } from "../page/numbers.js";
import { nothing } from "./shapes.js";

export class MeanField {
  constructor(page) {
    this.page = page;
    this.body = html("div", { class: "body" });
    this.element = html("section", { class: "panel field" }, html("h4", {}, "Mean displacement on P"), this.body);
  }

  draw() {
    const { field, shift, count } = this.page.told("shown");
    if (field === null) return this.body.replaceChildren(nothing());
    const { field: fieldOfAll, total } = this.page.fixed;
    const filtered = count < total;
    const unit = { y: 0, width: 1, height: 1 };
    this.body.replaceChildren(
      svg("svg", { viewBox: "-0.27 -0.27 1.54 1.54", role: "img", "aria-label": "mean ΔC and ΔR on the proposal" },
        svg("rect", { class: "box proposal", x: 0, ...unit }),
        filtered ? this.arrows(fieldOfAll, "ghost") : null, this.arrows(field, "arrow"),
        this.each(field, (x, y, dx, dy) => [
          svg("circle", { class: "from", cx: x, cy: y, r: 0.011 }), svg("circle", { class: "to", cx: x + dx, cy: y + dy, r: 0.017 })]),
        svg("rect", { class: "box localization", ...unit, x: shift[0], y: shift[1] })),
      html("p", { class: "note" }, `mean ΔR (${shift.map(short).join(", ")})${filtered ? "; grey: all proposals" : ""}`));
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
