// What can be drawn over the image, and how each of it looks.

import { setAttributes, sub, svg } from "../page/dom.js";
import { gridOf } from "../second_stage/pooling.js";
import { centreOf, meanOf, stretched } from "./geometry.js";
import { ArrowsShape, BoxShape, DotsShape } from "./shapes.js";

/** By name: its key, label, role of its colour, dashes, and mark in the legend (without one: the line of each branch). */
export const LAYERS = {
  truth: { key: "g", label: () => ["ground truth"], color: "truth", dash: "5 4", mark: "dashed" },
  salient: { key: "e", label: () => ["evidence"], color: "truth", dash: "1.5 2.5", mark: "dotted" },
  classification: { key: "c", label: () => ["P̂", sub("c"), " for the class"], color: "classification", mark: "dots" },
  localization: { key: "r", label: () => ["P̂", sub("r"), " for the box"], color: "localization", mark: "solid" },
  decoded: { key: "d", label: () => ["decoded boxes"], color: "localization" },
};

/** Dashes of the lines by which the branches of the models differ. */
export const LINES = { solid: undefined, dashed: "6 3", dotted: "1.5 2.5", dashdot: "7 3 1.5 3" };

/** Which arrows there are. */
export const ARROW_KINDS = [["summary", "summary"], ["all", "all"], ["own", "own"]];

/** Where one task reads: dots if every bin has its own place, else a box; and the arrows that lead there from P. */
class TaskShapes {
  constructor(page, task, small) {
    const { [task]: color, proposal } = page.fixed.palette;
    const thin = small ? 0.6 : 1;
    Object.assign(this, { page, task });
    this.box = new BoxShape(color, { width: 2.2 * thin, fill: color, name: `region ${task}` });
    this.from = new DotsShape(proposal, { size: 2.6 * thin });
    this.to = new DotsShape(color, { size: 4.6 * thin });
    this.each = new ArrowsShape(color, { width: 1.5 * thin, name: `bins ${task}` });
    // Both tasks' are seen, also if they lead the same way.
    this.whole = new ArrowsShape(color, { width: (task === "classification" ? 3.2 : 5) * thin, name: `arrow ${task}` });
  }

  /** @param region of the answer; undefined if the task reads P itself or is not to be shown */
  draw(proposal, region, pattern, u) {
    const [arrows, magnify] = [this.page.state("arrows"), this.page.state("magnify")];
    const points = region?.points ?? [];
    const isEach = arrows !== "summary" && points.length > 0;
    const longer = ([from, to]) => [from, stretched(from, to, magnify)];
    // Where the bins lie before they are moved; for the object's own part of it, where they are moved in all proposals.
    const grid = isEach ? gridOf(proposal, Math.round(Math.sqrt(points.length))) : [];
    const starts = arrows === "own" && pattern ? grid.map((place, i) => shiftedBy(place, pattern[i], proposal)) : grid;
    this.box.draw(region && !region.points ? region.box : null, u);
    this.to.draw(points, u);
    this.from.draw(starts, u);
    this.each.draw(starts.map((start, i) => longer([start, points[i]])), u);
    this.whole.draw(region && !isEach ? [longer([centreOf(proposal), middleOf(region)])] : [], u);
  }
}

const shiftedBy = ([x, y], [dx, dy], [x1, y1, x2, y2]) => [x + dx * (x2 - x1), y + dy * (y2 - y1)];

/** Where the tasks of one model read: P̂c and P̂r. */
export class RegionShapes {
  /** @param small whether the picture is a small one, whose lines are thinner */
  constructor(page, small = false) {
    this.page = page;
    this.tasks = ["localization", "classification"].map((task) => new TaskShapes(page, task, small));
    const elements = (...names) => names.flatMap((name) => this.tasks.map(({ [name]: { element } }) => element));
    // An svg inside clips what it holds: arrows that are drawn longer must not seem to lead out of the image.
    this.clip = svg("svg", {}, elements("each", "whole"));
    this.element = svg("g", { "pointer-events": "none" }, elements("box", "to", "from"), this.clip);
  }

  /**
   * @param proposal the box that the answer is about
   * @param regions of what a model says when it pools the proposal from one level
   * @param model its name
   * @param u a pixel of the screen in pixels of the image
   */
  draw(proposal, regions, model, u) {
    const { page } = this;
    const [layers, { width, height }] = [page.state("layers"), page.told("image")];
    const overflow = page.state("magnify") > 1 ? "hidden" : "visible";
    setAttributes(this.clip, { width, height, viewBox: `0 0 ${width} ${height}`, overflow });
    for (const shapes of this.tasks) {
      const { task } = shapes;
      shapes.draw(proposal, layers.includes(task) ? regions[task] : undefined, patternOf(page, model, task)?.offsets, u);
    }
  }
}

/** The middle of what a task reads. */
export const middleOf = ({ points, box }) => (points ? meanOf(points) : centreOf(box));

/** The mean displacement of every bin over all proposals of the data set, in fractions of P's size; undefined until it is known. */
export const patternOf = (page, model, task) => page.told("pattern")?.models?.[model]?.[task];

/** The sensitivity map of a task, and where both tasks are answered best. */
export class MapShapes {
  constructor(page, small = false) {
    const { classification, localization } = page.fixed.palette;
    const thin = small ? 0.6 : 1;
    this.page = page;
    this.picture = svg("image", { preserveAspectRatio: "none", "data-shape": "map" });
    this.between = new ArrowsShape("#fff", { width: 1.2 * thin });
    this.ofBox = new DotsShape(localization, { size: 11 * thin, edge: 3 });
    this.ofClass = new DotsShape(classification, { size: 6 * thin, edge: 3 });
    this.element = svg("g", { "pointer-events": "none" }, this.picture, this.between.element, this.ofBox.element, this.ofClass.element);
  }

  draw(model, level, u) {
    const { page } = this;
    const map = mapOf(page, model, level);
    const { width, height } = page.told("image");
    const task = page.state("underlay");
    this.element.setAttribute("visibility", map ? "inherit" : "hidden");
    if (this.picture.getAttribute("href") !== (map?.[task].url ?? "")) this.picture.setAttribute("href", map?.[task].url ?? "");
    setAttributes(this.picture, { width, height, opacity: page.state("opacity") });
    const [ofClass, ofBox] = [map?.classification.peak, map?.localization.peak].map((peak) => (peak ? [peak] : [])); // a flat map has none
    this.ofClass.draw(ofClass, u);
    this.ofBox.draw(ofBox, u);
    this.between.draw(ofClass.length && ofBox.length ? [[...ofClass, ...ofBox]] : [], u);
  }
}

/** The maps of a level for the object that P is nearest to; null while they are not known. */
export function mapOf(page, model, level) {
  const [maps, { nearest, image }] = [page.told("maps"), page.told("answer")];
  const own = page.state("underlay") && maps[model];
  return own && own.image === image && own.object === nearest?.index ? own.levels[level] ?? null : null;
}
