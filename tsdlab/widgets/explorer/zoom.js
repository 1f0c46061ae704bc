// How much of the image is seen: the same part for all models. It is the page's own; Python does not know it.

import { around, centreOf, ordered } from "./geometry.js";

const ROOM = 0.06; // room around the image, in fractions of its longer side: a proposal may hang over
const MOST_ZOOM = 24; // times the whole image
const CLOSE = 0.55; // of the part that is seen: what an object and P fill after a double click
const BORDER = 0.04; // of the part that is seen: P comes no closer to its edge

export class Zoom {
  constructor(page) {
    this.page = page;
    this.factor = 1;
  }

  /** The image, with room around it. */
  get whole() {
    const { width, height } = this.page.told("image");
    const edge = ROOM * Math.max(width, height);
    return { x: -edge, y: -edge, width: width + 2 * edge, height: height + 2 * edge };
  }

  /** The part that is seen: {x, y, width, height} in pixels of the image. */
  get frame() {
    const { whole, factor } = this;
    const [width, height] = [whole.width / factor, whole.height / factor];
    const [x, y] = this.centre ?? [0, 0];
    const within = (value, low, long, part) => Math.min(Math.max(value - part / 2, low), low + long - part);
    return { x: within(x, whole.x, whole.width, width), y: within(y, whole.y, whole.height, height), width, height };
  }

  /** P and the object that it is compared with. */
  get subject() {
    const [proposal, { nearest }, { objects }] = [ordered(this.page.state("proposal")), this.page.told("answer"), this.page.told("image")];
    return nearest ? around(proposal, objects[nearest.index].box) : proposal;
  }

  /** Zoom by a factor; the pixel `at` of the image stays where it is on the screen. Without it P is zoomed to, and seen whole. */
  by(ratio, at) {
    const proposal = ordered(this.page.state("proposal"));
    const [fixedX, fixedY] = at ?? centreOf(proposal);
    const { x, y, width, height } = this.frame;
    const factor = Math.min(Math.max(this.factor * ratio, 1), MOST_ZOOM);
    const kept = this.factor / factor;
    this.centre = [fixedX + (x + width / 2 - fixedX) * kept, fixedY + (y + height / 2 - fixedY) * kept];
    this.factor = factor;
    if (!at) this.include(proposal);
    this.page.redraw();
  }

  /** See the part that lies beside `frame`, by (dx, dy) pixels of the image. */
  pan({ x, y, width, height }, dx, dy) {
    this.centre = [x + width / 2 + dx, y + height / 2 + dy];
    this.page.redraw();
  }

  fit() {
    this.factor = 1;
    this.page.redraw();
  }

  /** See P and its object closely, or the whole image if they are. */
  toggle() {
    if (this.factor > 1) return this.fit();
    const { whole, subject: [x1, y1, x2, y2] } = this;
    const factor = CLOSE * Math.min(whole.width / Math.max(x2 - x1, 1), whole.height / Math.max(y2 - y1, 1));
    this.factor = Math.min(Math.max(factor, 1.5), MOST_ZOOM);
    this.centre = centreOf(this.subject);
    this.page.redraw();
  }

  /** Where P has been moved, by whatever: the part that is seen goes with it, as little as it can. */
  follow() {
    const [proposal, { index }] = [ordered(this.page.state("proposal")), this.page.told("image")];
    const before = this.followed;
    this.followed = { index, proposal };
    if (this.factor === 1 || !before || proposal.every((value, i) => value === before.proposal[i])) return;
    if (index !== before.index) {
      this.centre = centreOf(this.subject);
      return;
    }
    this.include(proposal);
  }

  /** Move the part that is seen as little as it can, so that P is within. */
  include([x1, y1, x2, y2]) {
    const { x, y, width, height } = this.frame;
    const step = (low, high, start, long) => {
      const [first, last] = [start + BORDER * long, start + (1 - BORDER) * long];
      if (high - low > last - first) return (low + high) / 2 - (start + long / 2);
      return Math.min(low - first, 0) || Math.max(high - last, 0);
    };
    this.centre = [x + width / 2 + step(x1, x2, x, width), y + height / 2 + step(y1, y2, y, height)];
  }
}
