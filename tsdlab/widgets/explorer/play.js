// Play: P slides across the object that it is nearest to, and leaves behind what each branch says of it on the way.
//
// The object's own box is P. It begins 70 % of its width left of the object and ends as far right of it.

import { button, html, setAttributes, svg } from "../page/dom.js";
import { LINES } from "./layers.js";
import { swatch } from "./legend.js";

const REACH = 0.7; // of the object's width
const LASTS = 5000; // ms
const STEPS = 14; // that a person takes by hand who wants less motion
const [TALL, LEFT, ABOVE, RIGHT, BELOW] = [124, 34, 8, 8, 32];

export class Play {
  constructor(page) {
    this.page = page;
    this.plots = page.fixed.models.map((model) => new SlidePlot(page, model));
    this.button = button("▶ play", "slide P across the object and draw score and IoU on the way (W)", () => this.press(), { class: "play" });
    this.element = this.button;
    // Any input stops it; what the input means is done as well.
    for (const name of ["pointerdown", "keydown", "wheel"]) {
      page.root.addEventListener(name, (event) => this.interrupt(event), { capture: true, passive: true });
    }
  }

  get running() {
    return Boolean(this.slide);
  }

  press() {
    if (this.slide && !this.slide.byHand) return this.stop();
    if (this.slide) return this.step();
    this.start();
  }

  start() {
    const { page } = this;
    const { nearest, image } = page.told("answer");
    if (!nearest) return page.say("There is no object in this image that P could slide across.");
    const { box } = page.told("image").objects[nearest.index];
    const byHand = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.slide = { image, box, byHand, begun: performance.now(), shift: null, before: page.state("proposal"), steps: 0 };
    for (const plot of this.plots) plot.begin(nearest, image);
    this.plots[0].element.scrollIntoView({ block: "nearest" }); // below the image, maybe below what is seen
    if (byHand) page.say(`Your system asks for less motion: press again for each of ${STEPS} steps.`);
    this.move(-REACH);
  }

  step() {
    const { slide } = this;
    slide.steps += 1;
    this.move(-REACH + (2 * REACH * slide.steps) / STEPS);
  }

  move(shift) {
    const { box: [x1, y1, x2, y2] } = this.slide;
    this.slide.shift = shift;
    const by = shift * (x2 - x1);
    this.page.set({ proposal: [x1 + by, y1, x2 + by, y2] });
  }

  /** Called when the page is drawn: keep what was answered, and go on. */
  draw() {
    const { slide, page } = this;
    for (const plot of this.plots) plot.keepTo(page.told("image").index);
    this.button.textContent = slide && !slide.byHand ? "■ stop" : slide ? `▶ step ${slide.steps} of ${STEPS}` : "▶ play";
    if (!slide) return;
    const answer = page.told("answer");
    if (answer.image !== slide.image) return this.stop();
    const { shift, box: [x1, , x2], recorded } = slide;
    if (recorded === shift || Math.abs(answer.proposal[0] - (x1 + shift * (x2 - x1))) > 0.02) return; // no answer yet
    slide.recorded = shift;
    for (const plot of this.plots) plot.add(shift, answer);
    if (shift >= REACH) return this.finish();
    if (!slide.byHand) this.frame = requestAnimationFrame((now) => this.move(Math.min(REACH, -REACH + (2 * REACH * (now - slide.begun)) / LASTS)));
  }

  /** P goes back to where it was. */
  finish() {
    const { before } = this.slide;
    this.stop();
    this.frame = requestAnimationFrame(() => this.page.set({ proposal: before }));
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.slide = null;
    this.page.schedule();
  }

  interrupt(event) {
    const ownInput = event.target === this.button || (event.key ?? "").toLowerCase() === "w" || event.key === "Tab";
    if (this.slide && !ownInput) this.stop();
  }

  close() {
    cancelAnimationFrame(this.frame);
  }
}

