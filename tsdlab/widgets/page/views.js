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
          pages.set(el, { box, end: open(model, box) });
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
          pages.set(el, pages.get(left));
          pages.delete(left);
          el.append(pages.get(el).box);
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
