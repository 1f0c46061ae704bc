// Keep the view: as SVG, as PNG, or as the line of Python that shows it again.

import { download, html, setAttributes, svg } from "../page/dom.js";

const [SIDE, GAP, HEAD, LINE] = [480, 16, 28, 18]; // pixels: width of an image, space around it, its title, a line of the key

export class Saving {
  constructor(page) {
    this.page = page;
  }

  /** All images beside one another with their titles and a key, as one SVG that needs nothing else. */
  asSvg() {
    const { views, fixed } = this.page;
    const answer = this.page.told("answer");
    const { width, height } = views[0].canvas.viewBox.baseVal;
    const tall = (SIDE * height) / width;
    const total = views.length * (SIDE + GAP) + GAP;
    const images = views.flatMap(({ model, canvas }, i) => {
      const x = GAP + i * (SIDE + GAP);
      const copy = setAttributes(canvas.cloneNode(true), { x, y: HEAD, width: SIDE, height: tall, class: null });
      copy.querySelectorAll("rect[data-handle]").forEach((handle) => handle.remove());
      return [this.text(x, 19, `${model}, level ${answer.models[model].level}`, { "font-weight": "bold" }), copy];
    });
    const [key, bottom] = this.key(fixed, tall + HEAD + 16, total);
    const whole = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: total, height: bottom, viewBox: `0 0 ${total} ${bottom}` },
      svg("rect", { width: "100%", height: "100%", fill: "white" }), images, key);
    return { source: new XMLSerializer().serializeToString(whole), width: total, height: bottom };
  }

  /** The key, and the y where it ends. */
  key({ palette, series }, top, total) {
    const entries = [["P: proposal", palette.proposal], ["P̂c: bins for the class", palette.classification],
      ["P̂r: region for the box", palette.localization], ["ground truth", palette.truth],
      ...series.map(({ label }) => [`box decoded by ${label}`, palette.localization])];
    let [x, y] = [GAP, top];
    const shapes = entries.flatMap(([label, color]) => {
      const long = 28 + 7 * label.length;
      if (x + long > total) [x, y] = [GAP, y + LINE];
      const entry = [svg("rect", { x, y: y - 8, width: 12, height: 8, fill: color }), this.text(x + 17, y, label, { "font-size": 12 })];
      x += long;
      return entry;
    });
    return [shapes, y + 12];
  }

  text(x, y, content, attributes) {
    return svg("text", { x, y, "font-family": "sans-serif", "font-size": 13, fill: "#222", ...attributes }, content);
  }

  get name() {
    return `image-${this.page.told("image").index}`;
  }

  saveSvg() {
    download(new Blob([this.asSvg().source], { type: "image/svg+xml" }), `${this.name}.svg`);
  }

  async savePng() {
    const { source, width, height } = this.asSvg();
    const picture = new Image();
    picture.src = URL.createObjectURL(new Blob([source], { type: "image/svg+xml" }));
    await picture.decode();
    const canvas = html("canvas", { width: Math.round(2 * width), height: Math.round(2 * height) });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(picture.src);
    canvas.toBlob((blob) => download(blob, `${this.name}.png`));
  }

  async copyPython() {
    const line = this.page.told("python");
    try {
      await navigator.clipboard.writeText(line);
      this.page.say(`Copied: ${line}`);
    } catch {
      this.page.say(line, true); // a page without https has no clipboard: the line is shown, to be copied by hand
    }
  }
}
