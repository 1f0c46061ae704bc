// The RPN's proposals: click one to take it, point at one to see it.

import { html, panel, segments } from "../page/dom.js";

const [SCORE, IOU] = [4, 5]; // places in a row of the list

export class ProposalList {
  constructor(page) {
    this.page = page;
    this.boxes = [];
    this.rows = html("tbody");
    this.title = html("span");
    this.by = segments([["score", "by score", "sort the list by score (I)"], ["iou", "by IoU", "sort the list by IoU with an object (I)"]],
      (list_by) => page.set({ list_by }));
    const head = html("tr", {}, ["", "score", "IoU", "size, px"].map((text) => html("th", {}, text)));
    this.element = panel([this.title, this.by.element],
      html("div", { class: "scroll", onpointerleave: () => page.pointAt(null) }, html("table", {}, html("thead", {}, head), this.rows)));
    this.element.classList.add("proposals");
  }

  draw() {
    const { page } = this;
    const drawn = [page.told("image"), page.state("focus"), page.state("list_by")];
    if (this.drawn?.every((value, i) => value === drawn[i])) return;
    this.drawn = drawn;
    const [image, focus, listBy] = drawn;
    this.by.press(listBy);
    this.title.textContent = page.fixed.models.length > 1 ? `RPN proposals of ${focus}` : "RPN proposals";
    const by = listBy === "iou" ? IOU : SCORE;
    const sorted = image.proposals[focus].toSorted((a, b) => b[by] - a[by]);
    this.boxes = sorted.map((row) => row.slice(0, 4));
    this.rows.replaceChildren(...sorted.map(([x1, y1, x2, y2, score, iou], i) => {
      const cells = [i + 1, score.toFixed(3), image.objects.length ? iou.toFixed(2) : "–", `${(x2 - x1).toFixed(0)} × ${(y2 - y1).toFixed(0)}`];
      const proposal = this.boxes[i];
      return html("tr", { onclick: () => page.set({ proposal }), onpointerenter: () => page.pointAt(proposal) },
        cells.map((text) => html("td", {}, String(text))));
    }));
  }

  /** Take the proposal `by` places further down the list. */
  takeNext(by) {
    const { boxes, page } = this;
    if (!boxes.length) return;
    const here = boxes.findIndex((box) => box.every((value, i) => Math.abs(value - page.state("proposal")[i]) < 0.02));
    const there = here < 0 ? 0 : (here + by + boxes.length) % boxes.length;
    page.set({ proposal: boxes[there] });
    this.rows.children[there]?.scrollIntoView({ block: "nearest" });
  }
}
