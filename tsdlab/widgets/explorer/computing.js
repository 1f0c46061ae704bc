// The page's own answers: what every model says about the proposal, computed here.

import { nearestOf, SecondStage } from "../second_stage/answer.js";
import { unpackLayers, unpackPyramid } from "../second_stage/unpack.js";

const KEPT = 12; // images whose pyramids are kept: going back to one needs no kernel

/** Second stages and pyramids, as far as they have arrived. */
export class Computing {
  constructor() {
    this.stages = null; // by model
    this.pyramids = new Map(); // by the index of the image, then by model
    this.last = null;
  }

  /** @param heads {model: about}; @param buffers a DataView for each of them, in order */
  takeHeads(heads, buffers) {
    this.stages = Object.fromEntries(Object.entries(heads).map(([model, about], i) =>
      [model, new SecondStage(about, unpackLayers(about, buffers[i]))]));
  }

  /** @param pyramids {model: about}; @param buffers likewise. Returns the index of the image that is no longer kept. */
  takePyramids(index, pyramids, buffers) {
    this.pyramids.set(index, Object.fromEntries(Object.entries(pyramids).map(([model, about], i) =>
      [model, unpackPyramid(about, buffers[i])])));
    if (this.pyramids.size <= KEPT) return null;
    const [oldest] = this.pyramids.keys();
    this.pyramids.delete(oldest);
    return oldest;
  }

  has(index) {
    return Boolean(this.stages) && this.pyramids.has(index);
  }

  /** The answer message about a proposal in an image; the same object when it is asked the same again. */
  answer(image, proposal, level) {
    const asked = [image, level, ...proposal];
    if (!this.last || asked.some((value, i) => value !== this.last.asked[i])) this.last = { asked, answer: this.compute(image, proposal, level) };
    return this.last.answer;
  }

  compute({ index, objects }, proposal, level) {
    const nearest = nearestOf(proposal, objects);
    const truth = nearest && objects[nearest.index].box;
    const pyramids = this.pyramids.get(index);
    const models = Object.fromEntries(Object.entries(this.stages).map(([model, stage]) =>
      [model, stage.answer(pyramids[model], proposal, nearest, truth, level)]));
    return { image: index, proposal, nearest, models };
  }
}
