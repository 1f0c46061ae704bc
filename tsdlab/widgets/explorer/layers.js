// What can be drawn over the image, and how each of it looks.

import { sub } from "../page/dom.js";
import { stretched } from "./geometry.js";
import { arrowShapes, boxShape } from "./shapes.js";

/** By name: its key, label, role of its colour, dashes, and mark in the legend (without one: the line of each branch). */
export const LAYERS = {
  truth: { key: "g", label: () => ["ground truth"], color: "truth", dash: "4 3", mark: "dashed" },
  salient: { key: "e", label: () => ["evidence of the class"], color: "truth", dash: "1.5 2.5", mark: "dotted" },
  classification: { key: "c", label: () => ["P̂", sub("c"), ": bins for the class"], color: "classification", mark: "dots" },
  localization: { key: "r", label: () => ["P̂", sub("r"), ": region for the box"], color: "localization", dash: "7 4", mark: "dashed" },
  decoded: { key: "d", label: () => ["decoded boxes"], color: "localization" },
};

/** Dashes of the lines by which the branches of the models differ. */
export const LINES = { solid: undefined, dashed: "6 3", dotted: "1.5 2.5", dashdot: "7 3 1.5 3" };

/**
 * P̂r and P̂c of a level's answer: a box that is moved or resized as a whole, or an arrow for each bin.
 *
 * @param page gives the state and the palette
 * @param proposal the box that the answer is about
 * @param at what a model says when it pools the proposal from one level
 * @param u a pixel of the screen in pixels of the image
 */
export function displacementShapes(page, proposal, at, u) {
  const [layers, magnify, { palette }] = [page.state("layers"), page.state("magnify"), page.fixed];
  return ["localization", "classification"].filter((task) => at.regions[task] && layers.includes(task)).flatMap((task) => {
    const { box, points } = at.regions[task];
    const color = palette[task];
    if (points) return arrowShapes(proposal, points, magnify, { from: palette.proposal, to: color }, u);
    return boxShape(stretched(proposal, box, magnify), color, u, { dash: LAYERS.localization.dash, name: `region ${task}` });
  });
}
