// The top row: step through images, filter them, choose the level, keep the view.

import { button, html, segments, select } from "../page/dom.js";

const COCO_SIZES = { small: "small: below 32² px²", medium: "medium: below 96² px²", large: "large: from 96² px²" };

export class Bar {
  constructor(page) {
    this.page = page;
    const { names, sizes, levels } = page.fixed;
    this.place = html("span", { class: "place" });
    const choose = (field) => (value) => page.set({ [field]: value });
    this.selects = {
      category: select("show only images with an object of this class (X)",
        [[null, "any class"], ...names.slice(1).map((name) => [name, name])], choose("category")),
      size: select("show only images with an object of this size (Z)",
        [[null, "any size"], ...sizes.map((size) => [size, COCO_SIZES[size] ?? size])], choose("size")),
      order: select("order of the images (O)",
        [["file", "order of the file"], ["disagreement", "largest disagreement first"]], choose("order")),
    };
    this.levels = segments(
      [[null, "as assigned", "pool P from the level that its size is assigned to (A)"],
        ...levels.map((level) => [level, level, `pool P from level ${level}`])],
      choose("level"));
    [null, ...levels].forEach((level, i) => { this.levels.buttons[i].dataset.level = level ?? ""; });
    const group = (...children) => html("span", { class: "group" }, children);
    this.element = html("header", { class: "bar" },
      group(button("‹", "previous image (P)", () => page.go(-1)), this.place, button("›", "next image (N)", () => page.go(1))),
      group(Object.values(this.selects)),
      group(html("label", {}, "level"), this.levels.element),
      html("span", { class: "group end" },
        button("SVG", "save the view as SVG (S)", () => page.saving.saveSvg()),
        button("PNG", "save the view as PNG (Shift + S)", () => page.saving.savePng()),
        button("copy Python", "copy the line of Python that shows this view again (Y)", () => page.saving.copyPython()),
        button("?", "all keys (?)", () => page.keyboard.toggleHelp())));
  }

  draw() {
    const { page } = this;
    const { index, position, listed } = page.told("image");
    this.place.replaceChildren(html("b", {}, `image ${index}`), position ? ` ${position} of ${listed}` : ` not one of the ${listed} listed`);
    for (const [field, element] of Object.entries(this.selects)) element.value = page.state(field) ?? "";
    this.levels.press(page.state("level"));
    const assigned = page.told("answer").models[page.state("focus")].assigned;
    for (const element of this.levels.buttons) element.classList.toggle("assigned", element.dataset.level === assigned);
  }
}
