// What answers a saved page: the page itself. Nobody else is asked, so what needs Python is refused with a sentence.

import { ordered, refusalOf } from "../explorer/geometry.js";
import { StoredImages } from "./images.js";
import { pythonLine } from "./python_line.js";
import { refusalBy } from "./rules.js";

// Fields whose other values need Python.
const FOR_PYTHON = {
  category: "A filter", size: "A filter", order: "Another order", step: "Another step of the training",
};

/**
 * @typedef {object} Stored what widgets/saved/stored.py writes; a part is the id of the element that holds it
 * @property state the fields, as the page opens; `usual` are their defaults, `rules` those that rules.js checks
 * @property {string} call the beginning of the line of Python that shows the view again
 * @property told what stays the same while the page is open, by subject
 * @property {{about, parts: string[]}} heads by model
 * @property {{message, proposal, pyramids: {about, parts: string[]}, maps: {messages, part: string}}[]} images
 */

export class StoredAnswerer {
  /** @param {Stored} stored; @param {StoredImages} images with the heads and the first image opened */
  constructor(stored, images, page) {
    Object.assign(this, { stored, images, page, fields: { ...stored.state }, serial: 0, wanted: null, busy: false });
  }

  get who() {
    return "answered by this page";
  }

  state(name) {
    return this.fields[name];
  }

  told(name) {
    const { image_index: index, proposal, level } = this.fields;
    if (name === "image") return this.images.at(index).message;
    if (name === "answer") return this.images.computing.answer(this.told("image"), ordered(proposal), level);
    if (name === "maps") return this.maps();
    if (name === "python") return pythonLine(this.stored.call, this.fields, this.stored.usual);
    return this.stored.told[name];
  }

  /** The maps of the object that P is nearest to, by model. */
  maps() {
    const { nearest, models } = this.told("answer");
    const { image_index: index, underlay, level, underlay_branch: wanted } = this.fields;
    if (!underlay || !nearest) return {};
    const pooling = level === null ? "assigned" : "level";
    return Object.fromEntries(Object.entries(models).map(([model, { branches }]) => {
      const branch = wanted in branches ? wanted : Object.keys(branches).at(-1);
      return [model, this.images.maps.get(index).find({ model, pooling, branch, object: nearest.index })];
    }));
  }

  ask({ set = {}, go }) {
    const refused = Object.entries(set).map(([name, value]) => this.refusalOf(name, value)).find(Boolean);
    if (refused) return this.page.say(refused);
    const index = go ? this.images.after(this.wanted?.index ?? this.fields.image_index, go) : set.image_index;
    if (index === undefined || index === this.fields.image_index) this.answer(set);
    else this.open({ index, set });
  }

  /** Why a field cannot have a value; null if it can. */
  refusalOf(name, value) {
    const { rules } = this.stored;
    if (name in FOR_PYTHON) return `${FOR_PYTHON[name]} needs Python; this is a saved page.`;
    if (name === "proposal") return refusalOf(value);
    if (name === "image_index") return this.images.at(value) ? null : `The page does not hold image ${value}.`;
    return name in rules ? refusalBy(rules[name], name, value) : `The explorer has no ${name}.`;
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
      await this.images.open(index);
      this.busy = this.wanted !== null;
      this.answer({ proposal: this.images.at(index).proposal, ...set, image_index: index });
    }
  }

  close() {}
}

/** Unpack the heads and the first image, then give what a page connects to; see page/protocol.js. */
export async function openStored(stored) {
  const images = new StoredImages(stored);
  await images.openHeads();
  await images.open(stored.state.image_index);
  return (page) => new StoredAnswerer(stored, images, page);
}
