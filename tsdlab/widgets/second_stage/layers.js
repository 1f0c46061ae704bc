// Fully connected layers on up to four inputs at once.
//
// A layer has more weights than a cache holds, so each weight is read once and used for every input. Inputs and outputs
// are interleaved: value i of input k is at 4 i + k.

export const LANES = 4;

/** Room for the values of four inputs. */
export const lanes = (values) => new Float32Array(LANES * values);

/**
 * W x + b for four inputs.
 *
 * @param {{weight: Float32Array, bias: Float32Array}} layer weight [outputs, inputs], bias [outputs]
 * @param {Float32Array} x [inputs, 4]
 * @param {boolean} rectified whether negative outputs become zero
 * @returns {Float32Array} [outputs, 4]
 */
export function linear({ weight, bias }, x, rectified = false) {
  const inputs = x.length / LANES;
  const outputs = bias.length;
  const y = lanes(outputs);
  // Two outputs at a time share what is read of the inputs; the last of an odd number is computed twice. Without
  // arrays, calls or conversions in the inner loop, an engine keeps all of it in registers.
  for (let o = 0; o < outputs; o += 2) {
    const p = Math.min(o + 1, outputs - 1);
    let a0 = bias[o], a1 = a0, a2 = a0, a3 = a0;
    let b0 = bias[p], b1 = b0, b2 = b0, b3 = b0;
    for (let i = 0, first = o * inputs, second = p * inputs, k = 0; i < inputs; i++, k += 4) {
      const v = weight[first + i], w = weight[second + i];
      const x0 = x[k], x1 = x[k + 1], x2 = x[k + 2], x3 = x[k + 3];
      a0 += v * x0; a1 += v * x1; a2 += v * x2; a3 += v * x3;
      b0 += w * x0; b1 += w * x1; b2 += w * x2; b3 += w * x3;
    }
    y.set([a0, a1, a2, a3], LANES * o);
    y.set([b0, b1, b2, b3], LANES * p);
  }
  return rectified ? y.map((value) => Math.max(value, 0)) : y;
}

/** The values of input `k`. */
export const lane = (x, k) => Float64Array.from({ length: x.length / LANES }, (_, i) => x[LANES * i + k]);

/** Exponentials that sum to one. */
export function softmax(logits) {
  const top = logits.reduce((a, b) => Math.max(a, b));
  const powers = logits.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / sum);
}
