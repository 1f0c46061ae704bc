// The images of a saved page. Each is unpacked when it is opened.

import { Computing } from "../explorer/computing.js";
import { StoredMaps } from "./maps.js";
import { storedBytes, unpackText } from "./unpack_text.js";

export class StoredImages {
  /** @param stored see answerer.js */
  constructor({ images, heads, told }) {
    Object.assign(this, { images, heads, palette: told.fixed.palette, computing: new Computing(), maps: new Map() });
  }

  /** What is stored about an image; undefined if the page does not hold it. */
  at(index) {
    return this.images.find(({ message }) => message.index === index);
  }

  /** The index of the image `by` places further on; the first one comes after the last one. */
  after(index, by) {
    return this.images.at((this.images.indexOf(this.at(index)) + by) % this.images.length).message.index;
  }

  async openHeads() {
    this.computing.takeHeads(this.heads.about, await unpackText(this.heads.parts));
  }

  async open(index) {
    const { pyramids, maps } = this.at(index);
    if (!this.computing.has(index)) this.computing.takePyramids(index, pyramids.about, await unpackText(pyramids.parts));
    if (!this.maps.has(index)) this.maps.set(index, new StoredMaps(maps.messages, await storedBytes(maps.part), this.palette));
  }
}
