// What a detector says about one proposal, pooled from each level: tsdlab/analysis/proposal.py for a page.
//
// The result is the answer message of widgets/explorer/messages.py.

import { HEADS } from "./heads.js";
import { LANES, lane, lanes, softmax } from "./layers.js";
import { gridOf, poolRegion } from "./pooling.js";

const WEIGHTS = [10, 10, 5, 5]; // of box deltas, as in Fast R-CNN
const MOST_GROWTH = Math.log(1000 / 16); // of a side; torchvision's bound

const { fround } = Math; // Python keeps boxes in float32
const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
const centre = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];

/** IoU of two boxes; 0 where both are empty. */
export function iouOf(a, b) {
  const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const shared = Math.max(w, 0) * Math.max(h, 0);
  return shared / Math.max(area(a) + area(b) - shared, 1.1920929e-7);
}

/** The object that a proposal is compared with: the one it overlaps most, or the closest one; null without objects. */
export function nearestOf(proposal, objects) {
  if (!objects.length) return null;
  const overlaps = objects.map(({ box }) => iouOf(proposal, box));
  const [x, y] = centre(proposal);
  const distances = objects.map(({ box }) => Math.hypot(centre(box)[0] - x, centre(box)[1] - y));
  const most = Math.max(...overlaps);
  const index = most > 0 ? overlaps.indexOf(most) : distances.indexOf(Math.min(...distances));
  const { name, label } = objects[index];
  return { index, name, label, overlap: overlaps[index] };
}

/** A box after Fast R-CNN's deltas. */
function decoded([x1, y1, x2, y2], deltas) {
  const [dx, dy, dw, dh] = WEIGHTS.map((weight, i) => deltas[i] / weight);
  const [w, h] = [x2 - x1, y2 - y1];
  const [cx, cy] = [x1 + w / 2 + dx * w, y1 + h / 2 + dy * h];
  const [halfW, halfH] = [(w * Math.exp(Math.min(dw, MOST_GROWTH))) / 2, (h * Math.exp(Math.min(dh, MOST_GROWTH))) / 2];
  return [cx - halfW, cy - halfH, cx + halfW, cy + halfH];
}

/** How far training asks a branch to be ahead of the sibling (Eq. 7 and 8 of the paper). */
function shortfall(sibling, own, margin) {
  if (margin === null) return null;
  return { sibling, own, margin, value: Math.max(0, sibling - own + Math.min(margin, 1 - sibling)) };
}

/** The second stage of one detector. */
export class SecondStage {
  /**
   * @param about the head: its name, pooling and levels; see widgets/second_stage/packing.py
   * @param layers {name: {weight, bias}}, Float32Arrays
   */
  constructor(about, layers) {
    Object.assign(this, { about, layers, head: HEADS[about.head] });
  }

  /** The level that a proposal is pooled from, by its size. */
  assigned(proposal, image) {
    const { levels, strides, canonical } = this.about;
    const side = fround(Math.sqrt(Math.max(area(this.seenBox(proposal, image)), 0)));
    const level = Math.floor(fround(fround(4 + fround(Math.log2(side / canonical))) + 1e-6)) - Math.log2(strides[0]);
    return levels[Math.min(Math.max(level, 0), levels.length - 1)];
  }

  /** A box of the image in pixels of the resized image that the backbone saw. */
  seenBox(box, { ratio }) {
    return box.map((value, i) => fround(fround(value) / ratio[i % 2]));
  }

  /**
   * @param pyramid {maps, ratio, seen}: a FeatureMap for each level; original pixels per seen pixel (x, y); the seen
   *   image's width and height
   * @param proposal the box, in pixels of the image
   * @param nearest the object that the proposal is compared with, or null; see `nearestOf`
   * @param truth the box of that object
   * @param level the one in use; null is the assigned one
   */
  answer(pyramid, proposal, nearest, truth, level) {
    const { levels } = this.about;
    const rows = [];
    for (let first = 0; first < levels.length; first += LANES) {
      rows.push(...this.rows(pyramid, proposal, pyramid.maps.slice(first, first + LANES)));
    }
    const assigned = this.assigned(proposal, pyramid);
    const used = level ?? assigned;
    const overlaps = nearest && nearest.overlap > 0;
    const byLevel = Object.fromEntries(levels.map((name, k) => [name, this.judged(rows[k], overlaps ? nearest : null, truth)]));
    const { branches } = byLevel[used];
    return { assigned, level: used, branches, levels: byLevel, constraint: this.constraint(branches, overlaps) };
  }

