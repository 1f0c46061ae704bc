// The heads that a page can compute: what tsdlab/models/heads has for them.
//
// A head gets the layers of a model, `pool(boxes, offsets)` and the boxes of up to four regions, one for each lane. It
// returns the regions that it moved, by task, and what each branch predicts; the branch that inference uses comes last.

import { lane, linear } from "./layers.js";

/** The two layers that a branch begins with. */
const trunkOf = (layers, name, x) => linear(layers[`${name}.fc7`], linear(layers[`${name}.fc6`], x, true), true);

const sibling = (layers, x, boxes) => {
  const trunk = trunkOf(layers, "sibling", x);
  return { logits: linear(layers["sibling.cls"], trunk), deltas: linear(layers["sibling.box"], trunk), boxes };
};

const disentangled = (layers, forClass, forBox, boxes) => ({
  logits: linear(layers["classification.out"], trunkOf(layers, "classification", forClass)),
  deltas: linear(layers["localization.out"], trunkOf(layers, "localization", forBox)),
  boxes,
});

/** γ times the output of an offset net, for each lane: one displacement (dx, dy), or one for each bin. */
function offsetsOf(layers, name, trunk, gamma, count) {
  const found = linear(layers[`${name}.2`], linear(layers[`${name}.0`], trunk, true));
  return Array.from({ length: count }, (_, k) => lane(found, k).map((value) => gamma * value));
}

const translated = ([x1, y1, x2, y2], [dx, dy]) =>
  [x1 + dx * (x2 - x1), y1 + dy * (y2 - y1), x2 + dx * (x2 - x1), y2 + dy * (y2 - y1)];

const repeated = ([dx, dy], bins) => Float64Array.from({ length: 2 * bins * bins }, (_, i) => (i % 2 ? dy : dx));

export const HEADS = {
  sibling: (layers, pool, boxes) => ({ regions: {}, branches: { sibling: sibling(layers, pool(boxes), boxes) } }),

  d_head(layers, pool, boxes) {
    const x = pool(boxes);
    return { regions: {}, branches: { d_head: disentangled(layers, x, x, boxes) } };
  },

  tsd(layers, pool, boxes, { gamma, bins, moves }) {
    const x = pool(boxes);
    const hidden = linear(layers.offset_trunk, x, true);
    const hiddenForBox = layers.localization_trunk ? linear(layers.localization_trunk, x, true) : hidden;
    const found = offsetsOf(layers, "classification_offset", hidden, gamma, boxes.length);
    const forClass = found.map((offsets) => (moves.classification === "bins" ? offsets : repeated(offsets, bins)));
    const forBox = offsetsOf(layers, "localization_offset", hiddenForBox, gamma, boxes.length);
    const movesBins = moves.localization === "bins"; // a proposal may have a single bin
    const moved = movesBins ? boxes : boxes.map((box, k) => translated(box, forBox[k]));
    const localized = movesBins ? pool(boxes, forBox) : pool(moved);
    return {
      regions: {
        classification: { boxes, offsets: forClass },
        localization: { boxes: moved, offsets: movesBins ? forBox : null },
      },
      branches: {
        ...(layers["sibling.fc6"] && { sibling: sibling(layers, x, boxes) }),
        tsd: disentangled(layers, pool(boxes, forClass), localized, moved),
      },
    };
  },
};
