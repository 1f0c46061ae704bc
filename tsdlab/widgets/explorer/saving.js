// Keep the view: as SVG, as PNG, or as the line of Python that shows it again.

import { download, html } from "../page/dom.js";
import { savedView } from "./saved_view.js";

export class Saving {
  constructor(page) {
    this.page = page;
  }

  get name() {
    return `image-${this.page.told("image").index}`;
  }

  saveSvg() {
    download(new Blob([savedView(this.page).source], { type: "image/svg+xml" }), `${this.name}.svg`);
  }

  async savePng() {
    const { source, width, height } = savedView(this.page);
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
