// Values that are stored in a page as text: the other side of widgets/saved/text.py.

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%,()*+-;.=/?@^_`{|}~";
const valueOf85 = new Uint8Array(128);
for (let i = 0; i < DIGITS.length; i++) valueOf85[DIGITS.charCodeAt(i)] = i;

/** A DataView of float16 values for each part; a part is the id of the element that holds it. */
export const unpackText = (parts) => Promise.all(parts.map(async (id) => fromPlanes(await storedBytes(id))));

/** The bytes that an element holds. */
export async function storedBytes(id) {
  const stream = new Blob([from85(document.getElementById(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Five digits of base 85 are four bytes. The first digit says how many of the last ones are none. */
function from85(text) {
  const groups = new DataView(new ArrayBuffer(((text.length - 1) / 5) * 4));
  for (let i = 1, at = 0; i < text.length; i += 5, at += 4) {
    let word = 0;
    for (let k = i; k < i + 5; k++) word = 85 * word + valueOf85[text.charCodeAt(k)];
    groups.setUint32(at, word);
  }
  return new Uint8Array(groups.buffer, 0, groups.byteLength - valueOf85[text.charCodeAt(0)]);
}

/** All low bytes and then all high bytes → the values. */
function fromPlanes(planes) {
  const half = planes.length / 2;
  const values = new Uint8Array(planes.length);
  for (let i = 0; i < half; i++) {
    values[2 * i] = planes[i];
    values[2 * i + 1] = planes[half + i];
  }
  return new DataView(values.buffer);
}
