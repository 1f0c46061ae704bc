// float16 values that are stored in a page as text: the other side of widgets/saved/text.py.

/** A DataView for each part; a part is the id of the element that holds it. */
export const unpackText = (parts) => Promise.all(parts.map(async (id) => joined(await inflated(bytesOf(id)))));

function bytesOf(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** All low bytes and then all high bytes → the values. */
function joined(planes) {
  const half = planes.length / 2;
  const values = new Uint8Array(planes.length);
  for (let i = 0; i < half; i++) {
    values[2 * i] = planes[i];
    values[2 * i + 1] = planes[half + i];
  }
  return new DataView(values.buffer);
}
