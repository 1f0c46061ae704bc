// How the two columns of the scatter plot are distributed on each level; a click on a level shows only that one.

import { html, svg } from "../page/dom.js";
import { scale, ticks } from "../page/numbers.js";
import { dot, outline } from "./shapes.js";

const [LEFT, RIGHT, ABOVE, BELOW, BETWEEN] = [66, 44, 20, 18, 8]; // pixels

export class Distributions {
  constructor(page) {
    this.page = page;
    this.body = html("div", { class: "body" });
    this.element = html("section", { class: "panel distributions" }, html("h4", {}, "By level"), this.body);
  }

  draw() {
    const [width, height] = [Math.max(this.body.clientWidth, 180), Math.max(this.body.clientHeight, 240)];
    const half = (height - BETWEEN) / 2;
    this.body.replaceChildren(svg("svg", { width, height }, this.axis("x", 0, width, half), this.axis("y", half + BETWEEN, width, half)));
  }

  axis(axis, top, width, height) {
    const { page } = this;
    const { edges, levels } = page.told("shown")[axis];
    const column = page.column(page.state(axis));
    const x = scale(edges, LEFT, width - RIGHT);
    const row = (height - ABOVE - BELOW) / levels.length;
    return svg("g", { class: `ridge ${column.role}`, transform: `translate(0 ${top})` },
      svg("text", { class: "title", x: 0, y: 12 }, column.label),
      svg("text", { x: width, y: 12, "text-anchor": "end" }, "mean"),
      ticks(...edges, (width - LEFT - RIGHT) / 56).map(([value, text]) => [
        svg("line", { class: "grid", x1: x(value), x2: x(value), y1: ABOVE, y2: height - BELOW }),
        svg("text", { x: x(value), y: height - 4, "text-anchor": "middle" }, text)]),
      levels.map((level, i) => this.level(level, i, column, { x, edges, width, row, floor: ABOVE + (i + 1) * row })));
  }

  level({ count, mean, all, chosen }, index, column, { x, edges, width, row, floor }) {
    const { page } = this;
    const [name, picked] = [page.fixed.levels[index], page.state("level")];
    const peak = Math.max(...all, ...chosen, 1e-9); // each level has its own scale: one with few proposals has high bars
    const curve = (shares, style) =>
      svg("path", { class: style, d: outline(shares, x, edges, floor, row - 4, peak) + (style === "line" ? "" : "z") });
    const middle = floor - row / 2;
    const at = mean === null ? null : x(mean);
    return svg("g", {
      class: `row${picked !== "all" && picked !== name ? " away" : ""}`,
      onclick: () => page.set({ level: picked === name ? "all" : name }),
    },
    svg("title", {}, picked === name ? "show all levels" : `show only level ${name}`),
    svg("rect", { class: "hit", x: 0, y: floor - row, width, height: row }),
    page.narrowed ? curve(all, "outline") : null,
    curve(chosen, "fill"), count ? curve(chosen, "line") : null,
    svg("line", { class: "floor", x1: LEFT, x2: width - RIGHT, y1: floor, y2: floor }),
    dot(page, index, 5, middle - 3),
    svg("text", { class: "name", x: 13, y: middle + 1 }, `level ${name}`),
    svg("text", { x: 13, y: middle + 13 }, count ? `${count}` : "none"),
    svg("text", { class: "value", x: width, y: middle + 4, "text-anchor": "end" }, page.number(mean, column)),
    at === null ? null : svg("line", { class: "mean", x1: at, x2: at, y1: floor - row + 4, y2: floor }));
  }
}
