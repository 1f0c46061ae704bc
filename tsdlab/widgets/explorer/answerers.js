// What answers an explorer's page: the page itself as far as it can, else Python.

import { KernelAnswerer } from "../page/protocol.js";
import { Computing, keyOf } from "./computing.js";
import { ordered, refusalOf } from "./geometry.js";

// Fields of which nothing follows but what the page computes and draws. Python is told a little later.
const OWN = ["proposal", "level", "opacity", "magnify", "layers", "list_by", "arrows", "underlay", "underlay_branch"];
const QUIET = 250; // ms without a change of them, until Python is told

/** Answers about a proposal here, once the heads and the features of the image have arrived; asks Python all else. */
export class LiveAnswerer extends KernelAnswerer {
  constructor(model, page) {
    super(model, page);
    Object.assign(this, { own: {}, computing: new Computing(), fetched: new Set() });
    const more = { "change:_image": () => this.open(), "change:step": () => this.fetch() };
    for (const [event, listener] of Object.entries(more)) model.on(event, listener);
    Object.assign(this.listeners, more);
    this.fetch();
  }

  /** Whether the page answers about the image that is open. */
  get computes() {
    return this.has(this.state("step"));
  }

  /** Whether the page answers about this image with the weights of a step. */
  has(step) {
    return this.computing.has(super.told("image").index, step);
  }

  get who() {
    const { by_kernel: why } = super.told("image");
    if (this.computes) return "answered by this page";
    return why ? `answered by Python: ${why}` : "answered by Python until the features of the image are here";
  }

  state(name) {
    return name in this.own ? this.own[name] : super.state(name);
  }

  told(name) {
    if (name !== "answer" || !this.computes) return super.told(name);
    return this.computing.answer(super.told("image"), ordered(this.state("proposal")), this.state("level"), this.state("step"));
  }

  ask({ set = {}, go }) {
    const refused = set.proposal && refusalOf(set.proposal);
    if (refused) return this.page.say(refused);
    clearTimeout(this.telling);
    const lacking = this.lost && this.computes && this.lackingFor(set, go);
    if (lacking) return this.page.say(`The kernel is gone, and ${lacking} without it. Run the cell again.`);
    if (go === undefined && this.computes && (this.lost || this.isOwn(set))) {
      Object.assign(this.own, set);
      this.telling = setTimeout(() => this.tell(), QUIET);
      this.page.changed();
      this.page.redraw();
      this.page.answered(++this.serial);
      return;
    }
    const { proposal, ...own } = this.own; // another image comes with another proposal
    const kept = go === undefined && !("image_index" in set) ? this.own : own;
    this.own = {};
    super.ask({ set: { ...kept, ...set }, go });
  }

  /** Whether nothing follows from a change but what the page computes and draws. */
  isOwn(set) {
    return Object.keys(set).every((name) => OWN.includes(name) || (name === "step" && this.has(set.step)));
  }

  /** What a change cannot do without Python; null if it can be done. */
  lackingFor(set, go) {
    const has = (name) => Object.keys(super.told(name) ?? {}).length > 0;
    if (go !== undefined || "image_index" in set) return "no other image can be opened";
    if ("step" in set && !this.has(set.step)) return "no other step can be loaded";
    if ("category" in set || "size" in set || "order" in set) return "images cannot be filtered or sorted";
    if ((set.underlay && !has("maps")) || "underlay_branch" in set) return "there is no such map";
    return set.arrows === "own" && !has("pattern") ? "what all proposals have in common cannot be measured" : null;
  }

  /** What was set here stays. */
  lose() {
    const asked = { ...this.sent?.set, ...this.wanted?.set };
    const kept = Object.entries(asked).filter(([name, value]) => this.computes && this.isOwn({ [name]: value }));
    this.own = { ...Object.fromEntries(kept), ...this.own };
    super.lose();
  }

  get without() {
    return this.computes ? "Proposal, level and layers still answer; other images, filters and new maps need it." : "";
  }

  /** Tell Python what the page has set. */
  tell() {
    if (this.lost) return;
    const set = this.own;
    this.own = {};
    this.queue({ set, quiet: true });
  }

  /** Another image is open, or more is told about it. A proposal that Python was not yet told belongs to the last one. */
  open() {
    const { index } = super.told("image");
    if (index !== this.opened) delete this.own.proposal;
    this.fetch();
  }

  /** Ask for what is missing to answer about the image that is open. */
  fetch() {
    const { index, by_kernel: byKernel } = super.told("image");
    this.opened = index;
    if (byKernel) return;
    const step = this.model.get("step");
    for (const [part, which] of [["heads", null], ["pyramid", index]]) {
      const key = `${part} ${keyOf(which, step)}`;
      if (this.fetched.has(key)) continue;
      this.fetched.add(key);
      this.post({ need: part, index: which, step });
    }
  }

  hear(content, buffers) {
    super.hear(content);
    const { part, index, step = null, about } = content;
    if (!part) return;
    if (!about) this.fetched.delete(`${part} ${keyOf(index, step)}`); // Python has gone on; to be asked for again
    else if (part === "heads") this.computing.takeHeads(about, buffers, step);
    else this.fetched.delete(`pyramid ${this.computing.takePyramids(index, about, buffers, step)}`);
    this.page.root.dataset.answers = this.computes ? "page" : "kernel";
    this.page.redraw();
  }

  close() {
    super.close();
    clearTimeout(this.telling);
  }
}
