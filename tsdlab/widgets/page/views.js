// The views of one widget, as a notebook makes them.
//
// A notebook draws an output anew when the picture is added to it (widgets/pictured.py): it makes a second view, and takes
// the element of the first one away. The page then moves into the new element, as the person left it.

import { html } from "./dom.js";

/** The module of a widget for anywidget. `open(model, box)` makes a page in an element, and returns what ends it. */
export function views(open) {
  return () => {
    const pages = new Map(); // by the element of the view that has it
    return {
      render({ model, el }) {
        let frame = 0;
        const make = () => {
          const box = html("div");
          el.append(box);
          const page = { box, focused: null, end: open(model, box) };
          pages.set(el, page);
          box.addEventListener("focusin", ({ target }) => { page.focused = target; });
          // An element that is taken away loses the focus too, but is to have it again.
          box.addEventListener("focusout", () => setTimeout(() => {
            if (box.isConnected && !box.contains(document.activeElement)) page.focused = null;
          }));
        };
        const place = () => {
          if (!el.parentNode) {
            frame = requestAnimationFrame(place);
            return;
          }
          const left = [...pages.keys()].find((other) => !other.parentNode); // what is only scrolled away has a parent
          if (!left) {
            make();
            return;
          }
          const page = pages.get(left);
          pages.delete(left);
          pages.set(el, page);
          el.append(page.box);
          page.focused?.focus({ preventScroll: true });
        };
        if (pages.size) frame = requestAnimationFrame(place);
        else make();
        return () => {
          cancelAnimationFrame(frame);
          pages.get(el)?.end();
          pages.delete(el);
        };
      },
    };
  };
}
