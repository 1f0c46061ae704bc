// The image of one model: the proposal over it, which can be dragged, and what the model makes of it.

import { button, html, setAttributes, svg } from "../page/dom.js";
import { conflictShapes } from "./conflict.js";
import { centred, dragged, ordered, rounded } from "./geometry.js";
import { displacementShapes, LAYERS, LINES } from "./layers.js";
import { boxShape, handleShapes } from "./shapes.js";

const EDGE = 0.06; // room around the image, in fractions of its longer side: a proposal may hang over
const COARSE = 400; // pixels; the pixels of a smaller image are shown as squares

/** Fit an SVG image element to an image of the data. */
export function showPicture(element, { url, width, height }) {
  if (element.getAttribute("href") === url) return; // to decode it again would take longer than all else
  const style = width < COARSE ? "image-rendering: pixelated" : "";
  setAttributes(element, { href: url, width, height, preserveAspectRatio: "none", style }); // a large one comes reduced
}

export class ImageView {
  constructor(page, model) {
    Object.assign(this, { page, model, width: 0, drag: null });
    this.picture = svg("image", { x: 0, y: 0 });
    this.map = svg("image", { x: 0, y: 0, preserveAspectRatio: "none" });
    // From bottom to top: what is known about P, P itself, P's displacements, its handles. A drag draws P and the
    // handles anew, and nothing else.
    [this.known, this.held, this.moved, this.handles] = Array.from({ length: 4 }, () => svg("g"));
    this.moved.setAttribute("pointer-events", "none"); // so that the pointer reaches P below
    this.canvas = svg("svg", {
      class: "canvas",
      onpointerdown: (event) => this.grab(event),
      onpointermove: (event) => this.move(event),
      onpointerup: () => { this.drag = null; },
      onpointercancel: () => { this.drag = null; },
      ondblclick: (event) => this.place(event),
    }, this.picture, this.map, this.known, this.held, this.moved, this.handles);
    this.note = html("span", { class: "note" });
    const name = page.fixed.models.length > 1
      ? button(model, "list this model's levels and RPN proposals (F)", () => page.set({ focus: model }), { class: "model" })
      : html("span", { class: "model" }, model);
    this.element = html("figure", { "data-model": model }, html("figcaption", {}, name, this.note), this.canvas);
  }

  /** A pixel of the screen in pixels of the image. */
  get unit() {
    return this.canvas.viewBox.baseVal.width / this.width;
  }

  drawImage(image) {
    const pad = EDGE * Math.max(image.width, image.height);
    this.canvas.setAttribute("viewBox", [-pad, -pad, image.width + 2 * pad, image.height + 2 * pad].join(" "));
    showPicture(this.picture, image);
    setAttributes(this.map, { width: image.width, height: image.height });
  }

  /** P where the pointer has it. This is all that a drag draws between two answers, as it takes time from them. */
  drawProposal() {
    if (!this.width) return;
    const [proposal, color, u] = [this.page.state("proposal"), this.page.fixed.palette.proposal, this.unit];
    const box = ordered(proposal);
    const [x1, y1, x2, y2] = box;
    const inside = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "transparent", "data-handle": "move", style: "cursor: move" };
    this.held.replaceChildren(...boxShape(proposal, color, u, { width: 2.5, name: "proposal" }), svg("rect", inside));
    this.handles.replaceChildren(...handleShapes(box, color, u));
  }

  /** Everything else. */
  draw() {
    if (!this.width) return;
    const { page, unit } = this;
    const answer = page.told("answer");
    const own = answer.models[this.model];
    const map = page.told("maps")[this.model];
    setAttributes(this.map, { href: map?.url ?? "", opacity: map ? page.state("opacity") : 0 });
    const why = own.level === own.assigned ? "the level assigned to its size" : `its size is assigned level ${own.assigned}`;
    this.note.textContent = `P is pooled from level ${own.level}, ${why}`;
    this.element.classList.toggle("focused", page.fixed.models.length > 1 && page.state("focus") === this.model);
    this.known.replaceChildren(...this.knownShapes(page.told("image"), answer, own));
    this.moved.replaceChildren(...displacementShapes(page, answer.proposal, own.levels[own.level], unit));
  }

  /** The objects, and the boxes that the branches decode from P. */
  knownShapes(image, answer, own) {
    const { page, unit } = this;
    const { palette, series } = page.fixed;
    const layers = page.state("layers");
    const shapes = [];
    if (layers.includes("truth")) {
      shapes.push(...image.objects.flatMap(({ box }, i) =>
        boxShape(box, palette.truth, unit, { dash: LAYERS.truth.dash, width: i === answer.nearest?.index ? 2.5 : 1.5, name: "truth" })));
    }
    if (layers.includes("salient")) {
      shapes.push(...image.salient.flatMap((box) => boxShape(box, palette.truth, unit, { dash: LAYERS.salient.dash, width: 1.5 })));
    }
    if (image.conflict && page.state("focus") === this.model) shapes.push(...conflictShapes(image.conflict, palette, unit));
    if (page.pointedAt) shapes.push(...boxShape(page.pointedAt, palette.proposal, unit, { width: 1, dash: "4 3" }));
    if (layers.includes("decoded")) {
      for (const { branch, line } of series.filter(({ model }) => model === this.model)) {
        shapes.push(...boxShape(own.branches[branch].box, palette.localization, unit, { width: 1.6, dash: LINES[line], name: `decoded ${branch}` }));
      }
    }
    return shapes;
  }

  // What the mouse does

  /** The pixel of the image under the pointer. */
  at(event, toImage) {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(toImage);
    return [x, y];
  }

  grab(event) {
    const handle = event.target.dataset.handle;
    this.page.root.focus({ preventScroll: true });
    if (!handle || event.button !== 0) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    const toImage = this.canvas.getScreenCTM().inverse();
    this.drag = { handle, toImage, from: this.at(event, toImage), box: ordered(this.page.state("proposal")) };
  }

  move(event) {
    if (!this.drag) return;
    const { handle, toImage, from, box } = this.drag;
    const [x, y] = this.at(event, toImage);
    this.page.set({ proposal: rounded(dragged(box, handle, x - from[0], y - from[1])) });
  }

  /** A double click puts the centre of P there: the way back for a box that was dragged out of sight. */
  place(event) {
    const [x, y] = this.at(event, this.canvas.getScreenCTM().inverse());
    this.page.set({ proposal: rounded(centred(this.page.state("proposal"), x, y)) });
  }
}
