// Every action has a key, and a sheet lists them.

import { button, html } from "../page/dom.js";
import { after } from "../page/numbers.js";
import { dragged, rounded } from "./geometry.js";
import { ARROW_KINDS, LAYERS } from "./layers.js";
import { MAGNIFICATIONS } from "./legend.js";

// A third entry says what a key needs.
const KEYS = [
  ["Images", [["N / P", "next / previous image"], ["X", "filter by the next class", "python"], ["Z", "filter by the next size", "python"],
    ["O", "order of the file / largest disagreement first", "python"], ["[  ]", "weights of the step before / after", "python"]]],
  ["Proposal", [["← ↑ → ↓", "move P by 1 px, with Shift by 10 px"], ["Alt + arrows", "move the lower right corner"],
    ["T", "type the numbers of P; Enter takes them, Esc sets them back"], ["J / K", "take the next / previous RPN proposal"], ["I", "list by score / by IoU"]]],
  ["View", [["0 … 9", "pool P from this level"], ["A", "pool P from the assigned level"],
    ["+  −  H", "zoom in, zoom out, see the whole image"], ["W", "play: slide P across the object; any key stops it"],
    ["L", "arrows: one a task, those of all bins, this object's own"], ["C  R  D", "show P̂c, P̂r, decoded boxes"], ["G  E", "show ground truth, evidence of the class"],
    ["M", "draw the arrows longer"], ["U", "no map / classification map / localization map"], ["B", "map of the next branch"],
    [",  .", "make the map weaker / stronger"], ["F", "list the next model's proposals"], ["V", "open / close the details"]]],
  ["Save", [["S", "save as SVG"], ["Shift + S", "save as PNG"], ["Y", "copy the line of Python"], ["?", "show these keys; Esc closes"]]],
];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Keyboard {
  constructor(page) {
    this.page = page;
    this.help = this.buildHelp();
    this.actions = this.buildActions();
    page.root.addEventListener("keydown", (event) => this.press(event));
  }

  buildHelp() {
    const parts = KEYS.map(([title, keys]) => html("div", {}, html("h4", {}, title),
      html("dl", {}, keys.map(([key, what, needs]) => [html("dt", { "data-needs": needs }, key), html("dd", { "data-needs": needs }, what)]).flat())));
    const mouse = "Drag P or its handles. Shift + click puts P there. Double-click to see P and its object closely, or the whole image again. "
      + "The wheel zooms after a click on the image, with Ctrl always; two fingers zoom, too. Drag the image where it is zoomed in.";
    this.close = button("close", "close (Esc)", () => this.toggleHelp());
    return html("div", { class: "help", hidden: true, role: "dialog", "aria-modal": "true", "aria-label": "keys" },
      html("div", { class: "sheet" }, html("p", {}, mouse), html("div", { class: "columns" }, parts),
        this.close));
  }

  toggleHelp() {
    this.help.hidden = !this.help.hidden;
    (this.help.hidden ? this.page.root : this.close).focus({ preventScroll: true });
  }

  type() {
    this.page.drawer.toggle(true);
    this.page.typed.fields[0].select();
  }

  press(event) {
    if (event.target.matches("input[type=text], select") || event.ctrlKey || event.metaKey) {
      event.stopPropagation(); // the notebook must not take it for a command either
      return;
    }
    const action = this.actionOf(event);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  actionOf(event) {
    const { page } = this;
    if (event.key in ARROWS) {
      if (event.target.type === "range") return null;
      const [dx, dy] = ARROWS[event.key].map((way) => way * (event.shiftKey ? 10 : 1));
      return () => page.set({ proposal: rounded(dragged(page.state("proposal"), event.altKey ? "se" : "move", dx, dy)) });
    }
    if (event.altKey) return null;
    if (/^\d$/.test(event.key)) {
      const { levels } = page.fixed;
      const level = levels.includes(event.key) ? event.key : levels[Number(event.key)];
      return level === undefined ? null : () => page.set({ level });
    }
    if (event.key === "S") return () => page.saving.savePng();
    if (event.key === "Escape" && this.help.hidden) return null;
    return this.actions[event.key.toLowerCase()];
  }

  buildActions() {
    const { page } = this;
    const cycle = (name, list) => () => page.set({ [name]: after(list, page.state(name)) });
    const options = ({ options: listed }) => [...listed].map(({ value }) => value || null);
    const { category, size } = page.filters.selects;
    const { underlay, underlay_branch: branch } = page.legend.selects;
    const opacity = (by) => () => page.set({ opacity: Math.min(1, Math.max(0, Math.round(10 * page.state("opacity") + by) / 10)) });
    const layers = Object.entries(LAYERS).map(([layer, { key }]) => [key, () => page.legend.toggle(layer)]);
    return {
      "[": () => page.steps.go(-1), "]": () => page.steps.go(1),
      n: () => page.go(1), p: () => page.go(-1),
      x: cycle("category", options(category)), z: cycle("size", options(size)), o: cycle("order", options(page.bar.order)),
      t: () => this.type(), v: () => page.drawer.toggle(), j: () => page.proposals.takeNext(1), k: () => page.proposals.takeNext(-1),
      i: cycle("list_by", ["score", "iou"]), a: () => page.set({ level: null }),
      m: cycle("magnify", MAGNIFICATIONS), u: cycle("underlay", options(underlay)), b: cycle("underlay_branch", options(branch)),
      l: cycle("arrows", ARROW_KINDS.map(([value]) => value)), w: () => page.play.press(),
      "+": () => page.zoom.by(1.5), "=": () => page.zoom.by(1.5), "-": () => page.zoom.by(1 / 1.5), h: () => page.zoom.fit(),
      f: cycle("focus", page.fixed.models), ",": opacity(-1), ".": opacity(1),
      s: () => page.saving.saveSvg(), y: () => page.saving.copyPython(), "?": () => this.toggleHelp(), escape: () => this.toggleHelp(),
      ...Object.fromEntries(layers),
    };
  }
}
