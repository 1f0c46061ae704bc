// Shapes that several panels draw. Their colours are in levels.css.

import { html, svg } from "../page/dom.js";

const COARSE = 160; // pixels; the pixels of a smaller crop are shown as squares

/** The mark of a point: levels differ in shape and in colour. Circle, square, triangle, diamond, then again. */
export function dot(page, level, x, y) {
  const r = 3.6;
  const shapes = [
    `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
    `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    `M${x} ${y - 1.3 * r}l${1.25 * r} ${2.2 * r}h${-2.5 * r}z`,
    `M${x} ${y - 1.4 * r}l${1.4 * r} ${1.4 * r}l${-1.4 * r} ${1.4 * r}l${-1.4 * r} ${-1.4 * r}z`,
  ];
  return svg("path", { class: "dot", d: shapes[level % 4], style: `--level: ${page.fixed.level_colors[level]}` });
}

/** The mark of a level as a key in text. */
export const levelKey = (page, level) => svg("svg", { class: "level-mark", width: 12, height: 12, "aria-hidden": "true" }, dot(page, level, 6, 6));

/** The outline of a histogram, from its left end to its right end. */
export function outline(heights, x, [low, high], floor, height, peak) {
  const edge = (i) => x(low + (i / heights.length) * (high - low));
  const places = heights.map((share, i) => `L${edge(i)} ${floor - (share / peak) * height}H${edge(i + 1)}`);
  return `M${x(low)} ${floor}${places.join("")}L${x(high)} ${floor}`;
}

/** A proposal with the image around it, its object, and the regions that it is moved to. */
export function crop({ view: [x, y, side], part: [left, top, width, height], url, proposal, truth, regions, category }) {
  const box = (role, [x1, y1, x2, y2]) => ["edge", role].map((look) =>
    svg("rect", { class: `box ${look}`, x: x1, y: y1, width: x2 - x1, height: y2 - y1 }));
  return svg("svg", {
    class: "crop", viewBox: `${x} ${y} ${side} ${side}`, role: "img",
    "aria-label": `${category}, with its proposal and the regions that it is moved to`,
  },
  svg("image", { href: url, x: left, y: top, width, height, preserveAspectRatio: "none", class: side < COARSE ? "pixels" : null }),
  box("truth", truth), box("proposal", proposal),
  Object.entries(regions).map(([task, region]) => (region.points
    ? svg("g", { class: task }, region.points.map(([px, py]) => svg("circle", { class: "to", cx: px, cy: py, r: 0.014 * side })))
    : box(`moved ${task}`, region.box))));
}

export const nothing = () => html("p", { class: "empty" }, "no proposal passes the filters");
