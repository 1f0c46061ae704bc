// What the page says of P in words, as lines of runs: [text, role], where the role of a task gives the run its colour.
//
// headline.py says the same in the picture that a page without a kernel shows.

import { percent } from "../page/numbers.js";

const TASKS = ["classification", "localization"];

/** The lines of the headline about an answer; `image` is the one that P lies in. */
export function findingOf({ names, models: order }, image, answer) {
  const models = order.map((model) => [model, answer.models[model]]);
  const fit = fitOf(image, answer);
  if (models.length === 1) {
    const [[, own]] = models;
    const branches = Object.entries(own.branches).map(([name, branch]) => [[`${name}: `], ...verdictOf(names, branch)]);
    return [[...capital(movedOf(answer.proposal, own)), ["."]], [...fit, [" → "], ...joined(branches, " · "), ["."]]];
  }
  return [[...fit, ["."]], ...models.map(([model, own]) =>
    [[model, "model"], [": "], ...movedOf(answer.proposal, own), [" → "], ...verdictOf(names, Object.values(own.branches).at(-1)), ["."]])];
}

/** How P itself lies. */
function fitOf({ width, height }, { proposal: [x1, y1, x2, y2], nearest }) {
  if (x2 < 0 || y2 < 0 || x1 > width || y1 > height) return [["P lies outside the image"]];
  if (!nearest) return [["The image has no objects to compare with"]];
  const name = [`‘${nearest.name}’`, "truth"];
  return nearest.overlap > 0
    ? [["P fits "], name, [` at IoU ${nearest.overlap.toFixed(2)}`]]
    : [["P overlaps no object, the nearest one is "], name];
}

/** How far each task is moved from P at the level in use. */
function movedOf([x1, y1, x2, y2], { level, levels }) {
  const { regions } = levels[level];
  const moved = TASKS.filter((task) => regions[task]);
  if (!moved.length) return [["both tasks read P itself, nothing is moved"]];
  if (x1 === x2 || y1 === y2) return [["P has no area, so no displacement can be compared with it"]];
  const far = joined(moved.map((task, i) => [[`${task} ${i ? "" : "moved "}${percent(regions[task].moved)}`, task]]), ", ");
  const still = TASKS.filter((task) => !regions[task]).flatMap((task) => [[", "], [task, task], [" reads P itself"]]);
  return [...far, [" of P"], ...still];
}

/** What a branch says: of the object's class if P overlaps the object, else of the class with the highest score. */
function verdictOf(names, { scores, label, iou }) {
  if (iou !== null) return [[`score ${scores[label].toFixed(2)}`, "classification"], [", "], [`box IoU ${iou.toFixed(2)}`, "localization"]];
  const best = scores.indexOf(Math.max(...scores));
  return [[`${best ? `‘${names[best]}’` : names[best]} ${scores[best].toFixed(2)}`, "classification"]];
}

const joined = (parts, separator) => parts.flatMap((part, i) => (i ? [[separator], ...part] : part));

const capital = ([[first, role], ...others]) => [[first[0].toUpperCase() + first.slice(1), role], ...others];
