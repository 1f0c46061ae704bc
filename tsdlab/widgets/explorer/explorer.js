// The page's side of tsdlab.explore. Python computes, this file draws: SVG over the image, HTML around it.
//
// `Link` holds the conversation with Python: {serial, set, go} → state with {done: serial, refused}. What the user does is
// shown at once from `link.state`, before Python has heard of it; answers are drawn as they come.

/** @typedef {[number, number, number, number]} Box x1, y1, x2, y2 in pixels of the image */

const SVG = "http://www.w3.org/2000/svg";
const MAGNIFICATIONS = [1, 2, 5, 10, 20];
const SHOWN_CLASSES = 8; // a data set may have hundreds
const PATIENCE = 8000; // ms without an answer before the page says so
const GONE = "The kernel is gone; run the cell again.";

const LAYERS = {
  truth: { key: "g", label: "ground truth", color: "truth", dash: "4 3", mark: "dashed" },
  salient: { key: "e", label: "evidence of the class", color: "truth", dash: "1.5 2.5", mark: "dotted" },
  classification: { key: "c", label: "P̂<sub>c</sub> classify from", color: "classification", mark: "dots" },
  localization: { key: "r", label: "P̂<sub>r</sub> localize from", color: "localization", dash: "7 4", mark: "dashed" },
  decoded: { key: "d", label: "decoded boxes", color: null },
};

const KEYS = [
  ["Image", [["N / P", "next / previous image"], ["X", "next class to filter by"], ["Z", "next size to filter by"],
    ["O", "order: file / largest disagreement"]]],
  ["Proposal", [["← ↑ → ↓", "move by 1 px; with Shift by 10"], ["Alt + arrows", "move the lower right corner"],
    ["T", "type its numbers"], ["J / K", "next / previous RPN proposal"], ["I", "list by score / IoU"]]],
  ["Looking", [["0 … 9", "pool from this level"], ["A", "level as assigned"],
    ["C  R  D", "show P̂c, P̂r, decoded boxes"], ["G  E", "show ground truth, evidence of the class"], ["M", "magnify displacements"],
    ["U", "map: none / classification / localization"], ["B", "map of the next branch"], [",  .", "map weaker / stronger"],
    ["F", "focus the next model"]]],
  ["Keeping", [["S", "save as SVG"], ["Shift + S", "save as PNG"], ["Y", "copy as Python"], ["?", "these keys; Esc closes"]]],
];

// Small builders ------------------------------------------------------------------------------------------------------

