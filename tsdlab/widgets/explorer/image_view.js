// The image of one model: the proposal over it, which can be dragged, and what the model makes of it.

import { button, html, setAttributes, svg } from "../page/dom.js";
import { percent } from "../page/numbers.js";
import { conflictNames, ConflictShapes } from "./conflict.js";
import { ordered } from "./geometry.js";
import { besideBox, besidePoint, Labels } from "./labels.js";
import { LAYERS, LINES, mapOf, MapShapes, middleOf, RegionShapes } from "./layers.js";
import { Pointer } from "./pointer.js";
import { BoxShape, HandlesShape } from "./shapes.js";

export const COARSE = 400; // pixels; the pixels of a smaller image are shown as squares

/** Fit an SVG image element to an image of the data. */
export function showPicture(element, { url, width, height }) {
  if (element.getAttribute("href") === url) return; // to decode it again would take longer than all else
  const style = width < COARSE ? "image-rendering: pixelated" : "";
  setAttributes(element, { href: url, width, height, preserveAspectRatio: "none", style }); // a large one comes reduced
}

export class ImageView {
  constructor(page, model) {
    const { palette, series } = page.fixed;
    Object.assign(this, { page, model, width: 0 });
    this.picture = svg("image", { x: 0, y: 0 });
    this.map = new MapShapes(page);
    this.objects = svg("g"); // made anew for every image
    this.pointedAt = new BoxShape(palette.proposal, { width: 1, dash: "4 3" });
    this.decoded = series.filter((entry) => entry.model === model).map(({ branch, line }) =>
      [branch, new BoxShape(palette.localization, { width: 1.6, dash: LINES[line], name: `decoded ${branch}` })]);
    this.disagreement = new ConflictShapes(palette);
    this.held = new BoxShape(palette.proposal, { width: 2.5, name: "proposal" });
    this.regions = new RegionShapes(page);
    this.handles = new HandlesShape(palette.proposal);
    this.labels = new Labels();
    // From bottom to top. The regions let the pointer through, so that P below them can be dragged.
    const shapes = [this.map, this.disagreement, this.pointedAt, ...this.decoded.map(([, shape]) => shape), this.held, this.handles, this.regions, this.labels];
    const [map, ...others] = shapes.map(({ element }) => element);
    this.canvas = svg("svg", { class: "canvas", tabindex: 0, role: "img" }, this.picture, map, this.objects, others);
    this.pointer = new Pointer(page, this.canvas);
    this.note = html("span", { class: "note" });
    const name = page.fixed.models.length > 1
      ? button(model, "list this model's levels and RPN proposals (F)", () => page.set({ focus: model }), { class: "model" })
      : html("span", { class: "model" }, model);
    this.element = html("figure", { "data-model": model }, html("figcaption", {}, name, this.note), this.canvas,
      page.play.plots.find((plot) => plot.model === model).element);
  }

  /** Whether the pointer holds P. */
  get drag() {
    return this.pointer.drag;
  }

  /** The conflict of the image, if it is this model's; null otherwise. */
  get conflict() {
    return this.page.state("focus") === this.model ? this.page.told("image").conflict : null;
  }

  /** A pixel of the screen in pixels of the image. */
  get unit() {
    return this.page.zoom.frame.width / this.width;
  }

  drawImage(image) {
    const { truth } = this.page.fixed.palette;
    showPicture(this.picture, image);
    const boxes = (places, layer, width) => places.map((box) => {
      const shape = new BoxShape(truth, { dash: LAYERS[layer].dash, width, name: layer });
      return { box, layer, shape };
    });
    this.known = [...boxes(image.objects.map(({ box }) => box), "truth", 2), ...boxes(image.salient, "salient", 1.5)];
    this.objects.replaceChildren(...this.known.map(({ shape }) => shape.element));
  }

  /** P where the pointer has it. */
  drawProposal() {
    if (!this.width) return;
    const [box, u] = [ordered(this.page.state("proposal")), this.unit];
    this.held.draw(box, u);
    this.handles.draw(box, u);
    this.labels.draw(this.names(box), this.page.zoom.frame, u);
  }

  /** Everything else. */
  draw() {
    if (!this.width) return;
    const { page } = this;
    if (!this.drag) page.zoom.follow(); // the part that is seen stays while P is dragged, so that P stays under the pointer
    const [answer, layers, { frame }] = [page.told("answer"), page.state("layers"), page.zoom];
    const u = this.unit;
    const own = answer.models[this.model];
    const viewBox = `${frame.x} ${frame.y} ${frame.width} ${frame.height}`;
    if (viewBox !== this.viewBox) this.canvas.setAttribute("viewBox", viewBox);
    this.viewBox = viewBox;
    const why = own.level === own.assigned ? "the level assigned to its size" : `its size is assigned level ${own.assigned}`;
    this.note.textContent = `P is pooled from level ${own.level}, ${why}`;
    this.element.classList.toggle("focused", page.fixed.models.length > 1 && page.state("focus") === this.model);
    this.map.draw(this.model, own.level, u);
    for (const { box, layer, shape } of this.known) shape.draw(layers.includes(layer) ? box : null, u);
    this.disagreement.draw(this.conflict, u);
    this.pointedAt.draw(page.pointedAt, u);
    for (const [branch, shape] of this.decoded) shape.draw(layers.includes("decoded") ? own.branches[branch].box : null, u);
    this.regions.draw(answer.proposal, own.levels[own.level].regions, this.model, u);
  }

  /** The names of the shapes, the most important first. */
  names(box) {
    const { page, model } = this;
    const { palette, series } = page.fixed;
    const [answer, layers, { objects }] = [page.told("answer"), page.state("layers"), page.told("image")];
    const { nearest, models: { [model]: { branches, level, levels: { [level]: { regions } } } } } = answer;
    const names = [];
    if (page.state("magnify") !== 1 && Object.keys(regions).length) {
      const { x, y, width } = page.zoom.frame;
      const places = [[x + width, y, -1, 1], [x, y, 1, 1]];
      names.push({ key: "magnify", text: `arrows ×${page.state("magnify")}`, color: palette.proposal, places });
    }
    names.push({ key: "P", text: "P", color: palette.proposal, places: besideBox(box, "nw") });
    for (const [task, under] of [["localization", "r"], ["classification", "c"]]) {
      const region = layers.includes(task) && regions[task];
      if (!region) continue;
      const places = region.points ? besidePoint(middleOf(region), 2) : besideBox(region.box, under === "r" ? "ne" : "se");
      names.push({ key: task, text: "P̂", sub: under, color: palette[task], places });
    }
    if (nearest && layers.includes("truth")) {
      names.push({ key: "truth", text: nearest.name, color: palette.truth, places: besideBox(objects[nearest.index].box, "sw") });
    }
    const map = mapOf(page, model, level);
    if (map && map.distance !== null) {
      const points = [map.classification.peak, map.localization.peak].sort(([a], [b]) => b - a);
      const text = `best places ${percent(map.distance)} of the object apart`;
      names.push({ key: "peaks", text, color: palette.proposal, places: points.flatMap((point) => besidePoint(point, 2)) });
    }
    if (this.conflict) names.push(...conflictNames(this.conflict, palette));
    if (layers.includes("decoded")) {
      const own = series.filter((entry) => entry.model === model);
      names.push(...own.map(({ branch }) =>
        ({ key: `decoded ${branch}`, text: `box of ${branch}`, color: palette.localization, places: besideBox(branches[branch].box, "se") })));
    }
    return names;
  }
}
