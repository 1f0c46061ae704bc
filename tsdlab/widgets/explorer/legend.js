// The row above the images: what is drawn, in which colour; which arrows, which map, how close.

import { button, html, segments, select } from "../page/dom.js";
import { percent } from "../page/numbers.js";
import { ARROW_KINDS, LAYERS, mapOf, patternOf } from "./layers.js";

export const MAGNIFICATIONS = [1, 2, 5, 10, 20];

/** A piece of a line in the colour of a role; `kind` is how the line looks, or "bar". */
export const swatch = (role, kind = "solid") => html("i", { class: `swatch ${kind}`, style: `--color: var(--${role})` });

export class Legend {
  constructor(page) {
    this.page = page;
    const { branches, series } = page.fixed;
    this.layers = Object.entries(LAYERS).map(([layer, { label, color, mark, key }]) => {
      const swatches = mark ? [swatch(color, mark)] : series.map(({ line }) => swatch(color, line));
      return button([...swatches, html("span", {}, label())], `show or hide (${key.toUpperCase()})`, () => this.toggle(layer),
        { class: "layer", "data-layer": layer });
    });
    const choose = (field) => (value) => page.set({ [field]: value });
    this.selects = {
      arrows: select("arrows from P to where it is read: one for each task, all of every bin, or this object's own without the pattern common to all (L)", ARROW_KINDS.map(([value, label]) => [value, `arrows: ${label}`]), choose("arrows")),
      magnify: select("draw the arrows this many times as long (M)",
        MAGNIFICATIONS.map((factor) => [factor, `×${factor}`]), (factor) => page.set({ magnify: Number(factor) })),
      underlay: select("sensitivity map under the boxes (U)",
        [[null, "no map"], ["classification", "classification map"], ["localization", "localization map"]], choose("underlay")),
      underlay_branch: select("branch whose map is shown (B)",
        [[null, "branch in use"], ...branches.map((name) => [name, `branch ${name}`])], choose("underlay_branch")),
    };
    const { arrows, magnify, ...maps } = this.selects;
    this.opacity = html("input", {
      type: "range", min: 0, max: 1, step: 0.05, title: "opacity of the map ( , and . )", "aria-label": "opacity of the map",
      oninput: () => page.set({ opacity: Number(this.opacity.value) }),
    });
    this.scale = html("span", { class: "scale" });
    this.whole = button("whole", "see the whole image (H)", () => page.zoom.fit());
    const zoom = html("span", { class: "segments" },
      button("−", "zoom out (−)", () => page.zoom.by(1 / 1.5)), this.whole, button("+", "zoom in (+)", () => page.zoom.by(1.5)));
    this.note = html("p", { class: "note" });
    const group = (...children) => html("span", { class: "group" }, children);
    this.element = html("div", { class: "legend" },
      group(html("span", { class: "layer fixed" }, swatch("proposal"), html("span", {}, "P")), this.layers),
      group(arrows, magnify), group(Object.values(maps), this.opacity, this.scale), group(zoom, page.play.element), this.note);
  }

  draw() {
    const { page } = this;
    for (const element of this.layers) {
      const { layer } = element.dataset;
      element.ariaPressed = String(page.state("layers").includes(layer));
      element.hidden = (layer === "salient" && !page.told("image").salient.length)
        || (layer in { classification: 0, localization: 0 } && !this.everyRegion.includes(layer));
    }
    for (const [field, element] of Object.entries(this.selects)) element.value = page.state(field) ?? "";
    this.selects.arrows.hidden = this.selects.magnify.hidden = !this.everyRegion.length;
    if (document.activeElement !== this.opacity) this.opacity.value = page.state("opacity");
    const underlay = page.state("underlay");
    this.selects.underlay_branch.hidden = page.fixed.branches.length < 2 || !underlay;
    this.opacity.hidden = !underlay;
    this.whole.disabled = page.zoom.factor === 1;
    this.drawScale(underlay);
    const note = page.state("arrows") === "own" ? this.pattern() : "";
    this.note.hidden = !note;
    if (this.note.textContent !== note) this.note.textContent = note;
  }

  /** What the model in focus says of P, pooled from the level in use. */
  get used() {
    const own = this.page.told("answer").models[this.page.state("focus")];
    return own.levels[own.level];
  }

  /** The tasks of which any model moves the region. */
  get everyRegion() {
    return Object.values(this.page.told("answer").models).flatMap(({ level, levels }) => Object.keys(levels[level].regions));
  }

  drawScale(underlay) {
    const { page, scale } = this;
    scale.hidden = !underlay;
    if (!underlay) return;
    const { level } = page.told("answer").models[page.state("focus")];
    const map = mapOf(page, page.state("focus"), level);
    scale.classList.toggle("empty", !map);
    scale.style.setProperty("--color", `var(--${underlay})`);
    const text = map ? scaleOf(underlay, map) : this.missing;
    if (scale.textContent !== text) scale.textContent = text;
  }

  get missing() {
    return this.page.told("answer").nearest ? "the map comes from Python …" : "no object, no map";
  }

  /** How much of the displacement of each task whose bins are moved one by one is the same for every proposal. */
  pattern() {
    const { page, used: { regions } } = this;
    const focus = page.state("focus");
    const shares = Object.entries(regions).filter(([, { points }]) => points).map(([task, region]) => {
      const pattern = patternOf(page, focus, task);
      const symbol = task === "classification" ? "|ΔC|" : "|ΔR|";
      if (!pattern) return "The pattern that is common to all proposals comes from Python …";
      const left = this.leftOf(region, pattern.offsets);
      return `${symbol} is ${percent(region.moved)} of P. The pattern common to all proposals (mean over ${page.told("pattern").images} images) is `
        + `${percent(pattern.moved)}${left === null ? "" : `; without it, ${percent(left)} are left, which the arrows show`}.`;
    });
    return [...new Set(shares)].join(" ");
  }

  /** Mean length of the offsets without a pattern; null for a box without an area. */
  leftOf({ points }, pattern) {
    const [x1, y1, x2, y2] = this.page.told("answer").proposal;
    if (x1 === x2 || y1 === y2) return null;
    const bins = Math.round(Math.sqrt(points.length));
    return points.reduce((sum, [x, y], i) => {
      const [column, row] = [i % bins, Math.floor(i / bins)];
      const [dx, dy] = [(x - x1) / (x2 - x1) - (column + 0.5) / bins, (y - y1) / (y2 - y1) - (row + 0.5) / bins];
      return sum + Math.hypot(dx - pattern[i][0], dy - pattern[i][1]);
    }, 0) / points.length;
  }

  toggle(layer) {
    const layers = this.page.state("layers");
    this.page.set({ layers: layers.includes(layer) ? layers.filter((name) => name !== layer) : [...layers, layer] });
  }
}

/** From where a map is clear to where it has its full colour. */
export const scaleOf = (task, map) => `${task === "classification" ? "score" : "IoU"} 0 … ${digits(map[task].top)}`;

/** With two significant digits, whatever the size. */
const digits = (value) => (value >= 0.1 ? value.toFixed(2) : value.toPrecision(2));
