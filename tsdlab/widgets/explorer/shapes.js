// Shapes over an image, made once and moved by their attributes. `u` is a pixel of the screen in pixels of the image.

import { setAttributes, svg } from "../page/dom.js";
import { cornersOf, ordered } from "./geometry.js";

/** What all shapes have: an element, which is hidden as long as there is nothing to draw. */
class Shape {
  constructor(...children) {
    this.element = svg("g", { visibility: "hidden" }, children);
    this.u = 0;
  }

  /** Whether it is drawn. Lines are as thick on the screen at any zoom, so `restyle(u)` follows a change of `u`. */
  show(isShown, u) {
    if (isShown !== this.isShown) this.element.setAttribute("visibility", isShown ? "inherit" : "hidden");
    this.isShown = isShown;
    if (!isShown || u === this.u) return;
    this.u = u;
    this.restyle(u);
  }
}

/** A box with a light edge around its line, so that it can be seen on any background. */
export class BoxShape extends Shape {
  constructor(color, { width = 2, dash, fill = "none", name } = {}) {
    const edge = svg("rect", { fill: "none", stroke: "white", "stroke-opacity": 0.85 });
    const line = svg("rect", { fill, "fill-opacity": 0.12, stroke: color, "data-shape": name });
    super(edge, line);
    Object.assign(this, { edge, line, width, dash });
  }

  restyle(u) {
    const dashes = this.dash?.split(" ").map((part) => part * u).join(" ");
    this.edge.setAttribute("stroke-width", (this.width + 2.4) * u);
    setAttributes(this.line, { "stroke-width": this.width * u, "stroke-dasharray": dashes });
  }

  /** @param box null hides it */
  draw(box, u) {
    this.show(Boolean(box), u);
    if (!box) return;
    const [x1, y1, x2, y2] = ordered(box);
    const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    setAttributes(this.edge, place);
    setAttributes(this.line, place);
  }
}

/** Dots at places, all in one path. */
export class DotsShape extends Shape {
  constructor(color, { size = 5, edge = 1.2 } = {}) {
    const [around, dots] = ["white", color].map((stroke) => svg("path", { stroke, "stroke-linecap": "round", fill: "none" }));
    super(around, dots);
    Object.assign(this, { around, dots, size, edge });
  }

  restyle(u) {
    this.around.setAttribute("stroke-width", (this.size + this.edge) * u);
    this.dots.setAttribute("stroke-width", this.size * u);
  }

  draw(places, u) {
    this.show(places.length > 0, u);
    const path = places.map(([x, y]) => `M${x} ${y}h0`).join("");
    this.around.setAttribute("d", path);
    this.dots.setAttribute("d", path);
  }
}

/** Arrows, all in two paths: hundreds of elements would take longer to draw than the answer takes to compute. */
export class ArrowsShape extends Shape {
  constructor(color, { width = 1.5, name } = {}) {
    const edge = svg("path", { fill: "none", stroke: "white", "stroke-opacity": 0.8, "stroke-linecap": "round" });
    const shafts = svg("path", { fill: "none", stroke: color, "stroke-linecap": "round", "data-shape": name });
    const heads = svg("path", { fill: color, stroke: "white", "stroke-linejoin": "round" });
    super(edge, shafts, heads);
    Object.assign(this, { edge, shafts, heads, width });
  }

  restyle(u) {
    this.edge.setAttribute("stroke-width", (this.width + 1.8) * u);
    this.shafts.setAttribute("stroke-width", this.width * u);
    this.heads.setAttribute("stroke-width", 0.7 * u);
  }

  /** @param arrows pairs of places; one that is too short for a head is a line only */
  draw(arrows, u) {
    this.show(arrows.length > 0, u);
    const head = (2 + 1.6 * this.width) * u;
    const lines = arrows.map(([[x1, y1], [x2, y2]]) => `M${x1} ${y1}L${x2} ${y2}`).join("");
    this.edge.setAttribute("d", lines);
    this.shafts.setAttribute("d", lines);
    this.heads.setAttribute("d", arrows.map(([from, to]) => headPath(from, to, head)).join(""));
  }
}

function headPath([x1, y1], [x2, y2], size) {
  const length = Math.hypot(x2 - x1, y2 - y1);
  if (length < size) return "";
  const [dx, dy] = [((x2 - x1) / length) * size, ((y2 - y1) / length) * size];
  return `M${x2 + 0.5 * dx} ${y2 + 0.5 * dy}L${x2 - dx - 0.8 * dy} ${y2 - dy + 0.8 * dx}L${x2 - dx + 0.8 * dy} ${y2 - dy - 0.8 * dx}Z`;
}

const CURSORS = { nw: "nwse", se: "nwse", ne: "nesw", sw: "nesw", n: "ns", s: "ns", e: "ew", w: "ew" };

/** What P is held by: its inside, by which it is moved, and eight handles, by which it is resized. */
export class HandlesShape extends Shape {
  constructor(color) {
    const inside = svg("rect", { fill: "transparent", "data-handle": "move", style: "cursor: move" });
    const handles = Object.keys(CURSORS).map((handle) =>
      svg("rect", { fill: "white", stroke: color, "data-handle": handle, style: `cursor: ${CURSORS[handle]}-resize` }));
    super(inside, handles);
    Object.assign(this, { inside, handles });
  }

  restyle(u) {
    for (const handle of this.handles) setAttributes(handle, { width: 8 * u, height: 8 * u, rx: 1.5 * u, "stroke-width": 1.5 * u });
  }

  draw(box, u) {
    this.show(true, u);
    const [x1, y1, x2, y2] = ordered(box);
    setAttributes(this.inside, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    const places = cornersOf([x1, y1, x2, y2]);
    for (const handle of this.handles) {
      const [x, y] = places[handle.dataset.handle];
      handle.setAttribute("x", x - 4 * u);
      handle.setAttribute("y", y - 4 * u);
    }
  }
}
