// Two columns against each other, a point for each proposal.

import { html, setAttributes, svg } from "../page/dom.js";
import { scale, ticks } from "../page/numbers.js";
import { dot, levelKey } from "./shapes.js";

const REACH = 16; // pixels around the pointer in which a point is taken
const MARGIN = { left: 46, right: 8, top: 26, bottom: 38 };

export class Scatter {
  constructor(page) {
    this.page = page;
    this.points = []; // {point, x, y} as they are drawn
    const picker = (axis) => html("select", {
      "aria-label": `column of the ${axis} axis`, onchange: (event) => page.set({ [axis]: event.target.value }),
    }, page.fixed.columns.map(({ name, title, unit, explanation }) =>
      html("option", { value: name, title: explanation }, unit === "pixels" ? `${title} (pixels)` : title)));
    this.pickers = { y: picker("y"), x: picker("x") };
    // Kept and redrawn inside, so that it keeps the focus while arrow keys go from point to point.
    this.drawing = svg("svg", {
      tabindex: 0, role: "img",
      onpointermove: (event) => this.hover(this.nearest(event)),
      onpointerleave: () => this.hover(null),
      onclick: (event) => this.select(this.nearest(event)),
      onkeydown: (event) => this.step(event),
    });
    this.key = html("div", { class: "level-key" });
    this.tip = html("div", { class: "tip" });
    this.hoverRing = svg("circle", { class: "ring hover", r: 8 });
    this.ring = svg("circle", { class: "ring", r: 8 });
    this.body = html("div", { class: "body" }, this.drawing, this.key, this.tip);
    this.element = html("section", { class: "panel scatter" },
      html("h4", {}, this.pickers.y, html("span", {}, "against"), this.pickers.x), this.body);
  }

  draw() {
    const { page } = this;
    const { x: xs, y: ys, points, others, drawable, count } = page.told("shown");
    const [width, height] = [Math.max(this.body.clientWidth, 200), Math.max(this.body.clientHeight, 240)];
    this.x = scale(xs.edges, MARGIN.left, width - MARGIN.right);
    this.y = scale(ys.edges, height - MARGIN.bottom, MARGIN.top);
    for (const [axis, picker] of Object.entries(this.pickers)) picker.value = page.state(axis);
    this.points = points.map((point) => ({ point, x: this.x(point[1]), y: this.y(point[2]) }));
    const { levels } = page.fixed;
    const middle = [(MARGIN.left + width) / 2, (MARGIN.top + height - MARGIN.bottom) / 2];
    const empty = svg("text", { class: "empty", x: middle[0], y: middle[1], "text-anchor": "middle" },
      count ? "no value in these columns" : "no proposal passes the filters");
    setAttributes(this.drawing, { width, height, "aria-label": this.label(points.length) });
    this.drawing.replaceChildren(
      this.axes(xs.edges, ys.edges, width, height, middle),
      svg("g", {}, others.map((point) => svg("circle", { class: "rest", cx: this.x(point[1]), cy: this.y(point[2]), r: 1.6 }))),
      svg("g", {}, this.points.map(({ point, x, y }) => dot(page, point[3], x, y))),
      ...(points.length ? [] : [empty]), this.hoverRing, this.ring);
    this.hover(null);
    this.key.replaceChildren(
      ...levels.map((name, i) => html("span", {}, levelKey(page, i), `level ${name}`)),
      html("span", { class: "note" }, drawable > points.length ? `${points.length} of ${drawable} drawn` : ""));
    this.drawRing();
  }

  label(count) {
    const title = (axis) => this.page.column(this.page.state(axis)).title;
    return `${count} proposals: ${title("y")} against ${title("x")}. Arrow keys go from point to point.`;
  }

  axes(xEdges, yEdges, width, height, middle) {
    const { x, y, page } = this;
    const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
    const title = (axis, place) => svg("text", { class: "title", ...place, "text-anchor": "middle" }, page.column(page.state(axis)).label);
    return svg("g", { class: "axis" },
      ticks(...xEdges, width / 80).map(([value, text]) => [
        svg("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: bottom }),
        svg("text", { x: x(value), y: bottom + 14, "text-anchor": "middle" }, text)]),
      ticks(...yEdges, height / 50).map(([value, text]) => [
        svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
        svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text)]),
      title("x", { x: middle[0], y: height - 5 }),
      title("y", { transform: `translate(11 ${middle[1]}) rotate(-90)` }));
  }

  /** The point under the pointer, or null. */
  nearest(event) {
    const box = this.body.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [null, REACH ** 2];
    for (const place of this.points) {
      const distance = (place.x - x) ** 2 + (place.y - y) ** 2;
      if (distance < least) [best, least] = [place, distance];
    }
    return best;
  }

  hover(place) {
    const { page } = this;
    setAttributes(this.hoverRing, place ? { visibility: "visible", cx: place.x, cy: place.y } : { visibility: "hidden" });
    this.tip.classList.toggle("visible", place !== null);
    if (!place) return;
    const [, x, y, level, label, image] = place.point;
    const numbers = [["x", x], ["y", y]].map(([axis, value]) => page.format(value, page.column(page.state(axis))));
    this.tip.replaceChildren(html("b", {}, page.fixed.categories[label - 1]),
      ` in image ${image}, level ${page.fixed.levels[level]}`, html("br"), numbers.join("  ·  "));
    const right = place.x > this.body.clientWidth / 2;
    this.tip.style.left = right ? "" : `${place.x + 14}px`;
    this.tip.style.right = right ? `${this.body.clientWidth - place.x + 14}px` : "";
    this.tip.style.top = `${Math.max(place.y - 20, 4)}px`;
  }

  select(place) {
    if (place) this.page.set({ selected: place.point[0] });
  }

  /** Select the next point to the right or to the left. */
  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.points.length) return;
    event.preventDefault();
    event.stopPropagation();
    const sorted = [...this.points].sort((a, b) => a.x - b.x);
    const here = sorted.findIndex(({ point }) => point[0] === this.page.state("selected"));
    this.select(sorted[here < 0 ? 0 : Math.min(Math.max(here + by, 0), sorted.length - 1)]);
  }

  /** Around the selected proposal, also when the filters leave it out. */
  drawRing() {
    const { page } = this;
    const selected = page.state("selected");
    let place = this.points.find(({ point }) => point[0] === selected);
    const { row, values } = page.told("opened");
    if (!place && selected !== null && selected === row) {
      const [x, y] = [values[page.state("x")], values[page.state("y")]];
      if (x !== null && y !== null) place = { x: this.x(x), y: this.y(y) };
    }
    setAttributes(this.ring, place ? { visibility: "visible", cx: place.x, cy: place.y } : { visibility: "hidden" });
  }
}
