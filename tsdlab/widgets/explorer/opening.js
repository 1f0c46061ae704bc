// What is seen until Python has the first answers: the image, and what is being computed.

import { html } from "../page/dom.js";
import { COARSE } from "./image_view.js";

function picture({ url, index, width, height }) {
  const style = `--aspect: ${width / height}; ${width < COARSE ? "image-rendering: pixelated" : ""}`;
  return html("img", { class: "canvas", src: url, alt: `image ${index}`, width, height, style });
}

/** Show that in `root`, and call `open` as soon as there are answers. Returns a function that stops it. */
export function whenAnswered(model, root, open) {
  const isAnswered = () => Object.keys(model.get("_answer")).length > 0;
  if (isAnswered()) {
    open();
    return () => {};
  }
  const { models, image } = model.get("_opening");
  const words = html("p", {}, image ? "Computing the features of the image and the first answers …" : "Finding the first image …");
  const figures = models.map((name) => html("figure", {}, html("figcaption", {}, html("span", { class: "model" }, name)), image && picture(image)));
  const element = html("div", { class: "opening" },
    html("div", { class: "bar" }, html("b", {}, image ? `image ${image.index}` : "")),
    html("div", { class: "headline", role: "status" }, words),
    html("div", { class: `body ${models.length > 1 ? "several" : ""}`, style: `--models: ${models.length}` }, html("div", { class: "stages" }, figures)));
  const hear = ({ progress, failed }) => {
    if (failed) words.textContent = `The image could not be opened: ${failed}`;
    else if (progress) words.textContent = `Asking the detector about image ${progress[0] + 1} of ${progress[1]} …`;
  };
  const change = () => {
    if (!isAnswered()) return;
    stop();
    element.remove();
    open();
  };
  const stop = () => {
    model.off("msg:custom", hear);
    model.off("change:_answer", change);
  };
  root.classList.add("tsdlab-page");
  root.append(element);
  model.on("msg:custom", hear);
  model.on("change:_answer", change);
  model.send({ need: "answer" }); // where Python does not begin by itself, because the view is part of another widget
  return stop;
}
