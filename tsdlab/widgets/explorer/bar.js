// The top row: step through images, choose their order, open the details, keep the view.

import { button, html, select } from "../page/dom.js";

export class Bar {
  constructor(page) {
    this.page = page;
    this.place = html("span", { class: "place" });
    this.order = select("order of the images (O)",
      [["file", "order of the file"], ["disagreement", "largest disagreement first"]], (order) => page.set({ order }));
    this.order.dataset.needs = "python";
    this.details = button("details", "filters, numbers of P, RPN proposals (V)", () => page.drawer.toggle());
    const group = (...children) => html("span", { class: "group" }, children);
    this.element = html("header", { class: "bar" },
      group(button("‹", "previous image (P)", () => page.go(-1)), this.place, button("›", "next image (N)", () => page.go(1))),
      group(this.order),
      html("span", { class: "group end" }, this.details,
        button("SVG", "save the view as SVG (S)", () => page.saving.saveSvg()),
        button("PNG", "save the view as PNG (Shift + S)", () => page.saving.savePng()),
        button("copy Python", "copy the line of Python that shows this view again (Y)", () => page.saving.copyPython()),
        button("?", "all keys (?)", () => page.keyboard.toggleHelp())));
  }

  draw() {
    const { page } = this;
    const { index, position, listed } = page.told("image");
    this.place.replaceChildren(html("b", {}, `image ${index}`), position ? ` ${position} of ${listed}` : ` not one of the ${listed} listed`);
    this.order.value = page.state("order");
    this.details.setAttribute("aria-expanded", String(page.drawer.open));
  }
}
