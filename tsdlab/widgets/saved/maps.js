// The sensitivity maps of an image: what widgets/saved/maps.py stores. Pictures are made when they are first looked at.

import { html } from "../page/dom.js";

const OPAQUE = 127; // the value where a picture is opaque

export class StoredMaps {
  /**
   * @param messages what is told about maps, without pictures; see maps.py
   * @param bytes the values of their pictures
   * @param palette colours by task, as #rrggbb
   */
  constructor(messages, bytes, palette) {
    let at = 0;
    for (const message of messages) {
      const [rows, columns] = message.shape;
      for (const level of Object.values(message.levels)) {
        for (const task of ["classification", "localization"]) {
          const values = bytes.subarray(at, (at += rows * columns));
          Object.defineProperty(level[task], "url", { configurable: true, get: () => keep(level[task], pictureOf(values, columns, palette[task])) });
        }
      }
    }
    this.messages = messages;
  }

  /** What the page is told about a model's maps; undefined where there is no such object. */
  find(wanted) {
    return this.messages.find((message) => Object.entries(wanted).every(([name, value]) => message[name] === value));
  }
}

function keep(map, url) {
  Object.defineProperty(map, "url", { value: url });
  return url;
}

/** A picture in one colour, clear where a value is 0. */
function pictureOf(values, columns, color) {
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  const canvas = html("canvas", { width: columns, height: values.length / columns });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(columns, values.length / columns);
  const sums = summed(values, columns);
  for (let i = 0; i < values.length; i++) picture.data.set([red, green, blue, Math.round((255 * sums[i]) / OPAQUE)], 4 * i);
  context.putImageData(picture, 0, 0);
  return canvas.toDataURL();
}

/** Each value is the difference to the one before, along rows and columns. */
function summed(values, columns) {
  const sums = Uint8Array.from(values);
  for (let i = 0; i < sums.length; i++) if (i % columns) sums[i] += sums[i - 1];
  for (let i = columns; i < sums.length; i++) sums[i] += sums[i - columns];
  return sums;
}