function html(tag, properties = {}, ...children) {
  const { dataset, style, ...plain } = properties;
  const element = Object.assign(document.createElement(tag), plain);
  Object.assign(element.dataset, dataset);
  if (style) element.style.cssText = style;
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const button = (label, title, onclick, extra = {}) =>
  html("button", { type: "button", innerHTML: label, title, onclick, ...extra });
const swatch = (color, kind = "") => html("i", { className: `swatch ${kind}`, style: `--color: ${color}` });
const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const next = (list, value, by = 1) => list[(list.indexOf(value) + by + list.length) % list.length];

/** A select that shows `options` ([value, label]; null is the first, "any" one) and calls `choose` with the value. */
function select(title, options, choose) {
  const element = html("select", { title, ariaLabel: title });
  element.append(...options.map(([value, label]) => html("option", { value: value ?? "", textContent: label })));
  element.onchange = () => choose(element.value || null);
  return element;
}

// The conversation ----------------------------------------------------------------------------------------------------

class Link {
  /**
   * @param model anywidget's model.
   * @param {{changed: () => void, said: (text: string, lasting?: boolean) => void}} page
   */
  constructor(model, page) {
    // Several views of one model each have their own; a serial is nobody else's.
    Object.assign(this, { model, page, serial: Date.now(), sent: null, wanted: null });
    this.progress = this.progress.bind(this);
    this.receive = this.receive.bind(this);
    model.on("msg:custom", this.progress);
    model.on("change:_request", this.receive);
  }

  /** A trait as it is here: what was asked for last, else what Python says. */
  state(name) {
    for (const change of [this.wanted?.set, this.sent?.set]) if (change && name in change) return change[name];
    return this.model.get(name);
  }

  /** Ask for a change of state. Of what is asked while Python is at work, the latest of each trait is sent on. */
  ask({ set = {}, go }) {
    this.wanted = { set: { ...this.wanted?.set, ...set }, go: go ?? this.wanted?.go };
    this.page.changed();
    this.send();
  }

  send() {
    if (this.sent || !this.wanted) return;
    this.sent = { serial: ++this.serial, ...this.wanted };
    this.wanted = null;
    this.alarm = setTimeout(() => this.page.said("No answer yet: the kernel is busy, or gone. If it was restarted, run the cell again.", true), PATIENCE);
    try {
      this.model.send(this.sent);
    } catch {
      this.lose();
    }
  }

  progress({ progress: [done, total] }) {
    this.page.said(`asking the detector about image ${done + 1} of ${total} …`, true);
  }

  receive() {
    const { done, refused } = this.model.get("_request");
    if (done !== this.sent?.serial) return;
    clearTimeout(this.alarm);
    this.sent = null;
    this.page.said(refused ?? "");
    this.page.answered(done);
    this.send();
  }

  lose() {
    clearTimeout(this.alarm);
    this.page.said(GONE, true);
    this.page.lost();
  }

  close() {
    clearTimeout(this.alarm);
    this.model.off("msg:custom", this.progress);
    this.model.off("change:_request", this.receive);
  }
}

// Geometry ------------------------------------------------------------------------------------------------------------

/** Centres of the bins of a box, row by row. */
function gridOf([x1, y1, x2, y2], bins) {
  const at = (low, high, i) => low + ((i + 0.5) * (high - low)) / bins;
  return Array.from({ length: bins * bins }, (_, i) => [at(x1, x2, i % bins), at(y1, y2, Math.floor(i / bins))]);
}

const stretched = (from, to, factor) => from.map((value, i) => value + factor * (to[i] - value));
const ordered = ([x1, y1, x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
const rounded = (box) => box.map((value) => Math.round(value * 100) / 100);

/** `box` after its part `handle` ("move", or some of n, s, w, e) went by (dx, dy). */
function dragged([x1, y1, x2, y2], handle, dx, dy) {
  const moves = (side) => handle === "move" || handle.includes(side);
  return [x1 + (moves("w") ? dx : 0), y1 + (moves("n") ? dy : 0), x2 + (moves("e") ? dx : 0), y2 + (moves("s") ? dy : 0)];
}

// Shapes over the image; `u` is a pixel of the screen in pixels of the image ------------------------------------------

/** A box with a light edge around its line, so that it is seen on any ground. */
function boxShape(box, color, u, { width = 2, dash, name } = {}) {
  const [x1, y1, x2, y2] = ordered(box);
  const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none" };
  if (dash) place["stroke-dasharray"] = dash.split(" ").map((part) => part * u).join(" ");
  const line = { ...place, stroke: color, "stroke-width": width * u };
  if (name) line["data-shape"] = name;
  return [
    svg("rect", { ...place, stroke: "white", "stroke-opacity": 0.6, "stroke-width": (width + 1.6) * u }),
    svg("rect", line),
  ];
}

/**
 * Arrows from the bins of `proposal` to `points`, drawn `magnify` times as long; a dot where there is no room for a head.
 * All of a kind are one path: they are drawn anew for every move, and hundreds of elements would take longer than Python.
 */
function arrowShapes(proposal, points, magnify, colors, u) {
  const grid = gridOf(proposal, Math.round(Math.sqrt(points.length)));
  const arrows = points.map((point, i) => [grid[i], stretched(grid[i], point, magnify)]);
  const isLong = ([from, to]) => Math.hypot(to[0] - from[0], to[1] - from[1]) >= 7 * u;
  const dots = (places, width, stroke) =>
    svg("path", { d: places.map((place) => `M${place}h0`).join(""), stroke, "stroke-width": width * u, "stroke-linecap": "round" });
  const shafts = { d: arrows.map(([from, to]) => `M${from}L${to}`).join(""), fill: "none", "stroke-linecap": "round" };
  const short = arrows.filter((arrow) => !isLong(arrow)).map(([, to]) => to);
  const heads = arrows.filter(isLong).map((arrow) => headPath(...arrow, u)).join("");
  return [
    svg("path", { ...shafts, stroke: "white", "stroke-opacity": 0.65, "stroke-width": 2.8 * u }),
    dots(grid, 3, colors.proposal),
    svg("path", { ...shafts, stroke: colors.classification, "stroke-width": 1.5 * u }),
    dots(short, 6, "white"),
    dots(short, 4.8, colors.classification),
    svg("path", { d: heads, fill: colors.classification, stroke: "white", "stroke-width": 0.6 * u }),
  ];
}

function headPath([x1, y1], [x2, y2], u) {
  const length = Math.hypot(x2 - x1, y2 - y1);
  const [dx, dy] = [((x2 - x1) / length) * u, ((y2 - y1) / length) * u];
  const side = (sign) => [x2 - 4 * dx - sign * 3.2 * dy, y2 - 4 * dy + sign * 3.2 * dx];
  return `M${[x2 + 2.5 * dx, y2 + 2.5 * dy]}L${side(1)}L${side(-1)}Z`;
}

function handleShapes([x1, y1, x2, y2], color, u) {
  const [cx, cy] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const places = { nw: [x1, y1], n: [cx, y1], ne: [x2, y1], e: [x2, cy], se: [x2, y2], s: [cx, y2], sw: [x1, y2], w: [x1, cy] };
  const cursors = { nw: "nwse", se: "nwse", ne: "nesw", sw: "nesw", n: "ns", s: "ns", e: "ew", w: "ew" };
  return Object.entries(places).map(([handle, [x, y]]) =>
    svg("rect", {
      x: x - 4 * u, y: y - 4 * u, width: 8 * u, height: 8 * u, rx: 1.5 * u, fill: "white", stroke: color,
      "stroke-width": 1.5 * u, "data-handle": handle, style: `cursor: ${cursors[handle]}-resize`,
    }));
}

// The page ------------------------------------------------------------------------------------------------------------

class Page {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.fixed = model.get("_fixed");
    this.link = new Link(model, this);
    this.ghost = null; // an RPN proposal that is pointed at in the list
    this.drag = null;
    this.build();
    this.redraw = this.redraw.bind(this);
    model.on("change", this.redraw);
    this.pending = { frame: 0, facts: false, serial: null };
    // Sizes are told, not asked for: to ask after a change makes the browser lay out the whole page at once.
    this.resizes = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) this.stages.find(({ canvas }) => canvas === target).width = contentRect.width;
      this.schedule();
    });
    this.stages.forEach(({ canvas }) => this.resizes.observe(canvas));
    root.addEventListener("keydown", (event) => this.onKey(event));
    this.redraw();
  }

  close() {
    cancelAnimationFrame(this.pending.frame);
    this.model.off("change", this.redraw);
    this.resizes.disconnect();
    this.link.close();
  }

  get(name) {
    return this.link.state(name);
  }

  set(change) {
    this.link.ask({ set: change });
  }

  go(by) {
    this.link.ask({ go: by });
  }

  // What the link tells the page

  /** Something was asked for: show what needs no answer. */
  changed() {
    this.root.dataset.waiting = "yes";
    this.schedule();
  }

  answered(serial) {
    this.pending.serial = serial;
    this.schedule();
  }

  said(text, lasting = false) {
    clearTimeout(this.silence);
    this.notice.textContent = text;
    if (text && !lasting) this.silence = setTimeout(() => { this.notice.textContent = ""; }, 6000);
  }

  lost() {
    this.root.classList.add("lost");
  }

  // Building: once

  build() {
    const { fixed } = this;
    this.stages = Object.keys(fixed.models).map((name) => this.buildStage(name));
    this.notice = html("div", { className: "notice", role: "status" });
    this.levels = html("div", { className: "levels" });
    this.scores = html("div", { className: "scores" });
    this.boxes = html("div");
    this.constraint = html("div");
    this.list = html("tbody");
    this.help = buildHelp(() => this.toggleHelp());
    this.root.append(
      this.buildBar(),
      this.notice,
      html("div", { className: "body", style: `--models: ${this.stages.length}` },
        html("div", { className: "look" },
          html("div", { className: "stages" }, ...this.stages.map((stage) => stage.figure)),
          this.buildLegend(),
          (this.levelsPanel = panel("Pooled from each level", this.levels)),
        ),
        html("div", { className: "facts" },
          panel("Proposal P", this.buildFields()),
          panel("Class scores", this.scores),
          panel("Decoded boxes", this.boxes),
          (this.constraintPanel = panel("Progressive constraint", this.constraint)),
          this.buildList(),
        ),
      ),
      this.help,
    );
  }

  buildBar() {
    const { fixed } = this;
    this.place = html("span", { className: "place" });
    this.controls = {
      category: select("only images with this class", [[null, "any class"], ...fixed.names.slice(1).map((n) => [n, n])], (category) => this.set({ category })),
      size: select("only images with an object of this size", sizeOptions(fixed.sizes), (size) => this.set({ size })),
      order: select("order of the images", [["file", "order of the file"], ["disagreement", "largest disagreement first"]], (order) => this.set({ order })),
    };
    this.levelButtons = [[null, "as assigned"], ...fixed.levels.map((name) => [name, name])].map(([level, label]) =>
      button(label, level === null ? "pool P from the level of its size (A)" : `pool P from level ${level}`, () => this.set({ level }), { dataset: { level: level ?? "" } }));
    return html("header", { className: "bar" },
      html("span", { className: "group" },
        button("‹", "previous image (P)", () => this.go(-1)), this.place, button("›", "next image (N)", () => this.go(1))),
      html("span", { className: "group" }, ...Object.values(this.controls)),
      html("span", { className: "group" }, html("label", { textContent: "level" }), html("span", { className: "segments" }, ...this.levelButtons)),
      html("span", { className: "group end" },
        button("SVG", "save the view as SVG (S)", () => this.saveSvg()),
        button("PNG", "save the view as PNG (Shift+S)", () => this.savePng()),
        button("copy Python", "copy a line of Python that shows this again (Y)", () => this.copy()),
        button("?", "keys", () => this.toggleHelp())),
    );
  }

  buildStage(name) {
    const image = svg("image", { x: 0, y: 0 });
    const map = svg("image", { x: 0, y: 0, preserveAspectRatio: "none" });
    // From below: what is known of P, P itself, P's displacements, its handles. A drag draws only P and the handles anew.
    const [known, held, moved, handles] = Array.from({ length: 4 }, () => svg("g"));
    moved.setAttribute("pointer-events", "none"); // they let the pointer through to P
    const canvas = svg("svg", { class: "canvas" }, image, map, known, held, moved, handles);
    const caption = html("figcaption");
    if (Object.keys(this.fixed.models).length > 1) {
      caption.append(button(name, "list this model's levels and RPN proposals (F)", () => this.set({ focus: name }), { className: "model" }));
    } else {
      caption.append(html("span", { className: "model", textContent: name }));
    }
    const note = html("span", { className: "note" });
    caption.append(note);
    canvas.addEventListener("pointerdown", (event) => this.onGrab(event, canvas));
    canvas.addEventListener("pointermove", (event) => this.onDrag(event));
    canvas.addEventListener("pointerup", () => this.onRelease());
    canvas.addEventListener("pointercancel", () => this.onRelease());
    canvas.addEventListener("dblclick", (event) => this.onPlace(event, canvas));
    return { name, canvas, image, map, known, held, moved, handles, note, caption, figure: html("figure", { dataset: { model: name } }, caption, canvas) };
  }

  buildLegend() {
    const { palette, branches } = this.fixed;
    this.layerButtons = Object.entries(LAYERS).map(([layer, { label, color, mark, key }]) => {
      const swatches = color ? [swatch(palette[color], mark)] : this.fixed.series.map((s) => swatch(s.color));
      const element = button("", `show or hide (${key.toUpperCase()})`, () => this.toggle(layer), { className: "layer", dataset: { layer } });
      element.append(...swatches, html("span", { innerHTML: label }));
      return element;
    });
    this.magnifyButtons = MAGNIFICATIONS.map((factor) =>
      button(`${factor}×`, "draw displacements this much longer (M)", () => this.set({ magnify: factor }), { dataset: { factor } }));
    Object.assign(this.controls, {
      underlay: select("sensitivity map under the boxes (U)", [[null, "no map"], ["classification", "classification map"], ["localization", "localization map"]], (underlay) => this.set({ underlay })),
      underlay_branch: select("whose map", [[null, "of what detects"], ...branches.map((b) => [b, `of ${b}`])], (branch) => this.set({ underlay_branch: branch })),
    });
    this.controls.underlay_branch.hidden = branches.length < 2;
    this.opacity = html("input", { type: "range", min: 0, max: 1, step: 0.05, title: "opacity of the map ( , and . )", ariaLabel: "opacity of the map" });
    this.opacity.oninput = () => this.set({ opacity: Number(this.opacity.value) });
    this.scale = html("span", { className: "scale", style: `--gradient: ${this.fixed.gradient.join(", ")}` });
    return html("div", { className: "legend" },
      html("span", { className: "group" }, html("span", { className: "layer fixed" }, swatch(palette.proposal), html("span", { textContent: "P proposal" })), ...this.layerButtons),
      html("span", { className: "group" }, html("label", { textContent: "displacements" }), html("span", { className: "segments" }, ...this.magnifyButtons)),
      html("span", { className: "group" }, this.controls.underlay, this.controls.underlay_branch, this.opacity, this.scale),
    );
  }

  buildFields() {
    this.fields = ["x1", "y1", "x2", "y2"].map((name) => {
      const input = html("input", { type: "text", inputMode: "decimal", ariaLabel: name, name, autocomplete: "off" });
      input.onchange = () => this.onTyped();
      input.onkeydown = (event) => { if (event.key === "Enter") { this.onTyped(); this.root.focus(); } };
      return input;
    });
    this.about = html("p", { className: "about" });
    this.conflict = html("p", { className: "about conflict" });
    return html("div", {},
      html("div", { className: "fields" }, ...this.fields.map((input) => html("label", {}, input.name, input)), html("span", { textContent: "px" })),
      this.about, this.conflict);
  }

  buildList() {
    this.listButtons = [["score", "by score"], ["iou", "by IoU"]].map(([value, label]) =>
      button(label, "sort the list (I)", () => this.set({ list_by: value }), { dataset: { by: value } }));
    this.listTitle = html("span");
    const head = html("tr", {}, ...["", "score", "IoU", "size, px"].map((textContent) => html("th", { textContent })));
    const scroll = html("div", { className: "scroll" }, html("table", {}, html("thead", {}, head), this.list));
    scroll.onpointerleave = () => this.point(null);
    const made = panel("", html("div", {}, scroll));
    made.querySelector("h4").append(this.listTitle, html("span", { className: "segments" }, ...this.listButtons));
    made.classList.add("proposals");
    return made;
  }

  // Drawing: everything that follows from the state

  /** Python's side of the state changed. */
  redraw() {
    this.pending.facts = true;
    this.schedule();
  }

  /** Draw once in the next frame, however much has happened by then. */
  schedule() {
    this.pending.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    const { facts, serial } = this.pending;
    this.pending = { frame: 0, facts: false, serial: null };
    if (facts || !this.drag) {
      this.drawImage();
      this.drawControls();
      this.drawStages();
      this.drawFields();
      this.drawLevels();
    }
    this.drawProposal();
    if (facts) this.drawFacts();
    this.root.dataset.waiting = this.link.wanted || this.link.sent ? "yes" : "no";
    if (serial) this.root.dataset.answered = serial;
  }

  drawImage() {
    const image = this.model.get("_image");
    if (image === this.drawnImage && this.get("focus") === this.drawnFocus && this.get("list_by") === this.drawnBy) return;
    [this.drawnImage, this.drawnFocus, this.drawnBy] = [image, this.get("focus"), this.get("list_by")];
    const pad = 0.06 * Math.max(image.width, image.height); // room for what hangs over the edge
    for (const { canvas, image: picture, map } of this.stages) {
      canvas.setAttribute("viewBox", [-pad, -pad, image.width + 2 * pad, image.height + 2 * pad].join(" "));
      for (const layer of [picture, map]) {
        layer.setAttribute("width", image.width);
        layer.setAttribute("height", image.height);
      }
      picture.setAttribute("href", image.url);
      picture.setAttribute("style", image.width < 400 ? "image-rendering: pixelated" : "");
    }
    const position = image.position ? `${image.position} of ${image.listed}` : `not among the ${image.listed} chosen`;
    this.place.replaceChildren(html("b", { textContent: `image ${image.index}` }), ` ${position}`);
    this.drawList();
  }

  drawList() {
    const image = this.model.get("_image");
    const by = this.get("list_by") === "iou" ? 5 : 4;
    const rows = image.proposals[this.get("focus")].toSorted((a, b) => b[by] - a[by]);
    this.sortedProposals = rows.map((row) => row.slice(0, 4));
    this.listTitle.textContent = this.stages.length > 1 ? `RPN of ${this.get("focus")}` : "RPN proposals";
    this.list.replaceChildren(...rows.map(([x1, y1, x2, y2, score, iou], i) => {
      const cells = [i + 1, score.toFixed(3), image.objects.length ? iou.toFixed(2) : "–", `${(x2 - x1).toFixed(0)} × ${(y2 - y1).toFixed(0)}`];
      const row = html("tr", {}, ...cells.map((textContent) => html("td", { textContent })));
      row.onclick = () => this.set({ proposal: [x1, y1, x2, y2] });
      row.onpointerenter = () => this.point([x1, y1, x2, y2]);
      return row;
    }));
  }

  drawControls() {
    const answer = this.model.get("_answer");
    for (const [name, control] of Object.entries(this.controls)) control.value = this.get(name) ?? "";
    const assigned = answer.models[this.get("focus")]?.assigned;
    const level = this.link.state("level");
    for (const element of this.levelButtons) {
      element.ariaPressed = String((level ?? "") === element.dataset.level);
      element.classList.toggle("assigned", element.dataset.level === assigned);
    }
    for (const element of this.layerButtons) {
      element.ariaPressed = String(this.get("layers").includes(element.dataset.layer));
      element.hidden = element.dataset.layer === "salient" && !this.model.get("_image").salient.length;
    }
    for (const element of this.magnifyButtons) element.ariaPressed = String(Number(element.dataset.factor) === this.get("magnify"));
    for (const element of this.listButtons) element.ariaPressed = String(element.dataset.by === this.get("list_by"));
    if (document.activeElement !== this.opacity) this.opacity.value = this.get("opacity");
    const map = this.model.get("_maps")[this.get("focus")];
    this.opacity.hidden = !this.get("underlay");
    this.scale.hidden = !map;
    if (map) this.scale.dataset.top = map.top.toFixed(2);
  }

  /** P where the pointer has it. All that a drag draws between two answers: it shares the time with them. */
  drawProposal() {
    const proposal = this.get("proposal");
    const [x1, y1, x2, y2] = ordered(proposal);
    const color = this.fixed.palette.proposal;
    for (const { canvas, width, held, handles } of this.stages) {
      if (!width) continue;
      const u = canvas.viewBox.baseVal.width / width;
      held.replaceChildren(
        ...boxShape(proposal, color, u, { width: 2.5, name: "proposal" }),
        svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "transparent", "data-handle": "move", style: "cursor: move" }));
      handles.replaceChildren(...handleShapes([x1, y1, x2, y2], color, u));
    }
  }

  drawStages() {
    const image = this.model.get("_image");
    const answer = this.model.get("_answer");
    for (const { name, width, canvas, map, known, moved, note, figure } of this.stages) {
      if (!width) continue;
      const u = canvas.viewBox.baseVal.width / width;
      const under = this.model.get("_maps")[name];
      map.setAttribute("href", under?.url ?? "");
      map.setAttribute("opacity", under ? this.get("opacity") : 0);
      const of = answer.models[name];
      const how = of.level === of.assigned ? "the one assigned to its size" : `its size would be assigned ${of.assigned}`;
      note.textContent = `P pooled from level ${of.level}, ${how}`;
      figure.classList.toggle("focused", this.stages.length > 1 && this.get("focus") === name);
      known.replaceChildren(...this.knownShapes(name, image, answer, u));
      moved.replaceChildren(...this.displacementShapes(answer.proposal, of.levels[of.level], this.get("layers"), u));
    }
  }

  /** Objects and what the branches make of P. */
  knownShapes(name, image, answer, u) {
    const { palette } = this.fixed;
    const layers = this.get("layers");
    const of = answer.models[name];
    const shapes = [];
    if (layers.includes("truth")) {
      shapes.push(...image.objects.flatMap(({ box }, i) =>
        boxShape(box, palette.truth, u, { dash: LAYERS.truth.dash, width: i === answer.nearest?.index ? 2.5 : 1.5, name: "truth" })));
    }
    if (layers.includes("salient")) {
      shapes.push(...image.salient.flatMap((box) => boxShape(box, palette.truth, u, { dash: LAYERS.salient.dash, width: 1.5 })));
    }
    if (this.ghost) shapes.push(...boxShape(this.ghost, palette.proposal, u, { width: 1, dash: "4 3" }));
    if (layers.includes("decoded")) {
      for (const { branch, color } of this.fixed.series.filter((series) => series.model === name)) {
        shapes.push(...boxShape(of.branches[branch].box, color, u, { width: 1.6, name: `decoded ${branch}` }));
      }
    }
    return shapes;
  }

  /** P̂_r and P̂_c of a level's answer. */
  displacementShapes(proposal, at, layers, u) {
    const magnify = this.get("magnify");
    const shapes = [];
    if (at.region && layers.includes("localization")) {
      const region = stretched(proposal, at.region, magnify);
      shapes.push(...boxShape(region, this.fixed.palette.localization, u, { dash: LAYERS.localization.dash, name: "region" }));
    }
    if (at.points && layers.includes("classification")) {
      shapes.push(...arrowShapes(proposal, at.points, magnify, this.fixed.palette, u));
    }
    return shapes;
  }

  drawFields() {
    const proposal = this.get("proposal");
    this.fields.forEach((input, i) => {
      if (document.activeElement !== input) input.value = Number(proposal[i].toFixed(1));
    });
  }

  drawFacts() {
    const answer = this.model.get("_answer");
    const image = this.model.get("_image");
    this.about.replaceChildren(...aboutProposal(answer.proposal, answer.nearest, this.fixed.palette));
    this.drawConflict(image.conflict);
    this.scores.replaceChildren(...scoreRows(answer, this.fixed));
    this.boxes.replaceChildren(boxTable(answer, this.fixed));
    const terms = this.stages.flatMap(({ name }) => constraintRows(answer.models[name].constraint));
    this.constraintPanel.hidden = terms.length === 0 && !Object.values(answer.models).some((of) => of.branches.tsd && of.branches.sibling);
    this.constraint.replaceChildren(...(terms.length ? terms : [html("p", { className: "about", textContent: "P overlaps no object, or the model has no margins." })]));
  }

  drawConflict(conflict) {
    this.conflict.hidden = !conflict;
    if (!conflict) return;
    const take = (label, box) => button(label, "take this proposal", () => this.set({ proposal: box }), { className: "link" });
    this.conflict.replaceChildren(
      `Of this image's RPN proposals, score and box disagree most about the ${conflict.name}: `,
      take(`best scored, IoU ${fixed(conflict.score_iou)}`, conflict.by_score), " · ",
      take(`best fitting, IoU ${fixed(conflict.best_iou)}`, conflict.by_iou));
  }

  drawLevels() {
    const answer = this.model.get("_answer");
    const image = this.model.get("_image");
    const of = answer.models[this.get("focus")];
    this.levelsPanel.querySelector("h4").textContent = `The same P pooled from each level${this.stages.length > 1 ? `: ${this.get("focus")}` : ""}`;
    // The figures stay, with the picture in them: to decode it anew for every answer would take longer than all else.
    const names = Object.keys(of.levels);
    if (names.join() !== this.levelFigures?.map(({ level }) => level).join()) {
      this.levelFigures = names.map((level) => this.buildLevelFigure(level));
      this.levels.replaceChildren(...this.levelFigures.map(({ figure }) => figure));
    }
    for (const figure of this.levelFigures) this.drawLevelFigure(figure, of, answer, image);
  }

  buildLevelFigure(level) {
    const picture = svg("image", {});
    const overlay = svg("g", {});
    const canvas = svg("svg", {}, picture, overlay);
    const assigned = html("em", { textContent: "assigned" });
    const facts = html("span", { className: "numbers" });
    const figure = button("", `pool P from level ${level}`, () => this.set({ level }), { className: "level", dataset: { level } });
    figure.append(html("span", { className: "title" }, html("b", { textContent: `level ${level}` }), assigned), canvas, facts);
    return { level, figure, picture, overlay, canvas, assigned, facts };
  }

  drawLevelFigure({ level, figure, picture, overlay, canvas, assigned, facts }, of, answer, image) {
    const at = of.levels[level];
    const [x1, y1, x2, y2] = answer.proposal;
    const side = 1.5 * Math.max(x2 - x1, y2 - y1, 8);
    const u = side / 150;
    canvas.setAttribute("viewBox", [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2, side, side].join(" "));
    if (picture.getAttribute("href") !== image.url) {
      const style = image.width < 400 ? "image-rendering: pixelated" : "";
      for (const [key, value] of Object.entries({ href: image.url, width: image.width, height: image.height, style })) {
        picture.setAttribute(key, value);
      }
    }
    overlay.replaceChildren(
      ...boxShape(answer.proposal, this.fixed.palette.proposal, u, { width: 1.5 }),
      ...this.displacementShapes(answer.proposal, at, this.get("layers"), u));
    facts.replaceChildren();
    if (at.moved !== undefined) facts.append(html("span", { innerHTML: `|ΔC| ${percent(at.moved)}`, title: "mean length of the 49 offsets, in sizes of P" }));
    if (at.shift !== undefined) facts.append(html("span", { innerHTML: `|ΔR| ${percent(at.shift)}`, title: "length of the translation, in sizes of P" }));
    facts.append(html("span", { textContent: `${this.fixed.names[at.label]} ${fixed(at.score)}` }), html("span", { textContent: `IoU ${fixed(at.iou)}` }));
    figure.classList.toggle("used", level === of.level);
    assigned.hidden = level !== of.assigned;
  }

  // What the user does

  toPixels(event, toImage) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(toImage);
    return [point.x, point.y];
  }

  onGrab(event, canvas) {
    const handle = event.target.dataset.handle;
    this.root.focus({ preventScroll: true });
    if (!handle || event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    const toImage = canvas.getScreenCTM().inverse();
    this.drag = { handle, toImage, from: this.toPixels(event, toImage), box: ordered(this.get("proposal")) };
  }

  onDrag(event) {
    if (!this.drag) return;
    const { handle, toImage, from, box } = this.drag;
    const [x, y] = this.toPixels(event, toImage);
    this.set({ proposal: rounded(dragged(box, handle, x - from[0], y - from[1])) });
  }

  onRelease() {
    this.drag = null;
  }

  /** A double click puts the middle of P there: the way back for a box that was lost outside. */
  onPlace(event, canvas) {
    const [x, y] = this.toPixels(event, canvas.getScreenCTM().inverse());
    const [x1, y1, x2, y2] = ordered(this.get("proposal"));
    const [w, h] = [(x2 - x1) / 2, (y2 - y1) / 2];
    this.set({ proposal: rounded([x - w, y - h, x + w, y + h]) });
  }

  onTyped() {
    const typed = this.fields.map((input) => (input.value.trim() === "" ? NaN : Number(input.value.replace(",", "."))));
    const wrong = this.fields.find((_, i) => !Number.isFinite(typed[i]));
    if (!wrong) return this.set({ proposal: typed });
    this.said(`${wrong.name} is a number of pixels; “${wrong.value}” is not.`);
    wrong.value = Number(this.get("proposal")[this.fields.indexOf(wrong)].toFixed(1));
  }

  point(box) {
    this.ghost = box;
    this.schedule();
  }

  toggle(layer) {
    const layers = this.get("layers");
    this.set({ layers: layers.includes(layer) ? layers.filter((name) => name !== layer) : [...layers, layer] });
  }

  toggleHelp() {
    this.help.hidden = !this.help.hidden;
    if (this.help.hidden) this.root.focus({ preventScroll: true });
  }

  /** Take the RPN proposal `by` places further down the list. */
  takeNext(by) {
    if (!this.sortedProposals.length) return;
    const here = this.sortedProposals.findIndex((box) => box.every((v, i) => Math.abs(v - this.get("proposal")[i]) < 0.02));
    const there = here < 0 ? 0 : (here + by + this.sortedProposals.length) % this.sortedProposals.length;
    this.set({ proposal: this.sortedProposals[there] });
    this.list.children[there]?.scrollIntoView({ block: "nearest" });
  }

  onKey(event) {
    if (event.target.matches("input[type=text], select") || event.ctrlKey || event.metaKey) {
      event.stopPropagation(); // typing is not for the notebook either
      return;
    }
    const act = this.actionOf(event);
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  actionOf(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in arrows) {
      if (event.target === this.opacity) return null;
      const [dx, dy] = arrows[event.key].map((way) => way * (event.shiftKey ? 10 : 1));
      return () => this.set({ proposal: rounded(dragged(this.get("proposal"), event.altKey ? "se" : "move", dx, dy)) });
    }
    if (event.altKey) return null;
    if (/^\d$/.test(event.key)) {
      const level = this.fixed.levels.includes(event.key) ? event.key : this.fixed.levels[Number(event.key)];
      return level === undefined ? null : () => this.set({ level });
    }
    if (event.key === "S") return () => this.savePng();
    const cycle = (name, list, by = 1) => () => this.set({ [name]: next(list, this.get(name), by) });
    const options = (name) => [...this.controls[name].options].map(({ value }) => value || null);
    const actions = {
      n: () => this.go(1), p: () => this.go(-1),
      x: cycle("category", options("category")), z: cycle("size", options("size")), o: cycle("order", options("order")),
      t: () => this.fields[0].select(), j: () => this.takeNext(1), k: () => this.takeNext(-1),
      i: cycle("list_by", ["score", "iou"]), a: () => this.set({ level: null }),
      m: cycle("magnify", MAGNIFICATIONS), u: cycle("underlay", options("underlay")),
      b: cycle("underlay_branch", options("underlay_branch")), f: cycle("focus", Object.keys(this.fixed.models)),
      ",": () => this.set({ opacity: Math.max(0, Math.round(10 * this.get("opacity") - 1) / 10) }),
      ".": () => this.set({ opacity: Math.min(1, Math.round(10 * this.get("opacity") + 1) / 10) }),
      s: () => this.saveSvg(), y: () => this.copy(), "?": () => this.toggleHelp(),
    };
    for (const [layer, { key }] of Object.entries(LAYERS)) actions[key] = () => this.toggle(layer);
    if (!this.help.hidden) actions.escape = () => this.toggleHelp();
    return actions[event.key.toLowerCase()];
  }

  // Keeping the view

  /** All stages beside one another with their names, as one SVG that needs nothing else. */
  asSvg() {
    const image = this.model.get("_image");
    const answer = this.model.get("_answer");
    const [side, gap, head, foot] = [480, 16, 28, 44];
    const [, , width, height] = this.stages[0].canvas.getAttribute("viewBox").split(" ").map(Number);
    const tall = (side * height) / width;
    const total = this.stages.length * (side + gap) + gap;
    const text = (x, y, content, more = {}) => {
      const element = svg("text", { x, y, "font-family": "sans-serif", "font-size": 13, fill: "#222", ...more });
      element.textContent = content;
      return element;
    };
    const whole = svg("svg", { xmlns: SVG, width: total, height: tall + head + foot, viewBox: `0 0 ${total} ${tall + head + foot}` },
      svg("rect", { width: "100%", height: "100%", fill: "white" }));
    this.stages.forEach(({ name, canvas }, i) => {
      const x = gap + i * (side + gap);
      const copy = canvas.cloneNode(true);
      copy.querySelectorAll("rect[data-handle]").forEach((handle) => handle.remove());
      copy.removeAttribute("class");
      for (const [key, value] of Object.entries({ x, y: head, width: side, height: tall })) copy.setAttribute(key, value);
      whole.append(text(x, 19, `${name}, level ${answer.models[name].level}`, { "font-weight": "bold" }), copy);
    });
    const { palette } = this.fixed;
    const entries = [["P proposal", palette.proposal], ["P̂c classify from", palette.classification], ["P̂r localize from", palette.localization],
      ["ground truth", palette.truth], ...this.fixed.series.map((s) => [`decoded, ${s.label}`, s.color])];
    let x = gap;
    let y = tall + head + 16;
    for (const [label, color] of entries) {
      const long = 28 + 7 * label.length;
      if (x + long > total) [x, y] = [gap, y + 18];
      whole.append(svg("rect", { x, y: y - 8, width: 12, height: 8, fill: color }), text(x + 17, y, label, { "font-size": 12 }));
      x += long;
    }
    whole.setAttribute("height", y + 12);
    whole.setAttribute("viewBox", `0 0 ${total} ${y + 12}`);
    return { source: new XMLSerializer().serializeToString(whole), width: total, height: y + 12, name: `image-${image.index}` };
  }

  saveSvg() {
    const { source, name } = this.asSvg();
    download(new Blob([source], { type: "image/svg+xml" }), `${name}.svg`);
  }

  async savePng() {
    const { source, width, height, name } = this.asSvg();
    const picture = new Image();
    picture.src = URL.createObjectURL(new Blob([source], { type: "image/svg+xml" }));
    await picture.decode();
    const canvas = html("canvas", { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(picture.src);
    canvas.toBlob((blob) => download(blob, `${name}.png`));
  }

  async copy() {
    const line = this.model.get("_answer").python;
    try {
      await navigator.clipboard.writeText(line);
      this.said(`copied: ${line}`);
    } catch {
      this.said(line, true); // a page that is not served securely has no clipboard: to be copied by hand
    }
  }
}

// Parts of the facts --------------------------------------------------------------------------------------------------

function panel(title, content) {
  return html("section", { className: "panel" }, html("h4", { innerHTML: title }), content);
}

function sizeOptions(sizes) {
  const coco = { small: "small: < 32² px²", medium: "medium: < 96² px²", large: "large: ≥ 96² px²" };
  return [[null, "any size"], ...sizes.map((size) => [size, coco[size] ?? size])];
}

function aboutProposal([x1, y1, x2, y2], nearest, palette) {
  const size = `${Math.abs(x2 - x1).toFixed(1)} × ${Math.abs(y2 - y1).toFixed(1)} px`;
  if (!nearest) return [`${size}; the image has no objects`];
  const name = html("b", { textContent: nearest.name, style: `color: ${palette.truth}` });
  return nearest.overlap > 0
    ? [`${size}; IoU ${fixed(nearest.overlap)} with the `, name]
    : [`${size}; overlaps no object, the nearest is a `, name];
}

/** Bars of the best-scored classes, the nearest object's among them: every series in each. */
function scoreRows(answer, { names, series }) {
  const scoresOf = ({ model, branch }) => answer.models[model].branches[branch].scores;
  const best = names.map((_, i) => Math.max(...series.map((s) => scoresOf(s)[i])));
  const label = answer.nearest?.label;
  const shown = new Set(best.map((_, i) => i).sort((a, b) => best[b] - best[a]).slice(0, SHOWN_CLASSES));
  if (label !== undefined) shown.add(label);
  const key = html("div", { className: "key" }, ...series.map((s) => html("span", {}, swatch(s.color, "bar"), s.label)));
  const rows = [...shown].sort((a, b) => a - b).map((i) =>
    html("div", { className: `class ${i === label ? "true" : ""}` },
      html("span", { className: "name", textContent: names[i], title: i === label ? "class of the nearest object" : "" }),
      html("span", { className: "bars" }, ...series.map((s) => bar(scoresOf(s)[i], s.color, `${s.label}: ${names[i]}`, s, i)))));
  const rest = names.length - shown.size;
  return [key, ...rows, ...(rest ? [html("p", { className: "about", textContent: `and ${rest} classes with lower scores` })] : [])];
}

function bar(value, color, title, series, label) {
  return html("span", { className: "bar-row", title: `${title} ${value.toFixed(4)}`, dataset: { series: series.label, label, value } },
    html("span", { className: "track" }, html("i", { style: `width: ${100 * value}%; background: ${color}` })),
    html("span", { className: "value", textContent: value.toFixed(2) }));
}

function boxTable(answer, { names, series }) {
  const head = html("tr", {}, ...["", "for class", "score", "IoU"].map((textContent) => html("th", { textContent })));
  return html("table", { className: "boxes" }, html("thead", {}, head), html("tbody", {}, ...series.map((s) => {
    const { label, scores, iou } = answer.models[s.model].branches[s.branch];
    const fit = iou === null
      ? html("span", { textContent: "–" })
      : html("span", { className: "bar-row" }, html("span", { className: "track" }, html("i", { style: `width: ${100 * iou}%; background: ${s.color}` })),
        html("span", { className: "value", textContent: fixed(iou, 3) }));
    return html("tr", { dataset: { series: s.label, iou } },
      html("td", {}, swatch(s.color), s.label), html("td", { textContent: names[label] }), html("td", { textContent: fixed(scores[label], 3) }), html("td", {}, fit));
  })));
}

function constraintRows(terms) {
  const texts = [["M<sub>cls</sub>", "score"], ["M<sub>loc</sub>", "IoU"]];
  return terms.flatMap((term, i) => {
    if (!term) return [];
    const { value, sibling, own, margin } = term;
    const asked = Math.min(margin, 1 - sibling);
    return [html("div", { className: "term", dataset: { value } },
      html("b", { innerHTML: `${texts[i][0]} ${fixed(value, 3)}` }),
      html("span", { innerHTML: `= | ${fixed(sibling, 3)} − ${fixed(own, 3)} + ${fixed(asked, 3)} |₊`, title: `${texts[i][1]}: sibling − tsd + min(margin ${margin}, 1 − sibling)` }),
      html("em", { textContent: value >= 0.0005 ? `tsd's ${texts[i][1]} is not ahead enough` : `tsd's ${texts[i][1]} is ahead enough` }))];
  });
}

function buildHelp(close) {
  const parts = KEYS.map(([title, keys]) => html("div", {}, html("h4", { textContent: title }),
    html("dl", {}, ...keys.flatMap(([key, what]) => [html("dt", { textContent: key }), html("dd", { textContent: what })]))));
  return html("div", { className: "help", hidden: true, role: "dialog", ariaLabel: "keys" },
    html("div", { className: "sheet" },
      html("p", { textContent: "Drag P or its handles; double-click to put it somewhere; click an RPN proposal, a level or a legend entry." }),
      html("div", { className: "columns" }, ...parts), button("close", "Esc", close)));
}

function download(blob, name) {
  const link = html("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function render({ model, el }) {
  const root = html("div", { className: "tsdlab-explorer", tabIndex: 0, dataset: { lmSuppressShortcuts: "true", waiting: "no" } });
  root.style.setProperty("--truth", model.get("_fixed").palette.truth);
  root.style.setProperty("--proposal", model.get("_fixed").palette.proposal);
  el.append(root);
  const page = new Page(model, root);
  return () => page.close();
}

export default { render };
