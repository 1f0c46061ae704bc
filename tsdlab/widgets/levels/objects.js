// Single proposals: examples from small to large x, and the selected one, which has no panel before there is one.

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
    const hint = html("p", { class: "note" }, "A click on an example, or on a point of the plot, shows its proposal here and in the explorer.");
    this.body.replaceChildren(...(cards.length ? [...cards, hint] : [nothing()]));
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
    this.element.hidden = opened.row === undefined;
    if (this.element.hidden) return;
    const columns = [...new Set([page.state("x"), page.state("y")])].map((name) => page.column(name));
    this.body.replaceChildren(
      crop(opened),
      html("p", { class: "caption" }, html("b", {}, opened.category), ` in image ${opened.image}, level ${opened.level}`,
        button("clear", "select no proposal", () => page.set({ selected: null }), { class: "clear" })),
      html("table", {}, columns.map((column) =>
        html("tr", {}, html("th", {}, column.label), html("td", {}, page.number(opened.values[column.name], column))))));
  }
}
