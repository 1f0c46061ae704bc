// Which images are stepped through.

import { html, panel, select } from "../page/dom.js";

const COCO_SIZES = { small: "small: below 32² px²", medium: "medium: below 96² px²", large: "large: from 96² px²" };

export class Filters {
  constructor(page) {
    this.page = page;
    const { names, sizes } = page.fixed;
    const choose = (field) => (value) => page.set({ [field]: value });
    this.selects = {
      category: select("show only images with an object of this class (X)",
        [[null, "any class"], ...names.slice(1).map((name) => [name, name])], choose("category")),
      size: select("show only images with an object of this size (Z)",
        [[null, "any size"], ...sizes.map((size) => [size, COCO_SIZES[size] ?? size])], choose("size")),
    };
    this.element = panel("Images with an object of", html("span", { class: "group" }, Object.values(this.selects)));
    this.element.dataset.needs = "python";
  }

  draw() {
    for (const [field, element] of Object.entries(this.selects)) element.value = this.page.state(field) ?? "";
  }
}
