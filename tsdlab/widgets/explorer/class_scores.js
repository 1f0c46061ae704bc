// Scores of the classes that matter: one bar for every branch of every model.

import { button, html, panel } from "../page/dom.js";

const MATTERS = 0.01; // a class with a lower score everywhere is folded, unless it is the object's or the background
const MOST = 8; // classes that are shown before the rest is asked for

export class ClassScores {
  constructor(page) {
    this.page = page;
    this.unfolded = false;
    this.classes = new Map(); // by label, as far as they have been shown
    this.rows = html("div", { class: "scores" });
    this.fold = button("", "show or hide the classes with low scores", () => {
      this.unfolded = !this.unfolded;
      this.draw();
    }, { class: "link" });
    this.element = panel("Class scores", this.rows, this.fold);
  }

  draw() {
    const { page } = this;
    const answer = page.told("answer");
    const scores = page.fixed.series.map(({ model, branch }) => answer.models[model].branches[branch].scores);
    const { shown, rest, most } = classesThatMatter(page.fixed.names.length, scores, answer.nearest?.label);
    const listed = this.unfolded ? [...shown, ...rest] : shown;
    if (listed.join() !== this.listed) {
      this.listed = listed.join();
      this.rows.replaceChildren(...listed.map((label) => this.rowOf(label).element));
    }
    for (const label of listed) this.rowOf(label).draw(scores, label === answer.nearest?.label);
    this.fold.hidden = !rest.length;
    this.fold.setAttribute("aria-expanded", String(this.unfolded));
    const folded = `and ${rest.length} more, all below ${Math.max(MATTERS, Math.ceil(100 * most + 1e-9) / 100).toFixed(2)}`;
    this.fold.textContent = this.unfolded ? "only the classes that matter" : folded;
  }

  rowOf(label) {
    if (!this.classes.has(label)) this.classes.set(label, new ClassRow(this.page, label));
    return this.classes.get(label);
  }
}

/** The labels that are shown, the object's first and the background last; the rest, and the highest score among it. */
export function classesThatMatter(count, scores, truth) {
  const best = Array.from({ length: count }, (_, label) => Math.max(...scores.map((each) => each[label])));
  const asked = (label) => label === truth || label === 0;
  const byScore = best.map((_, label) => label).sort((a, b) => asked(b) - asked(a) || best[b] - best[a]);
  const chosen = new Set(byScore.slice(0, MOST).filter((label) => asked(label) || best[label] >= MATTERS));
  const place = (label) => (label === truth ? -1 : label === 0 ? count : label);
  const rest = byScore.filter((label) => !chosen.has(label));
  return { shown: [...chosen].sort((a, b) => place(a) - place(b)), rest, most: Math.max(0, ...rest.map((label) => best[label])) };
}

class ClassRow {
  constructor({ fixed: { names, series } }, label) {
    this.label = label;
    this.bars = series.map((entry) => new ScoreBar(entry, label));
    this.element = html("div", { class: "class" },
      html("span", { class: "name", title: names[label] }, names[label]), html("span", { class: "bars" }, this.bars.map(({ element }) => element)));
  }

  draw(scores, isTruth) {
    this.element.classList.toggle("true", isTruth);
    this.bars.forEach((bar, i) => bar.draw(scores[i][this.label]));
  }
}

class ScoreBar {
  constructor({ label: series, line }, label) {
    this.fill = html("i");
    this.value = html("span", { class: "value" });
    this.element = html("span", { class: "bar-row", "data-series": series, "data-label": label },
      html("span", { class: "name", title: series }, series), html("span", { class: `track ${line}` }, this.fill), this.value);
  }

  draw(score) {
    this.fill.style.transform = `translateX(${100 * (score - 1)}%)`; // a width would be laid out anew for every move
    this.value.textContent = score.toFixed(2);
    this.element.dataset.value = score;
  }
}
