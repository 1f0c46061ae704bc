// Shapes over the image. `u` is a pixel of the screen in pixels of the image.

import { svg } from "../page/dom.js";
import { gridOf, ordered, stretched } from "./geometry.js";

/** A box with a light edge around its line, so that it can be seen on any background. */
export function boxShape(box, color, u, { width = 2, dash, name } = {}) {
  const [x1, y1, x2, y2] = ordered(box);
  const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none" };
  if (dash) place["stroke-dasharray"] = dash.split(" ").map((part) => part * u).join(" ");
  return [
    svg("rect", { ...place, stroke: "white", "stroke-opacity": 0.6, "stroke-width": (width + 1.6) * u }),
    svg("rect", { ...place, stroke: color, "stroke-width": width * u, "data-shape": name }),
  ];
}

/**
 * Arrows from the bins of `proposal` to `points`, drawn `magnify` times as long; a dot where there is no room for a head.
 * All arrows are one path: they are drawn anew for every move, and hundreds of elements take longer than Python does.
 */
export function arrowShapes(proposal, points, magnify, colors, u) {
  const grid = gridOf(proposal, Math.round(Math.sqrt(points.length)));
  const arrows = points.map((point, i) => [grid[i], stretched(grid[i], point, magnify)]);
  const isLong = ([from, to]) => Math.hypot(to[0] - from[0], to[1] - from[1]) >= 7 * u;
  const dots = (places, width, stroke) =>
    svg("path", { d: places.map((place) => `M${place}h0`).join(""), stroke, "stroke-width": width * u, "stroke-linecap": "round" });
  const shafts = { d: arrows.map(([from, to]) => `M${from}L${to}`).join(""), fill: "none", "stroke-linecap": "round" };
  const ends = arrows.filter((arrow) => !isLong(arrow)).map(([, to]) => to);
  const heads = arrows.filter(isLong).map((arrow) => headPath(...arrow, u)).join("");
  return [
    svg("path", { ...shafts, stroke: "white", "stroke-opacity": 0.65, "stroke-width": 2.8 * u }),
    dots(grid, 3, colors.from),
    svg("path", { ...shafts, stroke: colors.to, "stroke-width": 1.5 * u }),
    dots(ends, 6, "white"),
    dots(ends, 4.8, colors.to),
    svg("path", { d: heads, fill: colors.to, stroke: "white", "stroke-width": 0.6 * u }),
  ];
}

function headPath([x1, y1], [x2, y2], u) {
  const length = Math.hypot(x2 - x1, y2 - y1);
  const [dx, dy] = [((x2 - x1) / length) * u, ((y2 - y1) / length) * u];
  const side = (sign) => [x2 - 4 * dx - sign * 3.2 * dy, y2 - 4 * dy + sign * 3.2 * dx];
  return `M${[x2 + 2.5 * dx, y2 + 2.5 * dy]}L${side(1)}L${side(-1)}Z`;
}

const CURSORS = { nw: "nwse", se: "nwse", ne: "nesw", sw: "nesw", n: "ns", s: "ns", e: "ew", w: "ew" };

/** The eight handles of a box, by which it is resized. */
export function handleShapes([x1, y1, x2, y2], color, u) {
  const [cx, cy] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const places = { nw: [x1, y1], n: [cx, y1], ne: [x2, y1], e: [x2, cy], se: [x2, y2], s: [cx, y2], sw: [x1, y2], w: [x1, cy] };
  return Object.entries(places).map(([handle, [x, y]]) =>
    svg("rect", {
      x: x - 4 * u, y: y - 4 * u, width: 8 * u, height: 8 * u, rx: 1.5 * u, fill: "white", stroke: color,
      "stroke-width": 1.5 * u, "data-handle": handle, style: `cursor: ${CURSORS[handle]}-resize`,
    }));
}
