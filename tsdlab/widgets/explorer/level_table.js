// P pooled from each level: a row for a level and a model, with what is moved, how far, and what comes out.

import { button, html, panel, svg } from "../page/dom.js";
import { fixed, percent } from "../page/numbers.js";
import { showPicture } from "./image_view.js";
import { MapShapes, RegionShapes } from "./layers.js";
import { BoxShape } from "./shapes.js";

const SYMBOLS = { classification: "|ΔC|", localization: "|ΔR|" };
const TOPS = [0.1, 0.25, 0.5, 1, 2, 5, 10]; // ends that the scale of the bars may have

/** The end of the bars' common scale: the displacement that a whole bar stands for. */
export function topOf(answer) {
  const moved = Object.values(answer.models).flatMap(({ levels }) =>
    Object.values(levels).flatMap(({ regions }) => Object.values(regions).map((region) => region.moved)));
  const most = Math.max(0, ...moved);
  return TOPS.find((top) => most <= top) ?? most;
}

export class LevelTable {
  constructor(page) {
    this.page = page;
    this.groups = [];
    this.scale = html("span", { class: "scale-end" });
    this.back = button("as assigned", "pool P from the level that its size is assigned to (A)", () => page.set({ level: null }));
    const task = (name) => html("span", { class: name }, `${SYMBOLS[name]} ${name}`);
    const head = (...content) => html("th", { scope: "col" }, content);
    this.head = html("tr", {},
      head("level"), head(html("span", { class: "unseen" }, "P and its regions")),
      head(task("classification"), " ", task("localization"), " ", this.scale),
      head(html("span", { class: "answer" }, html("span"), html("span", { class: "classification" }, "score"),
        html("span", { class: "localization" }, "box IoU"))));
    this.table = html("table", { class: "levels" }, html("thead", {}, this.head));
    this.element = panel([html("span", {}, "P pooled from each level"), this.back], this.table);
  }

  draw() {
    const { page } = this;
    const answer = page.told("answer");
    const top = topOf(answer);
    this.build(answer);
    this.scale.textContent = `(0 … ${percent(top).replace(".0", "")} of P)`;
    this.back.disabled = page.state("level") === null;
    for (const group of this.groups) group.draw(answer, top);
  }

  /** Rows are kept for as long as the levels are the same. */
  build({ models }) {
    const levels = [...new Set(Object.values(models).flatMap((own) => Object.keys(own.levels)))];
    if (levels.join() === this.groups.map(({ level }) => level).join()) return;
    for (const { element } of this.groups) element.remove();
    this.groups = levels.map((level) => new LevelGroup(this.page, level, models));
    this.table.append(...this.groups.map(({ element }) => element));
    const rows = this.groups.reduce((sum, { rows: { length } }) => sum + length, 0);
    this.table.dataset.size = rows <= 3 ? "large" : rows <= 6 ? "medium" : "small";
  }
}

/** The rows of all models at one level. */
class LevelGroup {
  constructor(page, level, models) {
    Object.assign(this, { page, level });
    this.rows = page.fixed.models.filter((model) => level in models[model].levels).map((model) => new LevelRow(page, level, model, models[model]));
    this.assigned = html("span", { class: "mark" }, "assigned");
    this.inUse = html("span", { class: "mark" }, "in use");
    this.choose = button(`level ${level}`, `pool P from level ${level}`, (event) => {
      event.stopPropagation();
      this.take();
    });
    const name = html("th", { scope: "rowgroup", rowspan: this.rows.length }, this.choose, this.assigned, this.inUse);
    this.rows[0].element.prepend(name);
    this.element = html("tbody", { class: "level", "data-level": level, onclick: () => this.take() }, this.rows.map(({ element }) => element));
  }

  take() {
    this.page.set({ level: this.level });
  }

  draw(answer, top) {
    const { assigned, level } = answer.models[this.page.state("focus")];
    this.element.classList.toggle("used", level === this.level);
    this.choose.setAttribute("aria-pressed", String(level === this.level));
    this.assigned.hidden = assigned !== this.level;
    this.inUse.hidden = level !== this.level;
    for (const row of this.rows) row.draw(answer, top);
  }
}

/** One model at one level. */
class LevelRow {
  constructor(page, level, model, own) {
    Object.assign(this, { page, level, model });
    this.picture = svg("image");
    this.map = new MapShapes(page, true);
    this.held = new BoxShape(page.fixed.palette.proposal, { width: 1.5 });
    this.regions = new RegionShapes(page, true);
    const shapes = [this.map, this.held, this.regions].map(({ element }) => element);
    this.canvas = svg("svg", { "aria-hidden": "true" }, this.picture, shapes);
    const moved = Object.keys(own.levels[level].regions);
    this.moves = moved.map((task) => new Move(task));
    const moves = moved.length ? this.moves.map(({ element }) => element) : html("span", { class: "note" }, "P itself");
    this.answers = Object.keys(own.levels[level].branches).map((branch) =>
      new BranchAnswer(branch, page.fixed.series.find((entry) => entry.model === model && entry.branch === branch)));
    const name = page.fixed.models.length > 1 ? html("span", { class: "model", title: model }, model) : null;
    this.element = html("tr", { "data-model": model }, html("td", { class: "crop" }, this.canvas),
      html("td", {}, html("span", { class: "moves" }, name, moves)),
      html("td", {}, this.answers.map(({ element }) => element)));
  }

  draw({ proposal, models }, top) {
    const { page } = this;
    const at = models[this.model].levels[this.level];
    const [x1, y1, x2, y2] = proposal;
    const side = 1.5 * Math.max(x2 - x1, y2 - y1, 8);
    const u = side / 90;
    this.canvas.setAttribute("viewBox", `${(x1 + x2 - side) / 2} ${(y1 + y2 - side) / 2} ${side} ${side}`);
    showPicture(this.picture, page.told("image"));
    this.map.draw(this.model, this.level, u);
    this.held.draw(proposal, u);
    this.regions.draw(proposal, at.regions, this.model, u);
    for (const move of this.moves) move.draw(at.regions[move.task].moved, top);
    for (const answer of this.answers) answer.draw(at.branches[answer.branch]);
  }
}

/** How far a task is moved, as a bar. */
class Move {
  constructor(task) {
    this.task = task;
    this.bar = html("i");
    this.value = html("span", { class: "value" });
    this.element = html("span", { class: `move ${task}`, title: `displacement of ${task}, in % of P` },
      html("span", {}, SYMBOLS[task]), html("span", { class: "track solid" }, this.bar), this.value);
  }

  draw(moved, top) {
    this.bar.style.transform = `scaleX(${moved / top})`;
    this.value.textContent = percent(moved);
  }
}

/** The score and the IoU of one branch. */
class BranchAnswer {
  constructor(branch, { label }) {
    this.branch = branch;
    this.score = html("span", { class: "classification" });
    this.iou = html("span", { class: "localization" });
    this.element = html("span", { class: "answer", "data-series": label }, html("span", { class: "name", title: label }, branch), this.score, this.iou);
  }

  draw({ score, iou }) {
    this.score.textContent = fixed(score);
    this.iou.textContent = fixed(iou);
    this.element.dataset.score = score;
    this.element.dataset.iou = iou;
  }
}
