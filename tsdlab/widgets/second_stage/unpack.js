// What Python packs for a page (widgets/second_stage/packing.py): one buffer of float16 values for all arrays in order.

// float16 → float32 by the bits, as a table: most engines cannot read float16.
let table = null;

function valueOf(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** All values of a DataView. */
export function unpackHalf({ buffer, byteOffset, byteLength }) {
  table ??= Float32Array.from({ length: 65536 }, (_, bits) => valueOf(bits));
  // A copy, because a part of a message may begin at an odd address.
  const bits = new Uint16Array(buffer.slice(byteOffset, byteOffset + byteLength));
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]];
  return values;
}

/** The layers of a head, by name. */
export function unpackLayers({ layers }, view) {
  const values = unpackHalf(view);
  let at = 0;
  const take = (length) => values.subarray(at, (at += length));
  return Object.fromEntries(layers.map(([name, outputs, inputs]) => [name, { weight: take(outputs * inputs), bias: take(outputs) }]));
}

/** The pyramid of an image; see `SecondStage.answer`. */
export function unpackPyramid({ maps, ratio, seen }, view) {
  const values = unpackHalf(view);
  let at = 0;
  return {
    ratio, seen,
    maps: maps.map(({ height, width, channels, scale }) =>
      ({ height, width, channels, scale, cells: values.subarray(at, (at += height * width * channels)) })),
  };
}