/** The curves of one model: score and IoU of each branch, and the IoU of P itself, against the shift. */
class SlidePlot {
  constructor(page, model) {
    Object.assign(this, { page, model });
    const told = (branch, read) => ({ models, nearest }) => read(models[model].branches[branch], nearest);
    this.curves = [
      this.curve("proposal", undefined, ({ nearest }) => nearest.overlap),
      ...page.fixed.series.filter((entry) => entry.model === model).flatMap(({ branch, line }) => [
        this.curve("classification", LINES[line], told(branch, ({ scores }, { label }) => scores[label])),
        this.curve("localization", LINES[line], told(branch, ({ iou }) => iou ?? 0)),
      ]),
    ];
    this.now = svg("line", { y1: ABOVE, y2: TALL - BELOW, class: "now" });
    this.plot = svg("svg", { height: TALL, role: "img", "aria-label": "score and IoU against the shift of P" });
    const own = page.fixed.series.filter((entry) => entry.model === model);
    const lines = own.length > 1 ? own.map(({ label, line }) => html("span", {}, swatch("proposal", line), label)) : [];
    const key = html("div", { class: "curve-key" },
      ...[["classification", "score of the class"], ["localization", "IoU of the decoded box"], ["proposal", "IoU of P itself"]]
        .map(([role, text]) => html("span", {}, html("i", { class: `swatch ${role}`, style: `--color: var(--${role})` }), text)), ...lines);
    this.element = html("div", { class: "slide", hidden: true, "data-model": model },
      this.plot, key);
  }

  /** As wide as there is room, so that its text has the size of other text. */
  axes(name) {
    this.wide = Math.max(this.element.clientWidth, 240);
    const axes = [0, 0.5, 1].map((value) => [
      svg("line", { x1: LEFT, x2: this.wide - RIGHT, y1: this.y(value), y2: this.y(value), class: "grid" }),
      svg("text", { x: LEFT - 5, y: this.y(value) + 4, "text-anchor": "end" }, value.toFixed(1))]);
    const ticks = [-0.5, 0, 0.5].map((value) =>
      svg("text", { x: this.x(value), y: TALL - BELOW + 13, "text-anchor": "middle" }, `${value < 0 ? "−" : ""}${Math.abs(100 * value)} %`));
    const title = svg("text", { x: (LEFT + this.wide - RIGHT) / 2, y: TALL - 3, "text-anchor": "middle" }, `shift of P from ‘${name}’, in % of its width`);
    setAttributes(this.plot, { viewBox: `0 0 ${this.wide} ${TALL}` });
    this.plot.replaceChildren(...axes.flat(), ...ticks, title, ...this.curves.map(({ element }) => element), this.now);
  }

  /** @param read gives its value in an answer */
  curve(role, dash, read) {
    return { read, element: svg("path", { class: "curve", stroke: `var(--${role})`, "stroke-dasharray": dash, "data-curve": role }) };
  }

  x(shift) {
    return LEFT + ((shift + REACH) / (2 * REACH)) * (this.wide - LEFT - RIGHT);
  }

  y(value) {
    return ABOVE + (1 - value) * (TALL - ABOVE - BELOW);
  }

  begin({ index, name }, image) {
    this.element.hidden = false;
    Object.assign(this, { index, image, pen: "M" });
    for (const { element } of this.curves) element.setAttribute("d", "");
    this.axes(name);
  }

  /** The curves are about an object of one image; beside another image they would be read as that one's. */
  keepTo(image) {
    this.element.hidden = image !== this.image;
  }

  add(shift, answer) {
    if (answer.nearest.index === this.index) {
      for (const { element, read } of this.curves) {
        const place = `${this.pen}${this.x(shift).toFixed(1)} ${this.y(read(answer)).toFixed(1)}`;
        element.setAttribute("d", element.getAttribute("d") + place);
      }
    }
    this.pen = answer.nearest.index === this.index ? "L" : "M"; // a gap, where P is nearer to another object
    setAttributes(this.now, { x1: this.x(shift), x2: this.x(shift) });
  }
}
