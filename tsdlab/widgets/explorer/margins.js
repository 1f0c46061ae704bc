// The progressive constraint in words: how far the tsd branch should be ahead of the sibling branch, and how far it is.

import { html, sub } from "../page/dom.js";
import { fixed } from "../page/numbers.js";

const TERMS = [
  { what: "score", symbol: "cls", role: "classification" },
  { what: "box IoU", symbol: "loc", role: "localization" },
];

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const askedBy = ({ margin, sibling }) => Math.min(margin, 1 - sibling);
const isShort = (term) => term.value >= 0.005;

export class Margins {
  constructor(page) {
    this.page = page;
    this.summary = html("span");
    this.terms = html("div");
    this.element = html("details", { class: "margins" },
      html("summary", {}, html("b", {}, "Progressive constraint: "), this.summary), this.terms);
    this.element.addEventListener("toggle", () => page.redraw());
  }

  draw() {
    const { page, element } = this;
    const answer = page.told("answer");
    const models = page.fixed.models.map((name) => [name, answer.models[name]]).filter(([, { branches }]) => branches.tsd && branches.sibling);
    element.hidden = !models.length;
    this.summary.textContent = models.map(([model, own]) => (models.length > 1 ? `${model}: ` : "") + summaryOf(own)).join("; ");
    if (element.open) this.terms.replaceChildren(...models.flatMap(([model, own]) => this.sentences(own, models.length > 1 ? `${model}: ` : "")));
  }

  sentences({ branches, constraint }, whose) {
    const background = Object.values(branches).every(({ scores }) => scores.indexOf(Math.max(...scores)) === 0);
    const terms = TERMS.map((kind, i) => ({ ...kind, term: constraint[i] })).filter(({ term }) => term);
    return [
      background ? html("p", {}, `${whose}both call this background.`) : null,
      ...terms.map(({ what, role, symbol, term }) => html("p", { "data-value": term.value },
        html("span", { class: role }, `${whose}${what}: `),
        `the constraint asks tsd for ${signed(askedBy(term))} over sibling; it has ${signed(term.own - term.sibling)}.`,
        html("span", { class: "formula" }, "M", sub(symbol),
          ` = | ${fixed(term.sibling, 3)} − ${fixed(term.own, 3)} + ${fixed(askedBy(term), 3)} |₊ = ${fixed(term.value, 3)}`))),
    ].filter(Boolean);
  }
}

function summaryOf({ constraint }) {
  const terms = TERMS.map(({ what }, i) => [what, constraint[i]]).filter(([, term]) => term);
  if (!terms.length) return "none, as P overlaps no object or training had no margin";
  return terms.map(([what, term]) => (isShort(term) ? `${what} is short by ${fixed(term.value)}` : `${what} is met`)).join(", ");
}
