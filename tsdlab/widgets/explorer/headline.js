// The finding in words, above the image. It follows the pointer; a screen reader hears it when the pointer has stopped.

import { html, setAttributes } from "../page/dom.js";
import { findingOf } from "./finding.js";

const STILL = 500; // ms without a change, until it is read out

export class Headline {
  constructor(page) {
    this.page = page;
    this.lines = html("div", { class: "headline" });
    this.spoken = html("p", { class: "unseen", role: "status" });
    this.element = html("div", {}, this.lines, this.spoken);
  }

  draw() {
    const { page } = this;
    this.finding = findingOf(page.fixed, page.told("image"), page.told("answer"));
    children(this.lines, this.finding.length, "p").forEach((line, i) => writeRuns(line, this.finding[i]));
    this.speakLater();
  }

  get text() {
    return this.finding.map((runs) => runs.map(([text]) => text).join("")).join(" ");
  }

  speakLater() {
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => {
      if (this.page.dragging) this.speakLater();
      else this.speak();
    }, STILL);
  }

  speak() {
    const { text, page, spoken } = this;
    if (spoken.textContent === text) return;
    spoken.textContent = text;
    for (const { model, canvas } of page.views) setAttributes(canvas, { role: "img", "aria-label": `Image ${page.told("image").index}, ${model}. ${text}` });
  }

  close() {
    clearTimeout(this.speaking);
  }
}

function writeRuns(line, runs) {
  children(line, runs.length, "span").forEach((span, i) => {
    const [text, role = ""] = runs[i];
    if (span.textContent !== text) span.textContent = text;
    if (span.className !== role) span.className = role;
  });
}

/** Exactly `count` children; those that are there are kept, as new ones take longer to draw. */
function children(parent, count, tag) {
  while (parent.children.length > count) parent.lastChild.remove();
  while (parent.children.length < count) parent.append(html(tag));
  return [...parent.children];
}