  /** What the head predicts from each of up to four maps. */
  rows(pyramid, proposal, maps) {
    const box = this.seenBox(proposal, pyramid);
    const pool = (boxes, offsets) => {
      const { bins } = this.about;
      const [channels, x] = [maps[0].channels, lanes(maps[0].channels * bins * bins)];
      maps.forEach((map, k) => poolRegion(map, boxes[k], offsets?.[k] ?? null, this.about, (bin, values) => {
        for (let c = 0, at = LANES * bin * channels + k; c < channels; c++, at += LANES) x[at] = values[c];
      }));
      return x;
    };
    const found = this.head(this.layers, pool, maps.map(() => box), this.about);
    return maps.map((_, k) => ({
      regions: Object.entries(found.regions).map(([task, { boxes, offsets }]) => this.region(pyramid, proposal, task, boxes[k], offsets?.[k])),
      branches: Object.entries(found.branches).map(([name, { logits, deltas, boxes }]) => {
        const [scores, moves] = [softmax(lane(logits, k)), lane(deltas, k)];
        const decodedBoxes = Array.from(scores, (_, c) => this.onImage(pyramid, decoded(boxes[k], moves.subarray(4 * c, 4 * c + 4))));
        return { name, scores: Array.from(scores), boxes: decodedBoxes };
      }),
    }));
  }

  /** A box of the seen image, clipped to it, in pixels of the image. */
  onImage({ ratio, seen }, box) {
    return box.map((value, i) => Math.min(Math.max(value, 0), seen[i % 2]) * ratio[i % 2]);
  }

  /** Where a task pools from, in pixels of the image. */
  region({ ratio }, proposal, task, seenBox, offsets) {
    const { bins } = this.about;
    const box = seenBox.map((value, i) => value * ratio[i % 2]);
    const [own, grid] = [gridOf(proposal, bins), gridOf(box, bins)];
    const [w, h] = [box[2] - box[0], box[3] - box[1]];
    const [pw, ph] = [proposal[2] - proposal[0], proposal[3] - proposal[1]];
    let moved = 0;
    const points = grid.map(([x, y], i) => {
      const point = offsets ? [x + offsets[2 * i] * w, y + offsets[2 * i + 1] * h] : [x, y];
      // A box without an area has no size to compare with.
      moved += Math.hypot(pw ? (point[0] - own[i][0]) / pw : 0, ph ? (point[1] - own[i][1]) / ph : 0);
      return point;
    });
    return [task, { box, points: offsets ? points : null, moved: moved / points.length }];
  }

  /** A row of predictions as a level's part of the message. */
  judged({ regions, branches }, nearest, truth) {
    const all = Object.fromEntries(branches.map(({ name, scores, boxes }) => {
      const label = nearest?.label ?? 1 + argmax(scores.slice(1));
      return [name, { scores, label, box: boxes[label], score: scores[label], iou: nearest ? iouOf(boxes[label], truth) : null }];
    }));
    const { score, iou, label } = Object.values(all).at(-1);
    return { score, iou, label, branches: all, regions: Object.fromEntries(regions) };
  }

  constraint({ sibling, tsd }, overlaps) {
    if (!sibling || !tsd || !overlaps) return [null, null];
    const [ofClass, ofBox] = this.about.margins;
    return [shortfall(sibling.score, tsd.score, ofClass), shortfall(sibling.iou, tsd.iou, ofBox)];
  }
}

const argmax = (values) => values.indexOf(Math.max(...values));
