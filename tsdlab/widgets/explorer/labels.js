// Names of the shapes, written over the image beside them, where they cover no other name.

import { setAttributes, svg } from "../page/dom.js";

const NAME_SIZE = 13; // pixels of the screen
const NAME_LETTER = 0.6; // mean width of a letter in parts of the size: to ask the browser would take a layout of the page
const NAME_GAP = 5; // pixels between a shape and its name

/** Where the name of a box may stand, best place first: [x, y, side of x, side of y], sides in −1, 0, 1. */
export function besideBox([x1, y1, x2, y2], first = "nw") {
  const places = {
    nw: [x1, y1, 1, -1], ne: [x2, y1, -1, -1], se: [x2, y2, -1, 1], sw: [x1, y2, 1, 1],
    n: [(x1 + x2) / 2, y1, 0, -1], s: [(x1 + x2) / 2, y2, 0, 1],
    // At its sides, before inside: a name within a small box covers the object.
    e: [x2, (y1 + y2) / 2, 1, 0], w: [x1, (y1 + y2) / 2, -1, 0],
    "e top": [x2, y1, 1, 1], "w top": [x1, y1, -1, 1], "e bottom": [x2, y2, 1, -1], "w bottom": [x1, y2, -1, -1],
    inner: [x1, y1, 1, 1], "inner sw": [x1, y2, 1, -1], "inner se": [x2, y2, -1, -1], "inner ne": [x2, y1, -1, 1],
  };
  const { [first]: best, ...others } = places;
  return [best, ...Object.values(others)];
}

/** Where the name of a point may stand. */
export const besidePoint = ([x, y], away = 1) =>
  [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [-1, 1]].map(([side, height]) => [x, y, side * away, height * away]);

export class Labels {
  constructor() {
    this.element = svg("g", { class: "labels", "pointer-events": "none", "font-weight": 600, "font-family": "system-ui, sans-serif" });
    this.labels = new Map(); // by key
  }

  /**
   * @param wanted [{key, text, sub, color, places}], the most important first; `sub` is a subscript
   * @param frame {x, y, width, height} the part of the image that is seen
   * @param u a pixel of the screen in pixels of the image
   */
  draw(wanted, frame, u) {
    const taken = [];
    const shown = new Set();
    for (const { key, text, sub = "", color, places } of wanted) {
      const label = this.labels.get(key) ?? this.add(key);
      const size = [(NAME_LETTER * (text.length + 0.7 * sub.length) * NAME_SIZE + 4) * u, 1.15 * NAME_SIZE * u];
      const rects = places.map((place) => rectOf(place, size, u));
      // A name stays at its side as long as it can, so that names do not jump while P is dragged.
      const order = [label.place, ...rects.keys()].filter((i) => i in rects);
      const free = order.find((i) => liesWithin(rects[i], frame) && !taken.some((other) => meets(rects[i], other)));
      if (free === undefined) continue;
      label.place = free;
      taken.push(rects[free]);
      shown.add(key);
      this.write(label, { text, sub, color }, rects[free], u);
    }
    for (const [key, { element }] of this.labels) element.setAttribute("visibility", shown.has(key) ? "inherit" : "hidden");
  }

  add(key) {
    const [name, under] = [svg("tspan"), svg("tspan", { dy: "0.25em", "font-size": "75%" })];
    const element = svg("text", { "paint-order": "stroke", stroke: "white", "stroke-linejoin": "round", "data-label": key }, name, under);
    this.element.append(element);
    this.labels.set(key, { element, name, under });
    return this.labels.get(key);
  }

  write({ element, name, under }, { text, sub, color }, [x, y], u) {
    if (name.textContent !== text) name.textContent = text;
    if (under.textContent !== sub) under.textContent = sub;
    setAttributes(element, { x: x + 2 * u, y: y + 0.9 * NAME_SIZE * u, fill: color, "font-size": NAME_SIZE * u, "stroke-width": 3.5 * u });
  }
}

/** [x, y, width, height] of a name at a place. */
function rectOf([x, y, side, above], [width, height], u) {
  const at = (value, long, way) => value + (way === 0 ? -long / 2 : way > 0 ? way * NAME_GAP * u : way * NAME_GAP * u - long);
  return [at(x, width, side), at(y, height, above), width, height];
}

const liesWithin = ([x, y, width, height], frame) =>
  x >= frame.x && y >= frame.y && x + width <= frame.x + frame.width && y + height <= frame.y + frame.height;

const meets = ([x, y, width, height], [ox, oy, otherWidth, otherHeight]) =>
  x < ox + otherWidth && ox < x + width && y < oy + otherHeight && oy < y + height;
