// The row under the images: what is drawn, in which colour, and the sensitivity map.

import { button, html, segments, select } from "../page/dom.js";
import { LAYERS } from "./layers.js";

export const MAGNIFICATIONS = [1, 2, 5, 10, 20];

/** A piece of a line in the colour of a role; `kind` is how the line looks, or "bar". */
export const swatch = (role, kind = "solid") => html("i", { class: `swatch ${kind}`, style: `--color: var(--${role})` });

export class Legend {
  constructor(page) {
    this.page = page;
    const { branches, series, gradient } = page.fixed;
    this.layers = Object.entries(LAYERS).map(([layer, { label, color, mark, key }]) => {
      const swatches = mark ? [swatch(color, mark)] : series.map(({ line }) => swatch(color, line));
      return button([...swatches, html("span", {}, label())], `show or hide (${key.toUpperCase()})`, () => this.toggle(layer),
        { class: "layer", "data-layer": layer });
    });
    this.magnify = segments(MAGNIFICATIONS.map((factor) => [factor, `${factor}×`, "draw displacements this many times as long (M)"]),
      (magnify) => page.set({ magnify }));
    this.selects = {
      underlay: select("sensitivity map under the boxes (U)",
        [[null, "no map"], ["classification", "classification map"], ["localization", "localization map"]], (underlay) => page.set({ underlay })),
      underlay_branch: select("branch whose map is shown (B)",
        [[null, "of the branch that detects"], ...branches.map((name) => [name, `of branch ${name}`])], (underlay_branch) => page.set({ underlay_branch })),
    };
    this.opacity = html("input", {
      type: "range", min: 0, max: 1, step: 0.05, title: "opacity of the map ( , and . )", "aria-label": "opacity of the map",
      oninput: () => page.set({ opacity: Number(this.opacity.value) }),
    });
    this.scale = html("span", { class: "scale", style: `--gradient: ${gradient.join(", ")}` });
    const group = (...children) => html("span", { class: "group" }, children);
    this.element = html("div", { class: "legend" },
      group(html("span", { class: "layer fixed" }, swatch("proposal"), html("span", {}, "P: proposal")), this.layers),
      group(html("label", {}, "displacements"), this.magnify.element),
      group(Object.values(this.selects), this.opacity, this.scale));
  }

  draw() {
    const { page } = this;
    for (const element of this.layers) {
      element.ariaPressed = String(page.state("layers").includes(element.dataset.layer));
      element.hidden = element.dataset.layer === "salient" && !page.told("image").salient.length;
    }
    this.magnify.press(page.state("magnify"));
    for (const [field, element] of Object.entries(this.selects)) element.value = page.state(field) ?? "";
    if (document.activeElement !== this.opacity) this.opacity.value = page.state("opacity");
    const map = page.told("maps")[page.state("focus")];
    this.selects.underlay_branch.hidden = page.fixed.branches.length < 2 || !page.state("underlay");
    this.opacity.hidden = !page.state("underlay");
    this.scale.hidden = !map;
    if (map) this.scale.dataset.top = map.top.toFixed(2);
  }

  toggle(layer) {
    const layers = this.page.state("layers");
    this.page.set({ layers: layers.includes(layer) ? layers.filter((name) => name !== layer) : [...layers, layer] });
  }
}
