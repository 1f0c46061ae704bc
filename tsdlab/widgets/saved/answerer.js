// What answers a saved page: the page itself. Nobody else is asked, so what needs Python is refused with a sentence.

import { Computing } from "../explorer/computing.js";
import { ordered, refusalOf } from "../explorer/geometry.js";
import { pythonLine } from "./python_line.js";
import { refusalBy } from "./rules.js";
import { unpackText } from "./unpack_text.js";

// Fields whose other values need Python.
const FOR_PYTHON = { category: "A filter", size: "A filter", order: "Another order" };

/**
 * @typedef {object} Stored what widgets/saved/page.py writes
 * @property state the fields, as the page opens; `usual` are their defaults, `rules` those that rules.js checks
 * @property told what the page is told while it is open, by subject
 * @property {{about, parts: string[]}} heads by model; the ids of the elements that hold the layers
 * @property {{message, proposal, pyramids: {about, parts: string[]}}[]} images in the order in which they are shown
 */

export class StoredAnswerer {
  /** @param {Stored} stored; @param computing has the heads and the pyramids of the first image */
  constructor(stored, computing, page) {
    Object.assign(this, { stored, computing, page, fields: { ...stored.state }, serial: 0, wanted: null, busy: false });
  }

  get who() {
    return "answered by this page";
  }

  state(name) {
    return this.fields[name];
  }

  told(name) {
    if (name === "image") return imageOf(this.stored, this.fields.image_index).message;
    if (name === "answer") return this.computing.answer(this.told("image"), ordered(this.fields.proposal), this.fields.level);
    if (name === "python") return pythonLine(this.stored.call, this.fields, this.stored.usual);
    return this.stored.told[name];
  }

  ask({ set = {}, go = 0 }) {
    const refused = this.refusalOf(set);
    if (refused) return this.page.say(refused);
    const { images } = this.stored;
    const here = images.indexOf(imageOf(this.stored, this.wanted?.index ?? this.fields.image_index));
    const index = go ? images.at((here + go) % images.length).message.index : set.image_index;
    if (index === undefined || index === this.fields.image_index) this.answer(set);
    else this.open({ index, set });
  }

  /** Why a change is refused; null if it is not. */
  refusalOf(set) {
    for (const [name, value] of Object.entries(set)) {
      const refused = this.refusalOfField(name, value);
      if (refused) return refused;
    }
    return null;
  }

  refusalOfField(name, value) {
    const { rules, images } = this.stored;
    if (name in FOR_PYTHON) return `${FOR_PYTHON[name]} needs Python; this is a saved page.`;
    if (name === "proposal") return refusalOf(value);
    if (name === "image_index") return imageOf(this.stored, value) ? null : `the page holds ${images.length} images, and not image ${value}`;
    return name in rules ? refusalBy(rules[name], name, value) : `the explorer has no ${name}`;
  }

  answer(set) {
    Object.assign(this.fields, set);
    this.page.changed();
    this.page.redraw();
    this.page.answered(++this.serial);
  }

  /** Open an image; the one before stays until it is unpacked. Of several that are asked for meanwhile, the last one. */
  async open(wanted) {
    this.wanted = wanted;
    if (this.busy) return;
    this.busy = true;
    this.page.changed();
    while (this.wanted) {
      const { index, set } = this.wanted;
      this.wanted = null;
      await takeImage(this.stored, this.computing, index);
      this.busy = this.wanted !== null;
      this.answer({ proposal: imageOf(this.stored, index).proposal, ...set, image_index: index });
    }
  }

  close() {}
}

/** Unpack the heads and the first image, then give what a page connects to; see page/protocol.js. */
export async function openStored(stored) {
  const computing = new Computing();
  computing.takeHeads(stored.heads.about, await unpackText(stored.heads.parts));
  await takeImage(stored, computing, stored.state.image_index);
  return (page) => new StoredAnswerer(stored, computing, page);
}

const imageOf = ({ images }, index) => images.find(({ message }) => message.index === index);

async function takeImage(stored, computing, index) {
  if (computing.has(index)) return;
  const { about, parts } = imageOf(stored, index).pyramids;
  computing.takePyramids(index, about, await unpackText(parts));
}
