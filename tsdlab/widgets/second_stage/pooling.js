// Deformable RoIAlign: what `tsdlab.ops.deform_roi_align` computes, for one region of one image.
//
// A sample at most one cell outside the map takes the border's value; one further outside, or not finite, counts zero.

/**
 * @typedef {object} FeatureMap one level of the pyramid
 * @property {Float32Array} cells [height, width, channels]
 * @property {number} scale feature cells per pixel of the image that the backbone saw
 *
 * @typedef {object} Pooling
 * @property {number} bins per side
 * @property {number} samples per bin and side
 * @property {boolean} aligned torchvision's flag of the same name
 */

/** Centres of the bins of a box, row by row. */
export function gridOf([x1, y1, x2, y2], bins) {
  const at = (low, high, i) => low + ((i + 0.5) * (high - low)) / bins;
  return Array.from({ length: bins * bins }, (_, i) => [at(x1, x2, i % bins), at(y1, y2, Math.floor(i / bins))]);
}

/** Coordinates of a grid along one axis, in cells: where it starts, the region's size, and the size of the grid. */
function frameOf(low, high, scale, aligned) {
  const start = low * scale - (aligned ? 0.5 : 0);
  const size = high * scale - (aligned ? 0.5 : 0) - start;
  return [start, size, aligned ? size : Math.max(size, 1)];
}

/** Two cells and their weights for each sample of a bin along one axis; the weights are zero outside. */
function locate([start, size, grid], place, bins, samples, offset, cells, taps, weights) {
  for (let s = 0; s < samples; s++) {
    let point = start + (place + (s + 0.5) / samples) * (grid / bins) + offset * size;
    const inside = point >= -1 && point <= cells; // false for NaN
    point = inside ? Math.min(Math.max(point, 0), cells - 1) : 0;
    const low = Math.floor(point);
    taps[2 * s] = low;
    taps[2 * s + 1] = Math.min(low + 1, cells - 1);
    weights[2 * s] = inside ? (low + 1 - point) / samples : 0;
    weights[2 * s + 1] = inside ? (point - low) / samples : 0;
  }
}

/**
 * Pool a region.
 *
 * @param {FeatureMap} map
 * @param {number[]} box x1, y1, x2, y2 in pixels of the image that the backbone saw
 * @param {ArrayLike<number> | null} offsets [bins, bins, 2] (dx, dy) in fractions of the box's size
 * @param {Pooling} pooling
 * @param {(bin: number, values: Float64Array) => void} write gets the channels of each bin
 */
export function poolRegion({ cells, height, width, channels, scale }, [x1, y1, x2, y2], offsets, { bins, samples, aligned }, write) {
  const [alongX, alongY] = [frameOf(x1, x2, scale, aligned), frameOf(y1, y2, scale, aligned)];
  const [tapsX, tapsY] = [new Int32Array(2 * samples), new Int32Array(2 * samples)];
  const [weightsX, weightsY] = [new Float64Array(2 * samples), new Float64Array(2 * samples)];
  const values = new Float64Array(channels);
  for (let bin = 0; bin < bins * bins; bin++) {
    const [dx, dy] = offsets ? [offsets[2 * bin], offsets[2 * bin + 1]] : [0, 0];
    locate(alongX, bin % bins, bins, samples, dx, width, tapsX, weightsX);
    locate(alongY, Math.floor(bin / bins), bins, samples, dy, height, tapsY, weightsY);
    values.fill(0);
    for (let a = 0; a < 2 * samples; a++) {
      for (let b = 0; b < 2 * samples; b++) {
        const weight = weightsY[a] * weightsX[b];
        if (weight === 0) continue;
        const cell = (tapsY[a] * width + tapsX[b]) * channels;
        for (let c = 0; c < channels; c++) values[c] += weight * cells[cell + c];
      }
    }
    write(bin, values);
  }
}
