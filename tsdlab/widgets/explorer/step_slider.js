// Of a model that is followed over its training: the step whose weights answer.

import { html } from "../page/dom.js";

export class StepSlider {
  constructor(page) {
    this.page = page;
    const { steps } = page.fixed;
    this.range = html("input", {
      type: "range", min: 0, max: steps.length - 1, step: 1, "aria-label": "step of the training", "data-needs": "python",
      oninput: () => page.set({ step: steps[Number(this.range.value)] }),
    });
    this.said = html("output");
    this.element = html("label", { class: "steps", hidden: steps.length === 0, title: "weights of another step of the training ([ and ])" },
      "weights after step", this.range, this.said);
  }

  /** Take the weights of the next step that was kept, or of the one before. */
  go(by) {
    const { steps } = this.page.fixed;
    const step = steps[steps.indexOf(this.page.state("step")) + by];
    if (step !== undefined) this.page.set({ step });
  }

  draw() {
    const { steps } = this.page.fixed;
    const step = this.page.state("step");
    if (!steps.length || this.drawn === step) return;
    this.drawn = step;
    this.range.value = steps.indexOf(step);
    this.range.setAttribute("aria-valuetext", `step ${step}`);
    this.said.textContent = `${step} of ${steps.at(-1)}`;
  }
}
