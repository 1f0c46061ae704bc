// What the branches say about P: class scores, decoded boxes, and the progressive constraint.

import { html, panel, sub } from "../page/dom.js";
import { fixed } from "../page/numbers.js";
import { swatch } from "./legend.js";

const SHOWN_CLASSES = 8; // a data set may have hundreds

const about = (text) => html("p", { class: "about" }, text);

/** A bar in the colour of a task; branches differ by how it is filled, as their lines do. */
const track = (value, task, line) => html("span", { class: `track ${line}` }, html("i", { style: `width: ${100 * value}%; --color: var(--${task})` }));

/** Bars of the classes with the highest scores, and of the nearest object's class: one bar for every branch. */
export class ScoresPanel {
  constructor(page) {
    this.page = page;
    this.rows = html("div", { class: "scores" });
    this.element = panel("Class scores", this.rows);
  }

  draw() {
    const { names, series } = this.page.fixed;
    const answer = this.page.told("answer");
    const scoresOf = ({ model, branch }) => answer.models[model].branches[branch].scores;
    const best = names.map((_, i) => Math.max(...series.map((entry) => scoresOf(entry)[i])));
    const label = answer.nearest?.label;
    const shown = new Set(best.map((_, i) => i).sort((a, b) => best[b] - best[a]).slice(0, SHOWN_CLASSES));
    if (label !== undefined) shown.add(label);
    const key = html("div", { class: "key" }, series.map((entry) => html("span", {}, swatch("classification", `bar ${entry.line}`), entry.label)));
    const rows = [...shown].sort((a, b) => a - b).map((i) =>
      html("div", { class: `class ${i === label ? "true" : ""}` },
        html("span", { class: "name", title: i === label ? `${names[i]}: class of the nearest object` : names[i] }, names[i]),
        html("span", { class: "bars" }, series.map((entry) => this.bar(entry, names[i], i, scoresOf(entry)[i])))));
    const rest = names.length - shown.size;
    this.rows.replaceChildren(key, ...rows, ...(rest ? [about(`and ${rest} classes with lower scores`)] : []));
  }

  bar({ label, line }, name, index, value) {
    return html("span", {
      class: "bar-row", title: `${label}: ${name} ${value.toFixed(4)}`,
      "data-series": label, "data-label": index, "data-value": value,
    }, track(value, "classification", line), html("span", { class: "value" }, value.toFixed(2)));
  }
}

export class BoxesPanel {
  constructor(page) {
    this.page = page;
    this.rows = html("tbody");
    const head = html("tr", {}, ["branch", "for class", "score", "IoU"].map((text) => html("th", {}, text)));
    this.element = panel("Decoded boxes", html("table", { class: "boxes" }, html("thead", {}, head), this.rows));
  }

  draw() {
    const { names, series } = this.page.fixed;
    const answer = this.page.told("answer");
    this.rows.replaceChildren(...series.map(({ model, branch, label: name, line }) => {
      const { label, scores, iou } = answer.models[model].branches[branch];
      const fit = iou === null ? "–" : html("span", { class: "bar-row" }, track(iou, "localization", line), html("span", { class: "value" }, fixed(iou, 3)));
      return html("tr", { "data-series": name, "data-iou": iou },
        html("td", {}, swatch("localization", line), name), html("td", {}, names[label]), html("td", {}, fixed(scores[label], 3)), html("td", {}, fit));
    }));
  }
}

/** Whether the TSD branch is ahead of the sibling branch by the margin that training asks for. */
export class ConstraintPanel {
  constructor(page) {
    this.page = page;
    this.terms = html("div");
    this.element = panel("Progressive constraint", this.terms);
  }

  draw() {
    const models = Object.values(this.page.told("answer").models);
    this.element.hidden = !models.some(({ branches }) => branches.tsd && branches.sibling);
    const terms = models.flatMap(({ constraint }) => constraint.map((term, i) => term && this.term(term, i)).filter(Boolean));
    this.terms.replaceChildren(...(terms.length ? terms : [about("None: P overlaps no object, or the model was trained without it.")]));
  }

  term({ value, sibling, own, margin }, i) {
    const [name, what] = [["cls", "score"], ["loc", "IoU"]][i];
    const asked = Math.min(margin, 1 - sibling);
    return html("div", { class: "term", "data-value": value },
      html("b", {}, "M", sub(name), ` ${fixed(value, 3)}`),
      html("span", { title: `${what}: sibling − tsd + min(margin ${margin}, 1 − sibling), at least 0` },
        `= | ${fixed(sibling, 3)} − ${fixed(own, 3)} + ${fixed(asked, 3)} |₊`),
      html("em", {}, value >= 0.0005
        ? `The ${what} of tsd should be higher.`
        : `The ${what} of tsd is high enough.`));
  }
}
