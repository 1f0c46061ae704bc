// A histogram of the proposals' sizes with two handles: the smallest and the largest size that is shown.

import { html, setAttributes, svg } from "../page/dom.js";
import { scale } from "../page/numbers.js";

const [WIDTH, HEIGHT, PAD] = [150, 30, 7];
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }; // percent

export class SizeRange {
  constructor(page) {
    this.page = page;
    this.bars = svg("g");
    this.handles = [0, 1].map((end) => this.buildHandle(end));
    this.drawing = svg("svg", { width: WIDTH, height: HEIGHT + 2, viewBox: `0 0 ${WIDTH} ${HEIGHT + 2}` }, this.bars, this.handles);
    this.element = html("span", { class: "sizes" }, this.drawing);
    this.text = html("output");
  }

  get whole() {
    return this.page.fixed.size;
  }

  /** Whether some sizes are left out. */
  get narrowed() {
    const [low, high] = this.page.state("size");
    return low > this.whole[0] || high < this.whole[1];
  }

  buildHandle(end) {
    const [least, most] = this.whole;
    const handle = svg("g", {
      class: "handle", tabindex: 0, role: "slider", "aria-label": end === 0 ? "smallest √area" : "largest √area",
      "aria-valuemin": least, "aria-valuemax": most,
      onpointerdown: (event) => {
        handle.setPointerCapture(event.pointerId);
        handle.focus();
        event.preventDefault();
      },
      onpointermove: (event) => {
        if (!handle.hasPointerCapture(event.pointerId)) return;
        const box = this.drawing.getBoundingClientRect();
        this.moveTo(end, Math.round(least + ((event.clientX - box.left - PAD) / (box.width - 2 * PAD)) * (most - least)));
      },
      onkeydown: (event) => {
        if (!(event.key in STEPS)) return;
        event.preventDefault();
        event.stopPropagation();
        this.moveTo(end, this.page.state("size")[end] + (STEPS[event.key] * (most - least)) / 100);
      },
    },
    svg("rect", { class: "grip", x: -8, y: 0, width: 16, height: HEIGHT + 2 }),
    svg("line", { y1: 0, y2: HEIGHT }), svg("circle", { cy: HEIGHT / 2, r: 5 }));
    return handle;
  }

  moveTo(end, value) {
    const size = [...this.page.state("size")];
    size[end] = end === 0 ? Math.min(Math.max(value, this.whole[0]), size[1]) : Math.max(Math.min(value, this.whole[1]), size[0]);
    this.page.set({ size });
  }

  draw() {
    const [low, high] = this.page.state("size");
    this.text.textContent = `${Math.round(low)}…${Math.round(high)} px`;
    const { all, chosen } = this.page.told("shown").sizes;
    const x = scale(this.whole, PAD, WIDTH - PAD);
    const top = Math.max(...all, 1);
    const step = (WIDTH - 2 * PAD) / all.length;
    const bars = (counts, style) => svg("path", {
      class: `bar ${style}`,
      d: counts.map((n, i) => `M${PAD + 0.5 + i * step} ${HEIGHT}h${step - 1}v${(-n / top) * (HEIGHT - 4)}h${1 - step}z`).join(""),
    });
    const ends = [low, high].map((value) => x(Math.min(Math.max(value, this.whole[0]), this.whole[1])));
    const veil = (left, right) => svg("rect", { class: "veil", x: left, y: 0, width: right - left, height: HEIGHT });
    this.bars.replaceChildren(bars(all, "all"), bars(chosen, "chosen"), veil(0, ends[0]), veil(ends[1], WIDTH));
    this.handles.forEach((handle, end) =>
      setAttributes(handle, { transform: `translate(${ends[end]} 0)`, "aria-valuenow": [low, high][end] }));
  }
}
