// What the mouse, fingers and the wheel do on an image.
//
// P and its handles are dragged; the image is dragged where it is zoomed in; two fingers, or the wheel, zoom. The wheel
// alone zooms only while the image has the focus, so that a notebook can be scrolled across it.

import { centred, dragged, ordered, rounded } from "./geometry.js";

const WHEEL_STEP = 0.002; // a step of a mouse's wheel, 100 to 120 pixels, zooms by a quarter
const WHEEL_LINE = 16; // pixels of a wheel that counts lines

export class Pointer {
  constructor(page, canvas) {
    Object.assign(this, { page, canvas, drag: null, fingers: new Map() });
    const on = (event, action, options) => canvas.addEventListener(event, action, options);
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) on(name, (event) => this.release(event));
    on("dblclick", () => page.zoom.toggle());
    on("wheel", (event) => this.turn(event), { passive: false });
  }

  /** The pixel of the image at a place of the window. */
  at({ clientX, clientY }, toImage) {
    const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(toImage);
    return [x, y];
  }

  /** The same in the part that is seen from the next drawing on. */
  atNext(event) {
    const [x, y] = this.at(event, this.canvas.getScreenCTM().inverse());
    const [{ frame }, drawn] = [this.page.zoom, this.canvas.viewBox.baseVal];
    return [frame.x + ((x - drawn.x) * frame.width) / drawn.width, frame.y + ((y - drawn.y) * frame.height) / drawn.height];
  }

  press(event) {
    const { page, canvas } = this;
    canvas.focus({ preventScroll: true });
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, event);
    if (this.fingers.size === 2) return this.beginPinch();
    const toImage = canvas.getScreenCTM().inverse();
    const from = this.at(event, toImage);
    const box = ordered(page.state("proposal"));
    // The way back for a box that was dragged out of sight.
    if (event.shiftKey) return page.set({ proposal: rounded(centred(box, ...from)) });
    const { handle } = event.target.dataset;
    if (handle) this.drag = { handle, toImage, from, box };
    else if (page.zoom.factor > 1) this.pan = { toImage, from, frame: page.zoom.frame };
  }

  move(event) {
    if (!event.buttons) this.release(event); // it was let go where the page did not hear of it
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, event);
    if (this.pinch) return this.spread();
    if (this.pan) {
      const [x, y] = this.at(event, this.pan.toImage);
      this.page.zoom.pan(this.pan.frame, this.pan.from[0] - x, this.pan.from[1] - y);
    }
    if (!this.drag) return;
    const { handle, toImage, from, box } = this.drag;
    const [x, y] = this.at(event, toImage);
    this.page.set({ proposal: rounded(dragged(box, handle, x - from[0], y - from[1])) });
  }

  release(event) {
    this.fingers.delete(event.pointerId);
    const held = this.drag;
    Object.assign(this, { drag: null, pan: null, pinch: null });
    if (held) this.page.redraw();
  }

  beginPinch() {
    Object.assign(this, { drag: null, pan: null, pinch: { apart: this.apart } });
  }

  get apart() {
    const [a, b] = this.fingers.values();
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  }

  spread() {
    const { apart } = this;
    const [a, b] = this.fingers.values();
    const between = { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
    this.page.zoom.by(apart / this.pinch.apart, this.atNext(between));
    this.pinch = { apart };
  }

  turn(event) {
    const { page } = this;
    // Two fingers on a touchpad come as a wheel with Ctrl.
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.canvas) return;
    if (page.zoom.factor === 1 && event.deltaY > 0 && !event.ctrlKey) return;
    event.preventDefault();
    const far = event.deltaY * (event.deltaMode === 1 ? WHEEL_LINE : 1) * (event.ctrlKey && Math.abs(event.deltaY) < 50 ? 4 : 1);
    page.zoom.by(Math.exp(-WHEEL_STEP * far), this.atNext(event));
  }
}
