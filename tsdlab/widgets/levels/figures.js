// The means of a few columns, in large digits.

import { html } from "../page/dom.js";

// How far the regions are moved, where to, and with what gain.
const MOVED = { classification_offset: "classification moved, |ΔC|", localization_offset: "localization moved, |ΔR|" };
const FIGURES = [
  ...Object.keys(MOVED), "grid_on_salient", "moved_on_salient", "centre_distance", "localization_centre_distance",
];

export class Figures {
  constructor(page) {
    this.page = page;
    this.element = html("div", { class: "figures" });
  }

  draw() {
    const { page } = this;
    const { total, images, means: meansOfAll } = page.fixed;
    const { count, means } = page.told("shown");
    const columns = FIGURES.filter((name) => meansOfAll[name] !== null).map((name) => page.column(name));
    const figure = (value, text, reference, column) =>
      html("div", { class: column?.role, title: column?.explanation },
        html("span", { class: "name" }, text), html("span", { class: "value" }, value), html("span", { class: "reference" }, reference));
    this.element.replaceChildren(
      figure(String(count), `proposals in ${images} images`, `of ${total}`),
      ...columns.map((column) => figure(page.format(means[column.name], column), MOVED[column.name] ?? column.title,
        count < total ? `mean; all: ${page.format(meansOfAll[column.name], column)}` : "mean", column)));
  }
}
