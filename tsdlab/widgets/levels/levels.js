// The page of tsdlab.explore_levels: filters, and linked views of the proposals that pass them.

import { html, sub } from "../page/dom.js";
import { fixed, short } from "../page/numbers.js";
import { Page } from "../page/page.js";
import { views } from "../page/views.js";
import { KernelAnswerer } from "../page/protocol.js";
import { Distributions } from "./distributions.js";
import { Figures } from "./figures.js";
import { Filters } from "./filters.js";
import { MeanField } from "./mean_field.js";
import { Examples, Selected } from "./objects.js";
import { Scatter } from "./scatter.js";

const TASKS = { classification: ["c", "the class"], localization: ["r", "the box"] };

const key = (style, ...text) => html("span", { class: `key ${style}` }, text);

/** What the marks mean, for the tasks whose regions are moved. */
function legend(regions) {
  const moved = Object.entries(regions).map(([task, { offsets }]) => {
    const [letter, aim] = TASKS[task];
    const form = offsets ? "bins" : "region";
    return key(`${task} ${form}`, "P̂", sub(letter), `: ${form} for ${aim}`);
  });
  return html("div", { class: "legend" }, key("proposal", "P: proposal"), moved, key("truth", "ground truth"));
}

class LevelsPage extends Page {
  constructor(connect, root, showExplorer) {
    super(connect, root);
    this.showExplorer = showExplorer;
    this.filters = new Filters(this);
    this.figures = new Figures(this);
    this.scatter = new Scatter(this);
    this.selected = new Selected(this);
    this.panels = [this.scatter, new Distributions(this), new MeanField(this), new Examples(this), this.selected];
    this.code = html("code");
    root.append(
      this.filters.element, legend(this.fixed.regions), this.figures.element,
      html("div", { class: "panels" }, this.panels.map(({ element }) => element)),
      html("footer", {}, this.code), this.notice);
    this.resizes = new ResizeObserver(() => {
      this.drawn = null;
      this.redraw();
    });
    this.resizes.observe(root);
  }

  /** Whether filters other than the level leave out proposals. */
  get narrowed() {
    return this.state("category") !== "all" || this.filters.size.narrowed;
  }

  column(name) {
    // A column without values is not offered, but Python may choose it.
    return this.fixed.columns.find((column) => column.name === name) ?? { name, title: name, label: name, role: "proposal" };
  }

  /** A value of a column, beside a label that has the unit. */
  number(value, { unit }) {
    return unit?.startsWith("%") ? fixed(value, 1) : short(value);
  }

  /** A value of a column with its unit. */
  format(value, column) {
    return column.unit?.startsWith("%") && value !== null ? `${this.number(value, column)} ${column.unit}` : short(value);
  }

  draw(all) {
    this.filters.draw();
    if (!all) return;
    const shown = this.told("shown");
    if (shown !== this.drawn) {
      this.drawn = shown;
      for (const part of [this.figures, ...this.panels]) part.draw();
    }
    const opened = this.told("opened");
    if (opened !== this.drawnOpened) {
      this.drawnOpened = opened;
      this.selected.draw();
    }
    this.scatter.drawRing();
    this.code.textContent = this.told("python");
    const id = this.told("explorer_id");
    if (id && id !== this.explorerId) {
      this.explorerId = id;
      this.showExplorer(id);
    }
  }

  close() {
    super.close();
    this.resizes.disconnect();
  }
}

export default views((model, box) => {
  const root = html("div", { class: "tsdlab-levels" });
  const explorer = html("div", { class: "tsdlab-levels-explorer" }); // outside the root: it has styles of its own
  box.append(root, explorer);
  const showExplorer = async (id) => {
    const manager = model.widget_manager;
    if (!manager?.create_view) return;
    const view = await manager.create_view(await manager.get_model(id));
    explorer.replaceChildren(view.el);
    view.trigger("displayed");
  };
  const page = new LevelsPage((own) => new KernelAnswerer(model, own), root, showExplorer);
  return () => page.close();
});
