// The top row: which proposals are shown.

import { html, segments, select } from "../page/dom.js";
import { levelKey } from "./shapes.js";
import { SizeRange } from "./size_range.js";

export class Filters {
  constructor(page) {
    this.page = page;
    const { levels, categories } = page.fixed;
    this.levels = segments(["all", ...levels].map((name, i) => [name, [i ? levelKey(page, i - 1) : null, name, html("small")], i ? `show only level ${name}` : "show all levels"]),
      (level) => page.set({ level }), { role: "group", "aria-label": "level" });
    this.category = select("show only objects of this class", ["all", ...categories].map((name) => [name, name]), (category) => page.set({ category }));
    this.size = new SizeRange(page);
    this.reset = html("button", { type: "button", class: "reset", onclick: () => this.showAll() }, "show all");
    this.element = html("header", {},
      html("span", { class: "group" }, html("label", {}, "level"), this.levels.element),
      html("span", { class: "group" }, html("label", {}, "class"), this.category),
      html("span", { class: "group" }, html("label", { title: "square root of the proposal's area" }, "√area of P"), this.size.element, this.size.text),
      this.reset);
  }

  showAll() {
    this.page.set({ level: "all", category: "all", size: this.page.fixed.size });
  }

  draw() {
    const { page } = this;
    const { levels, categories } = page.told("shown");
    this.levels.press(page.state("level"));
    this.levels.buttons.forEach((button, i) => { button.lastChild.textContent = levels[i]; });
    ["all", ...page.fixed.categories].forEach((name, i) => { this.category.options[i].textContent = `${name}  (${categories[i]})`; });
    this.category.value = page.state("category");
    this.reset.disabled = page.state("level") === "all" && page.state("category") === "all" && !this.size.narrowed;
    this.size.draw();
  }
}
