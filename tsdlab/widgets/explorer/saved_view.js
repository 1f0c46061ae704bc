// The view as one SVG that needs nothing else: headline, images, level table, class scores, and a key.

import { html, setAttributes, svg } from "../page/dom.js";
import { fixed, percent } from "../page/numbers.js";
import { classesThatMatter } from "./class_scores.js";
import { LAYERS, LINES, mapOf } from "./layers.js";
import { scaleOf } from "./legend.js";
import { topOf } from "./level_table.js";

const [GAP, SIDE, COLUMN, LINE] = [18, 460, 510, 18]; // pixels: between parts, an image, the table, a line of text
const [INK, FAINT, GROUND, TRACK] = ["#222222", "#666666", "#ffffff", "#eeeeee"]; // paper is white, whatever the theme
const TASKS_OF_ROWS = [["classification", "|ΔC|"], ["localization", "|ΔR|"]]; // and their displacements' names

const DOTS = "0 8.5"; // dashes of a line of dots

/** @returns {{source: string, width: number, height: number}} */
export function savedView(page) {
  return new SavedView(page).whole();
}

class SavedView {
  constructor(page) {
    Object.assign(this, { page, palette: page.fixed.palette, answer: page.told("answer"), shapes: [] });
  }

  whole() {
    const { page } = this;
    const side = page.views.length > 1 ? 0.9 * SIDE : SIDE;
    const right = GAP + page.views.length * (side + GAP);
    const width = right + COLUMN + GAP;
    const top = this.headline(GAP + 14) + 6;
    const bottoms = [this.images(side, top), this.scores(right, this.levels(right, top) + GAP)];
    const height = this.key(Math.max(...bottoms) + GAP, width) + GAP;
    const whole = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "sans-serif" },
      svg("rect", { width: "100%", height: "100%", fill: GROUND }), this.shapes);
    storeOnce(whole);
    return { source: new XMLSerializer().serializeToString(whole), width, height };
  }

  headline(y) {
    this.page.headline.finding.forEach((runs, i) => {
      this.text(GAP, y + 24 * i, runs.map(([text, role]) =>
        svg("tspan", role ? { fill: this.inkOf(role), "font-weight": "bold" } : {}, text)), { "font-size": i ? 15 : 18 });
    });
    return y + 24 * (this.page.headline.finding.length - 1) + 16;
  }

  images(side, top) {
    const bottoms = this.page.views.map(({ model, canvas }, i) => {
      const x = GAP + i * (side + GAP);
      const { width, height } = canvas.viewBox.baseVal;
      const tall = (side * height) / width;
      const copy = setAttributes(canvas.cloneNode(true), { x, y: top + 8, width: side, height: tall, class: null, style: "", role: null });
      copy.querySelectorAll("rect[data-handle]").forEach((handle) => handle.remove());
      const { level } = this.answer.models[model];
      this.text(x, top, `${model}, level ${level}`, { "font-weight": "bold" });
      const task = this.page.state("underlay");
      const map = mapOf(this.page, model, level);
      if (map) this.text(x + side, top, `map of ${task}: ${scaleOf(task, map)}`, { fill: this.inkOf(task), "text-anchor": "end" });
      this.shapes.push(copy);
      return top + 8 + tall;
    });
    return Math.max(...bottoms);
  }

  levels(x, top) {
    const end = topOf(this.answer);
    const [bars, answers] = [x + 160, x + 348];
    this.text(x, top, "P pooled from each level", { "font-weight": "bold" });
    this.text(x + COLUMN, top, `displacement of each task; a full bar is ${percent(end).replace(".0", "")} of P`, { fill: FAINT, "text-anchor": "end" });
    TASKS_OF_ROWS.forEach(([task, symbol], i) => this.text(bars + 110 * i - 30 * (1 - i), top + LINE, `${symbol} ${task}`, { fill: this.inkOf(task) }));
    this.text(answers + 100, top + LINE, "score", { fill: this.inkOf("classification"), "text-anchor": "end" });
    this.text(x + COLUMN, top + LINE, "box IoU", { fill: this.inkOf("localization"), "text-anchor": "end" });
    let y = top + LINE + 8;
    for (const { level, rows } of this.page.levels.groups) {
      const { assigned, level: used } = this.answer.models[this.page.state("focus")];
      const first = y;
      for (const row of rows) y = this.levelRow(row, x, y, { bars, answers, end });
      this.shapes.push(svg("line", { x1: x, x2: x + COLUMN, y1: y, y2: y, stroke: "#dddddd" }));
      if (level === used) this.shapes.push(svg("rect", { x: x - 6, y: first + 2, width: 3, height: y - first - 4, fill: INK }));
      const marks = [level === assigned ? "assigned" : null, level === used ? "in use" : null].filter(Boolean);
      this.text(x, (first + y) / 2 - 2, `level ${level}`, { "font-weight": "bold" });
      marks.forEach((mark, i) => this.text(x, (first + y) / 2 + 12 + 13 * i, mark, { "font-size": 11, fill: FAINT }));
    }
    return y;
  }

  levelRow({ model, level, canvas, answers: branches }, x, y, { bars, answers, end }) {
    const at = this.answer.models[model].levels[level];
    const several = this.page.views.length > 1;
    const tall = several ? 62 : 78;
    this.shapes.push(setAttributes(canvas.cloneNode(true), { x: x + 78, y: y + 4, width: tall - 8, height: tall - 8 }));
    let line = y + tall / 2 - 6;
    if (several) this.text(bars, line - 10, model, { "font-weight": "bold" });
    if (several) line += 8;
    const moved = TASKS_OF_ROWS.filter(([task]) => at.regions[task]);
    if (!moved.length) this.text(bars, line, "P itself", { fill: FAINT });
    moved.forEach(([task, symbol], i) => {
      const here = line + LINE * i;
      this.text(bars, here, symbol, { fill: this.inkOf(task) });
      this.bar(bars + 34, here - 10, 85, at.regions[task].moved / end, this.palette[task]);
      this.text(bars + 172, here, percent(at.regions[task].moved), { fill: this.inkOf(task), "text-anchor": "end" });
    });
    branches.forEach(({ branch }, i) => {
      const here = y + tall / 2 + 4 + LINE * (i - (branches.length - 1) / 2);
      const weight = { "font-weight": i === branches.length - 1 ? "bold" : "normal" };
      this.text(answers, here, branch, weight);
      this.text(answers + 100, here, fixed(at.branches[branch].score), { ...weight, fill: this.inkOf("classification"), "text-anchor": "end" });
      this.text(x + COLUMN, here, fixed(at.branches[branch].iou), { ...weight, fill: this.inkOf("localization"), "text-anchor": "end" });
    });
    return y + tall;
  }

  scores(x, top) {
    const { names, series } = this.page.fixed;
    const scores = series.map(({ model, branch }) => this.answer.models[model].branches[branch].scores);
    const truth = this.answer.nearest?.label;
    const { shown, rest } = classesThatMatter(names.length, scores, truth);
    this.text(x, top, "Class scores", { "font-weight": "bold" });
    let y = top + LINE;
    for (const label of shown) {
      this.text(x, y, names[label], label === truth ? { "font-weight": "bold", fill: this.inkOf("truth") } : {});
      series.forEach((entry, i) => {
        this.text(x + 100, y, entry.label, { "font-size": 11, fill: FAINT });
        this.bar(x + 190, y - 9, COLUMN - 230, scores[i][label], this.palette.classification, entry.line);
        this.text(x + COLUMN, y, scores[i][label].toFixed(2), { "text-anchor": "end" });
        y += 15;
      });
      y += 5;
    }
    if (rest.length) this.text(x, y, `and ${rest.length} more with lower scores`, { fill: FAINT });
    return y;
  }

  /** A bar of a task; branches differ by how it is filled, as on the page. */
  bar(x, y, width, part, color, line = "solid") {
    const long = width * Math.min(part, 1);
    this.shapes.push(svg("rect", { x, y, width, height: 9, fill: TRACK }));
    const look = line === "solid" ? { fill: color } : { fill: GROUND, stroke: color, "stroke-dasharray": LINES[line] };
    this.shapes.push(svg("rect", { x, y, width: long, height: 9, ...look }));
  }

  /** What the lines over the images mean; returns the y where it ends. */
  key(top, total) {
    const { page, palette } = this;
    const layers = Object.entries(LAYERS).filter(([layer]) => page.state("layers").includes(layer) && (layer !== "salient" || page.told("image").salient.length));
    const entries = [["P: proposal", palette.proposal], ...layers.flatMap(([, { label, color, dash, mark }]) => (mark
      ? [[html("span", {}, label()).textContent, palette[color], mark === "dots" ? DOTS : dash]]
      : page.fixed.series.map(({ label: name, line }) => [`box decoded by ${name}`, palette[color], LINES[line]])))];
    let [x, y] = [GAP, top];
    for (const [label, color, dash] of entries) {
      const long = 52 + 7 * label.length;
      if (x + long > total) [x, y] = [GAP, y + LINE];
      const look = dash === DOTS ? { "stroke-width": 5, "stroke-linecap": "round" } : { "stroke-width": 2.5 };
      this.shapes.push(svg("line", { x1: x, x2: x + 26, y1: y - 4, y2: y - 4, stroke: color, "stroke-dasharray": dash, ...look }));
      this.text(x + 32, y, label);
      x += long;
    }
    return y;
  }

  text(x, y, content, attributes = {}) {
    this.shapes.push(svg("text", { x, y, "font-size": 12.5, fill: INK, ...attributes }, content));
  }

  /** The colour of a role, dark enough for text on white. */
  inkOf(role) {
    const color = this.palette[role];
    if (!color) return INK;
    const parts = [1, 3, 5].map((at) => Math.round(0.65 * parseInt(color.slice(at, at + 2), 16) + 0.35 * 0x22));
    return `rgb(${parts.join(" ")})`;
  }
}

/** A picture that occurs several times is stored once: a photograph would make the file ten times as large. */
function storeOnce(whole) {
  const stored = new Map();
  for (const image of whole.querySelectorAll("image")) {
    const url = image.getAttribute("href");
    if (!url) image.remove();
    else if (!stored.has(url)) stored.set(url, setAttributes(image, { id: `picture-${stored.size}` }));
    else image.replaceWith(svg("use", { href: `#${stored.get(url).id}` }));
  }
}
