// The page of tsdlab.explore. What answers computes, the page draws: SVG over the image, HTML around it.
//
// What a person does is shown at once from the state, before it is answered; answers are drawn as they come.

import { html } from "../page/dom.js";
import { Page } from "../page/page.js";
import { views } from "../page/views.js";
import { LiveAnswerer } from "./answerers.js";
import { Bar } from "./bar.js";
import { ClassScores } from "./class_scores.js";
import { ConflictLine } from "./conflict.js";
import { Drawer } from "./drawer.js";
import { Filters } from "./filters.js";
import { Headline } from "./headline.js";
import { ImageView } from "./image_view.js";
import { Keyboard } from "./keyboard.js";
import { Legend } from "./legend.js";
import { LevelTable } from "./level_table.js";
import { Margins } from "./margins.js";
import { whenAnswered } from "./opening.js";
import { Play } from "./play.js";
import { ProposalList } from "./proposal_list.js";
import { Saving } from "./saving.js";
import { StepSlider } from "./step_slider.js";
import { TypedBox } from "./typed_box.js";
import { Zoom } from "./zoom.js";

export class ExplorerPage extends Page {
  constructor(connect, root) {
    super(connect, root);
    this.pointedAt = null; // an RPN proposal under the pointer in the list
    this.zoom = new Zoom(this);
    this.play = new Play(this);
    this.views = this.fixed.models.map((name) => new ImageView(this, name));
    this.who = html("span", { class: "who" });
    this.headline = new Headline(this);
    this.bar = new Bar(this);
    this.steps = new StepSlider(this);
    this.conflict = new ConflictLine(this);
    this.legend = new Legend(this);
    this.levels = new LevelTable(this);
    this.scores = new ClassScores(this);
    this.margins = new Margins(this);
    this.filters = new Filters(this);
    this.typed = new TypedBox(this);
    this.proposals = new ProposalList(this);
    this.drawer = new Drawer(this, [this.typed, this.proposals, this.filters]);
    this.saving = new Saving(this);
    this.keyboard = new Keyboard(this);
    const elements = (...parts) => parts.map(({ element }) => element);
    root.append(
      this.bar.element, html("div", { class: "said" }, this.notice, this.who), ...elements(this.steps, this.headline, this.conflict, this.legend),
      html("div", { class: `body ${this.views.length > 1 ? "several" : ""}`, style: `--models: ${this.views.length}` },
        html("div", { class: "stages" }, elements(...this.views)),
        html("div", { class: "levels-side" }, elements(this.levels)),
        html("div", { class: "scores-side" }, elements(this.scores, this.margins, this.drawer))),
      this.keyboard.help,
    );
    // The browser reports sizes. To ask for one after a change would make it lay out the whole page at once.
    this.resizes = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) this.views.find(({ canvas }) => canvas === target).width = contentRect.width;
      this.schedule();
    });
    for (const { canvas } of this.views) this.resizes.observe(canvas);
    this.schedule();
  }

  /** Whether the pointer holds P. */
  get dragging() {
    return this.views.some(({ drag }) => drag);
  }

  draw(all) {
    if (all || !this.dragging) {
      this.drawImage();
      for (const part of [this.bar, this.steps, this.conflict, this.legend, this.drawer, ...this.views, this.levels]) part.draw();
    }
    for (const view of this.views) view.drawProposal();
    if (all) for (const part of [this.headline, this.scores, this.margins]) part.draw();
    this.play.draw();
  }

  drawImage() {
    const image = this.told("image");
    if (this.who.textContent !== this.answerer.who) this.who.textContent = this.answerer.who;
    if (image === this.drawnImage) return;
    this.drawnImage = image;
    this.root.style.setProperty("--aspect", image.width / image.height);
    for (const view of this.views) view.drawImage(image);
  }

  pointAt(box) {
    this.pointedAt = box;
    this.schedule();
  }

  close() {
    super.close();
    this.headline.close();
    this.play.close();
    this.resizes.disconnect();
  }
}

export default views((model, box) => {
  const root = html("div", { class: "tsdlab-explorer", tabindex: 0, "data-lm-suppress-shortcuts": "true" });
  box.append(root);
  let page = null;
  const stop = whenAnswered(model, root, () => {
    page = new ExplorerPage((own) => new LiveAnswerer(model, own), root);
  });
  return () => {
    stop();
    page?.close();
  };
});
