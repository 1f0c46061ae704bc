// Boxes and points in pixels of the image.

/** @typedef {[number, number, number, number]} Box x1, y1, x2, y2 */

/** `to`, moved away from `from` by a factor. */
export const stretched = (from, to, factor) => from.map((value, i) => value + factor * (to[i] - value));

/** With x1 ≤ x2 and y1 ≤ y2. */
export const ordered = ([x1, y1, x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];

export const rounded = (box) => box.map((value) => Math.round(value * 100) / 100);

export const centreOf = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];

export const meanOf = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);

/** The smallest box around two. */
export const around = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];

/** The places of a box's handles, by the side of the sky. */
export function cornersOf(box) {
  const [[x1, y1, x2, y2], [cx, cy]] = [box, centreOf(box)];
  return { nw: [x1, y1], n: [cx, y1], ne: [x2, y1], e: [x2, cy], se: [x2, y2], s: [cx, y2], sw: [x1, y2], w: [x1, cy] };
}

/** `box` after its part `handle` ("move", or some of n, s, w, e) is moved by (dx, dy). */
export function dragged([x1, y1, x2, y2], handle, dx, dy) {
  const moves = (side) => handle === "move" || handle.includes(side);
  return [x1 + (moves("w") ? dx : 0), y1 + (moves("n") ? dy : 0), x2 + (moves("e") ? dx : 0), y2 + (moves("s") ? dy : 0)];
}

/** `box` with its centre at (x, y). */
export function centred(box, x, y) {
  const [x1, y1, x2, y2] = ordered(box);
  const [w, h] = [(x2 - x1) / 2, (y2 - y1) / 2];
  return [x - w, y - h, x + w, y + h];
}

/** Why a box cannot be a proposal; null if it can. The rule is that of `valid_box` in tsdlab/analysis/proposal.py. */
export const refusalOf = (box) => (box.every((value) => Number.isFinite(value) && Math.abs(value) <= 1e6)
  ? null
  : "the numbers of a proposal must be finite and within ±1,000,000 pixels");
