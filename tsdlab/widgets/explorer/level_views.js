// The same proposal pooled from each level, one small picture a level.

import { button, html, panel, svg } from "../page/dom.js";
import { fixed, percent } from "../page/numbers.js";
import { showPicture } from "./image_view.js";
import { displacementShapes } from "./layers.js";
import { boxShape } from "./shapes.js";

export class LevelViews {
  constructor(page) {
    this.page = page;
    this.views = [];
    this.list = html("div", { class: "levels" });
    this.element = panel("", this.list);
  }

  draw() {
    const { page } = this;
    const focus = page.state("focus");
    const own = page.told("answer").models[focus];
    const whose = page.fixed.models.length > 1 ? `: ${focus}` : "";
    this.element.querySelector("h4").textContent = `The same P pooled from each level${whose}`;
    const levels = Object.keys(own.levels);
    // The pictures are kept for as long as the levels are the same.
    if (levels.join() !== this.views.map(({ level }) => level).join()) {
      this.views = levels.map((level) => new LevelView(page, level));
      this.list.replaceChildren(...this.views.map(({ element }) => element));
    }
    for (const view of this.views) view.draw(own);
  }
}

class LevelView {
  constructor(page, level) {
    Object.assign(this, { page, level });
    this.picture = svg("image");
    this.overlay = svg("g");
    this.canvas = svg("svg", {}, this.picture, this.overlay);
    this.assigned = html("em", {}, "assigned");
    this.numbers = html("span", { class: "numbers" });
    const title = html("span", { class: "title" }, html("b", {}, `level ${level}`), this.assigned);
    this.element = button([title, this.canvas, this.numbers], `pool P from level ${level}`, () => page.set({ level }),
      { class: "level", "data-level": level });
  }

  draw(own) {
    const { page } = this;
    const { proposal } = page.told("answer");
    const at = own.levels[this.level];
    const [x1, y1, x2, y2] = proposal;
    const side = 1.5 * Math.max(x2 - x1, y2 - y1, 8);
    const u = side / 150;
    this.canvas.setAttribute("viewBox", [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2, side, side].join(" "));
    showPicture(this.picture, page.told("image"));
    this.overlay.replaceChildren(
      ...boxShape(proposal, page.fixed.palette.proposal, u, { width: 1.5 }), ...displacementShapes(page, proposal, at, u));
    const title = "how far the bins are moved, in percent of P's size, on average";
    const length = (symbol, region) => (region ? html("span", { title }, `${symbol} ${percent(region.moved)}`) : null);
    this.numbers.replaceChildren(...[
      length("|ΔC|", at.regions.classification), length("|ΔR|", at.regions.localization),
      html("span", { title: "score of the class" }, `${page.fixed.names[at.label]} ${fixed(at.score)}`),
      html("span", { title: "IoU of the decoded box with the nearest object" }, `IoU ${fixed(at.iou)}`),
    ].filter(Boolean));
    this.element.classList.toggle("used", this.level === own.level);
    this.assigned.hidden = this.level !== own.assigned;
  }
}
