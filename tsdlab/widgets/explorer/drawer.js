// What is needed now and then: closed at first, and not drawn while it is closed.

import { html } from "../page/dom.js";

export class Drawer {
  /** @param parts with `element` and `draw` */
  constructor(page, parts) {
    Object.assign(this, { page, parts });
    this.element = html("aside", { class: "drawer", "aria-label": "details", hidden: true }, parts.map(({ element }) => element));
  }

  get open() {
    return !this.element.hidden;
  }

  toggle(open = !this.open) {
    this.element.hidden = !open;
    if (open) {
      this.draw();
      this.element.scrollIntoView({ block: "nearest" });
    }
    this.page.schedule();
  }

  draw() {
    if (this.open) for (const part of this.parts) part.draw();
  }
}
