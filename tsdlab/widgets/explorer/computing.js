// The page's own answers: what every model says about the proposal, computed here.

import { nearestOf, SecondStage } from "../second_stage/answer.js";
import { unpackLayers, unpackPyramid } from "../second_stage/unpack.js";

const KEPT = 12; // images whose pyramids are kept: going back to one needs no kernel

export const keyOf = (index, step) => `${step} ${index}`;

/** Second stages and pyramids, as far as they have arrived. */
export class Computing {
  constructor() {
    this.stages = new Map(); // by the step of a training (null: no training is followed), then by model
    this.pyramids = new Map(); // by step and index of the image, then by model
    this.last = null;
  }

  /**
   * @param heads [[model, about], …], not an object: JavaScript puts names that are numbers first, in their own order
   * @param buffers a DataView for each of them, in order
   */
  takeHeads(heads, buffers, step = null) {
    this.stages.set(step, Object.fromEntries(heads.map(([model, about], i) =>
      [model, new SecondStage(about, unpackLayers(about, buffers[i]))])));
  }

  /** @param pyramids, buffers likewise. Returns the key of what is no longer kept. */
  takePyramids(index, pyramids, buffers, step = null) {
    this.pyramids.set(keyOf(index, step), Object.fromEntries(pyramids.map(([model, about], i) =>
      [model, unpackPyramid(about, buffers[i])])));
    if (this.pyramids.size <= KEPT) return null;
    const [oldest] = this.pyramids.keys();
    this.pyramids.delete(oldest);
    return oldest;
  }

  has(index, step = null) {
    return this.stages.has(step) && this.pyramids.has(keyOf(index, step));
  }

  /** The answer message about a proposal in an image; the same object when it is asked the same again. */
  answer(image, proposal, level, step = null) {
    const asked = [image, level, step, ...proposal];
    if (!this.last || asked.some((value, i) => value !== this.last.asked[i])) this.last = { asked, answer: this.compute(image, proposal, level, step) };
    return this.last.answer;
  }

  compute({ index, objects }, proposal, level, step) {
    const nearest = nearestOf(proposal, objects);
    const truth = nearest && objects[nearest.index].box;
    const key = keyOf(index, step);
    const pyramids = this.pyramids.get(key);
    this.pyramids.delete(key); // the one in use becomes the newest: another image's may arrive now
    this.pyramids.set(key, pyramids);
    const models = Object.fromEntries(Object.entries(this.stages.get(step)).map(([model, stage]) =>
      [model, stage.answer(pyramids[model], proposal, nearest, truth, level)]));
    return { image: index, proposal, nearest, models };
  }
}
