// Single proposals: examples from small to large x, and the selected one.

import { button, html } from "../page/dom.js";
import { crop, nothing } from "./shapes.js";

export class Examples {
  constructor(page) {
    this.page = page;
    this.order = html("span");
    this.body = html("div", { class: "body" });
    this.element = html("section", { class: "panel examples" }, html("h4", {}, "Examples", this.order), this.body);
  }

  draw() {
    const { page } = this;
    const column = page.column(page.state("x"));
    this.order.textContent = `from small to large ${column.title}`;
    const cards = page.told("shown").examples.map((example) =>
      button([crop(example), html("span", {}, example.category, html("b", {}, page.format(example.values[column.name], column)))],
        "open this proposal in the explorer", () => page.set({ selected: example.row }), { class: "card" }));
    this.body.replaceChildren(...(cards.length ? cards : [nothing()]));
  }
}

export class Selected {
  constructor(page) {
    this.page = page;
    this.body = html("div", { class: "body" });
    this.element = html("section", { class: "panel opened" }, html("h4", {}, "Selected"), this.body);
  }

  draw() {
    const { page } = this;
    const opened = page.told("opened");
    if (opened.row === undefined) {
      const hint = "Click a point or an example to see its proposal here and in the explorer.";
      this.body.replaceChildren(html("p", { class: "empty" }, hint));
      return;
    }
    const columns = [...new Set([page.state("x"), page.state("y")])].map((name) => page.column(name));
    this.body.replaceChildren(
      crop(opened),
      html("p", { class: "caption" }, html("b", {}, opened.category), ` in image ${opened.image}, level ${opened.level}`,
        button("clear", "select no proposal", () => page.set({ selected: null }), { class: "clear" })),
      html("table", {}, columns.map((column) =>
        html("tr", {}, html("th", {}, column.label), html("td", {}, page.format(opened.values[column.name], column))))));
  }
}
