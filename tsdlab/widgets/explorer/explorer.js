// The page of tsdlab.explore. What answers computes, the page draws: SVG over the image, HTML around it.
//
// What a person does is shown at once from the state, before it is answered; answers are drawn as they come.

import { html } from "../page/dom.js";
import { Page } from "../page/page.js";
import { LiveAnswerer } from "./answerers.js";
import { Bar } from "./bar.js";
import { BoxesPanel, ConstraintPanel, ScoresPanel } from "./facts.js";
import { ImageView } from "./image_view.js";
import { Keyboard } from "./keyboard.js";
import { Legend } from "./legend.js";
import { LevelViews } from "./level_views.js";
import { ProposalList } from "./proposal_list.js";
import { ProposalPanel } from "./proposal_panel.js";
import { Saving } from "./saving.js";

class ExplorerPage extends Page {
  constructor(connect, root) {
    super(connect, root);
    this.pointedAt = null; // an RPN proposal under the pointer in the list
    this.views = this.fixed.models.map((name) => new ImageView(this, name));
    this.bar = new Bar(this);
    this.legend = new Legend(this);
    this.levels = new LevelViews(this);
    this.proposal = new ProposalPanel(this);
    this.proposals = new ProposalList(this);
    this.facts = [this.proposal, new ScoresPanel(this), new BoxesPanel(this), new ConstraintPanel(this)];
    this.saving = new Saving(this);
    this.keyboard = new Keyboard(this);
    const images = html("div", { class: "stages" }, this.views.map(({ element }) => element));
    root.append(
      this.bar.element,
      this.notice,
      html("div", { class: "body", style: `--models: ${this.views.length}` },
        html("div", { class: "look" }, images, this.legend.element, this.levels.element),
        html("div", { class: "facts" }, [...this.facts, this.proposals].map(({ element }) => element))),
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

  draw(all) {
    if (all || !this.views.some(({ drag }) => drag)) {
      this.drawImage();
      for (const part of [this.bar, this.legend, this.proposals, ...this.views, this.levels]) part.draw();
      this.proposal.drawFields();
    }
    for (const view of this.views) view.drawProposal();
    if (all) for (const part of this.facts) part.draw();
  }

  drawImage() {
    const image = this.told("image");
    if (image === this.drawnImage) return;
    this.drawnImage = image;
    for (const view of this.views) view.drawImage(image);
  }

  pointAt(box) {
    this.pointedAt = box;
    this.schedule();
  }

  close() {
    super.close();
    this.resizes.disconnect();
  }
}

export default {
  render({ model, el }) {
    const root = html("div", { class: "tsdlab-explorer", tabindex: 0, "data-lm-suppress-shortcuts": "true" });
    el.append(root);
    const page = new ExplorerPage((own) => new LiveAnswerer(model, own), root);
    return () => page.close();
  },
};
