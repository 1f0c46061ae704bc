// The page of `explore_levels`: draws what Python sends, and sends back which filter, column or point was picked.
// No state of its own beyond what the mouse is doing: everything else is in the model's traits.

const NS = "http://www.w3.org/2000/svg";
const LEGEND = [
  ["proposal", "P: proposal"],
  ["classification", "P̂_c: bins for the class"],
  ["localization", "P̂_r: region for the box"],
  ["truth", "ground truth"],
];
// Means that tell most at a glance, in the order of the story: how far, whereto, with what gain.
const FIGURES = [
  ["classification_offset", "mean |ΔC|"],
  ["localization_offset", "mean |ΔR|"],
  ["grid_on_salient", "P's grid on the salient part"],
  ["moved_on_salient", "P̂_c on the salient part"],
  ["centre_distance", "P to the object's centre"],
  ["localization_centre_distance", "P̂_r to the object's centre"],
];
const SHARES = new Set(["grid_on_salient", "moved_on_salient"]);
const REACH = 16; // px around the mouse in which a point is taken
const PAUSE = 120; // ms between two requests of a drag: each is a round trip

// Making nodes --------------------------------------------------------------------------------------------------------

function node(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(NS, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Numbers -------------------------------------------------------------------------------------------------------------

function short(value, column) {
  if (value === null || value === undefined) return "–";
  if (column && SHARES.has(column)) return `${(100 * value).toFixed(1)} %`;
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
}

function ticks(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (step / power === 2.5 ? 1 : 0));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
    found.push([i * step, (i * step).toFixed(digits).replace(/^-0(\.0*)?$/, "0").replace("-", "−")]);
  }
  return found;
}

function scale([low, high], start, end) {
  return (value) => start + ((value - low) / (high - low)) * (end - start);
}

// The view ------------------------------------------------------------------------------------------------------------

class View {
  constructor(model, el) {
    this.model = model;
    this.fixed = model.get("_fixed");
    this.hovered = null;
    this.dragged = null; // [low, high] while a handle of the size range is held
    this.build(el);
    this.events = [
      ["change:_shown", () => this.draw()],
      ["change:_opened", () => this.drawOpened()],
      ["change:_explorer_id", () => this.showExplorer()],
    ];
    for (const [name, handler] of this.events) model.on(name, handler);
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.root);
    this.showExplorer();
  }

  dispose() {
    this.watcher.disconnect();
    clearTimeout(this.timer);
    for (const [name, handler] of this.events) this.model.off(name, handler);
  }

  build(el) {
    const sections = [];
    const add = (name, title) => {
      const [body, head] = [node("div", { class: "body" }), node("h3", {}, title)];
      sections.push(node("section", { class: `panel ${name}` }, head, body));
      return [body, head];
    };
    [this.scatter, this.scatterHead] = add("scatter", "");
    [this.distributions] = add("distributions", "By level");
    [this.field] = add("field", "Mean displacement on P");
    [this.opened] = add("opened", "Selected");
    [this.examples, this.examplesHead] = add("examples", "Examples");
    this.levels = node("div", { class: "levels", role: "group", "aria-label": "level" });
    this.category = node("select", {
      "aria-label": "class",
      onchange: (event) => this.send("category", event.target.value),
    });
    this.sizes = node("div", { class: "sizes" });
    this.sizeText = node("output");
    this.reset = node("button", { class: "reset", onclick: () => this.resetFilters() }, "Reset");
    this.figures = node("div", { class: "figures" });
    this.xPicker = this.picker("x");
    this.yPicker = this.picker("y");
    this.scatterHead.append(this.yPicker, node("span", {}, "against"), this.xPicker);
    // Made once and redrawn inside, so that it keeps the focus while arrow keys walk over its points.
    this.scatterDrawing = svg("svg", {
      tabindex: 0,
      role: "img",
      onpointermove: (event) => this.hover(this.nearest(event)),
      onpointerleave: () => this.hover(null),
      onclick: (event) => this.pick(this.nearest(event)),
      onkeydown: (event) => this.step(event),
    });
    this.levelKey = node("div", { class: "level-key" });
    this.tip = node("div", { class: "tip" });
    this.scatter.append(this.scatterDrawing, this.levelKey, this.tip);
    this.code = node("code");
    // Beside the root, not in it: the explorer has styles of its own.
    this.explorer = node("div", { class: "tsdlab-levels-explorer" });
    const legend = LEGEND.map(([role, text]) => node("span", { class: `key ${role}` }, text));
    this.root = node(
      "div",
      { class: "tsdlab-levels" },
      node(
        "header",
        {},
        node("label", {}, node("span", {}, "Level"), this.levels),
        node("label", {}, node("span", {}, "Class"), this.category),
        node("div", { class: "field-of-size" }, node("span", {}, "√area of P"), this.sizes, this.sizeText),
        this.reset,
      ),
      this.figures,
      node("div", { class: "panels" }, ...sections),
      node("footer", {}, node("div", { class: "legend" }, ...legend), this.code),
    );
    for (const [role, color] of Object.entries(this.fixed.palette)) this.root.style.setProperty(`--${role}`, color);
    el.append(node("div", { class: "tsdlab-levels-frame" }, this.root, this.explorer));
  }

  picker(trait) {
    const options = this.fixed.columns.map((column) =>
      node("option", { value: column.name, title: column.explained }, this.title(column)),
    );
    return node(
      "select",
      { "aria-label": `column of the ${trait} axis`, onchange: (event) => this.send(trait, event.target.value) },
      ...options,
    );
  }

  title({ title, unit }) {
    return unit ? `${title} (${unit})` : title;
  }

  column(name) {
    const unknown = { name, title: name, unit: "", role: "proposal" }; // a column without values is not offered
    return this.fixed.columns.find((column) => column.name === name) ?? unknown;
  }

  send(trait, value) {
    this.model.set(trait, value);
    this.model.save_changes();
  }

  resetFilters() {
    this.model.set({ level: "all", category: "all", size: this.fixed.size });
    this.model.save_changes();
  }

  draw() {
    this.shown = this.model.get("_shown");
    this.drawFilters();
    this.drawFigures();
    this.drawScatter();
    this.drawDistributions();
    this.drawField();
    this.drawExamples();
    this.drawOpened();
    this.code.textContent = this.shown.python;
  }

  // Filters -----------------------------------------------------------------------------------------------------------

  drawFilters() {
    const level = this.model.get("level");
    const names = ["all", ...this.fixed.levels];
    // Buttons are made once and then changed, so that the one in focus stays in focus.
    if (!this.levels.children.length) {
      this.levels.append(
        ...names.map((name) => node("button", { onclick: () => this.send("level", name) }, name, node("small"))),
      );
      this.category.append(...["all", ...this.fixed.categories].map((name) => node("option", { value: name })));
    }
    names.forEach((name, i) => {
      const button = this.levels.children[i];
      button.setAttribute("aria-pressed", name === level);
      button.lastChild.textContent = this.shown.levels[i];
    });
    ["all", ...this.fixed.categories].forEach((name, i) => {
      this.category.children[i].textContent = `${name}  (${this.shown.categories[i]})`;
    });
    this.category.value = this.model.get("category");
    this.xPicker.value = this.model.get("x");
    this.yPicker.value = this.model.get("y");
    this.reset.disabled = level === "all" && this.category.value === "all" && !this.sizeNarrowed();
    this.drawSizes();
  }

  sizeNarrowed() {
    const [low, high] = this.model.get("size");
    return low > this.fixed.size[0] || high < this.fixed.size[1];
  }

  drawSizes() {
    const [low, high] = this.dragged ?? this.model.get("size");
    this.sizeText.textContent = `${Math.round(low)}…${Math.round(high)} px`;
    const { all, chosen } = this.shown.sizes;
    const [width, height] = [150, 30];
    const x = scale(this.fixed.size, 7, width - 7);
    const top = Math.max(...all, 1);
    const step = (width - 14) / all.length;
    const bars = (counts, style) =>
      svg("path", {
        class: style,
        d: counts
          .map((n, i) => `M${7.5 + i * step} ${height}h${step - 1}v${(-n / top) * (height - 4)}h${1 - step}z`)
          .join(""),
      });
    const clamped = [low, high].map((v) => Math.min(Math.max(v, this.fixed.size[0]), this.fixed.size[1]));
    const drawn = [
      bars(all, "bar all"),
      bars(chosen, "bar chosen"),
      svg("rect", { class: "veil", x: 0, y: 0, width: x(clamped[0]), height }),
      svg("rect", { class: "veil", x: x(clamped[1]), y: 0, width: width - x(clamped[1]), height }),
    ];
    if (!this.sizeDrawing) {
      this.sizeDrawing = svg("svg", { width, height: height + 2, viewBox: `0 0 ${width} ${height + 2}` });
      this.sizeBars = svg("g");
      this.handles = [0, 1].map((end) => this.handle(end, height));
      this.sizeDrawing.append(this.sizeBars, ...this.handles);
      this.sizes.append(this.sizeDrawing);
    }
    this.sizeBars.replaceChildren(...drawn);
    this.handles.forEach((handle, end) => {
      handle.setAttribute("transform", `translate(${x(clamped[end])} 0)`);
      handle.setAttribute("aria-valuenow", clamped[end]);
    });
  }

  handle(end, height) {
    const [least, most] = this.fixed.size;
    const moveTo = (value) => {
      const size = [...(this.dragged ?? this.model.get("size"))];
      size[end] = end === 0 ? Math.min(Math.max(value, least), size[1]) : Math.max(Math.min(value, most), size[0]);
      this.dragged = size;
      this.drawSizes();
      // A drag asks at most every PAUSE; the last place is always asked about.
      this.timer ??= setTimeout(() => {
        this.timer = null;
        this.send("size", this.dragged ?? size);
      }, PAUSE);
    };
    const drag = (event) => {
      const box = this.sizeDrawing.getBoundingClientRect();
      moveTo(Math.round(least + ((event.clientX - box.left - 7) / (box.width - 14)) * (most - least)));
    };
    const release = () => {
      if (!this.dragged) return;
      clearTimeout(this.timer);
      this.timer = null;
      const size = this.dragged;
      this.dragged = null;
      this.send("size", size);
    };
    const handle = svg(
      "g",
      {
        class: "handle",
        tabindex: 0,
        role: "slider",
        "aria-label": end === 0 ? "smallest √area" : "largest √area",
        "aria-valuemin": least,
        "aria-valuemax": most,
        onpointerdown: (event) => {
          handle.setPointerCapture(event.pointerId);
          this.dragged = [...this.model.get("size")];
          handle.focus();
          event.preventDefault();
        },
        onpointermove: (event) => handle.hasPointerCapture(event.pointerId) && drag(event),
        onpointerup: release,
        onpointercancel: release,
        onkeydown: (event) => {
          const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
          if (!step) return;
          event.preventDefault();
          event.stopPropagation();
          moveTo(this.model.get("size")[end] + (step * (most - least)) / 100);
          release();
        },
      },
      svg("rect", { class: "grip", x: -8, y: 0, width: 16, height: height + 2 }),
      svg("line", { y1: 0, y2: height }),
      svg("circle", { cy: height / 2, r: 5 }),
    );
    return handle;
  }

  drawFigures() {
    const { count, means } = this.shown;
    const filtered = count < this.fixed.total;
    const entry = (value, text, reference, role = "") =>
      node(
        "div",
        { class: role },
        node("span", { class: "name" }, text),
        node("span", { class: "value" }, value),
        node("span", { class: "reference" }, reference),
      );
    const known = FIGURES.filter(([name]) => this.fixed.means[name] !== null);
    this.figures.replaceChildren(
      entry(
        String(count),
        `proposals in ${this.fixed.images} images`,
        `of ${this.fixed.total}`,
      ),
      ...known.map(([name, text]) =>
        entry(
          short(means[name], name),
          text,
          filtered ? `of all: ${short(this.fixed.means[name], name)}` : "",
          this.column(name).role,
        ),
      ),
    );
  }

  // The scatter -------------------------------------------------------------------------------------------------------

  drawScatter() {
    const width = Math.max(this.scatter.clientWidth, 200);
    const height = Math.max(this.scatter.clientHeight, 240);
    const margin = { left: 46, right: 8, top: 26, bottom: 38 };
    const { x: xs, y: ys, points, others, drawable, count } = this.shown;
    const x = (this.xScale = scale(xs.edges, margin.left, width - margin.right));
    const y = (this.yScale = scale(ys.edges, height - margin.bottom, margin.top));
    const [xName, yName] = [this.model.get("x"), this.model.get("y")];
    const axes = svg("g", { class: "axis" });
    for (const [value, text] of ticks(...xs.edges, width / 80)) {
      axes.append(
        svg("line", { class: "grid", x1: x(value), x2: x(value), y1: margin.top, y2: height - margin.bottom }),
        svg("text", { x: x(value), y: height - margin.bottom + 14, "text-anchor": "middle" }, text),
      );
    }
    for (const [value, text] of ticks(...ys.edges, height / 50)) {
      axes.append(
        svg("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }),
        svg("text", { x: margin.left - 6, y: y(value) + 4, "text-anchor": "end" }, text),
      );
    }
    const middle = (margin.top + height - margin.bottom) / 2;
    const titles = [
      svg("text", { class: "title", x: (margin.left + width) / 2, y: height - 5, "text-anchor": "middle" },
        this.title(this.column(xName))),
      svg("text", { class: "title", transform: `translate(11 ${middle}) rotate(-90)`, "text-anchor": "middle" },
        this.title(this.column(yName))),
    ];
    this.places = points.map((point) => ({ point, x: x(point[1]), y: y(point[2]) }));
    const levels = this.fixed.levels.length;
    const dots = this.places.map((place) =>
      dot(place.point[3], levels, place.x, place.y),
    );
    const rest = others.map((point) => svg("circle", { class: "rest", cx: x(point[1]), cy: y(point[2]), r: 1.6 }));
    this.hoverRing = svg("circle", { class: "ring hover", r: 8, visibility: "hidden" });
    this.ring = svg("circle", { class: "ring", r: 8, visibility: "hidden" });
    const empty = points.length
      ? null
      : svg("text", { class: "empty", x: (margin.left + width) / 2, y: middle, "text-anchor": "middle" },
          count ? "no value here" : "no proposal here");
    this.scatterDrawing.setAttribute("width", width);
    this.scatterDrawing.setAttribute("height", height);
    this.scatterDrawing.setAttribute(
      "aria-label",
      `${points.length} proposals: ${this.column(yName).title} against ${this.column(xName).title}. ` +
        "Arrow keys go from point to point.",
    );
    this.scatterDrawing.replaceChildren(
      axes,
      ...titles,
      svg("g", {}, ...rest),
      svg("g", {}, ...dots),
      empty ?? "",
      this.hoverRing,
      this.ring,
    );
    this.tip.classList.remove("visible");
    this.levelKey.replaceChildren(
      ...this.fixed.levels.map((name, i) =>
        node("span", {}, svg("svg", { width: 12, height: 12 },
          dot(i, levels, 6, 6)), `level ${name}`),
      ),
      node("span", { class: "note" }, drawable > points.length ? `${points.length} of ${drawable} drawn` : ""),
    );
    this.drawRing();
  }

  nearest(event) {
    const box = this.scatter.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = REACH ** 2;
    for (const place of this.places) {
      const distance = (place.x - x) ** 2 + (place.y - y) ** 2;
      if (distance < least) [best, least] = [place, distance];
    }
    return best;
  }

  hover(place) {
    this.hoverRing.setAttribute("visibility", place ? "visible" : "hidden");
    this.tip.classList.toggle("visible", place !== null);
    if (!place) return;
    this.hoverRing.setAttribute("cx", place.x);
    this.hoverRing.setAttribute("cy", place.y);
    const [row, x, y, level, label, image] = place.point;
    this.tip.replaceChildren(
      node("b", {}, this.fixed.categories[label - 1]),
      ` in image ${image}, level ${this.fixed.levels[level]}`,
      node("br"),
      `${short(x, this.model.get("x"))}  ·  ${short(y, this.model.get("y"))}`,
    );
    const right = place.x > this.scatter.clientWidth / 2;
    this.tip.style.left = right ? "" : `${place.x + 14}px`;
    this.tip.style.right = right ? `${this.scatter.clientWidth - place.x + 14}px` : "";
    this.tip.style.top = `${Math.max(place.y - 20, 4)}px`;
  }

  pick(place) {
    if (place) this.select(place.point[0]);
  }

  select(row) {
    this.send("selected", row);
    this.drawRing(); // at once; what belongs to it comes from Python
  }

  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.places.length) return;
    event.preventDefault();
    event.stopPropagation();
    const ordered = [...this.places].sort((a, b) => a.x - b.x);
    const here = ordered.findIndex((place) => place.point[0] === this.model.get("selected"));
    const next = here < 0 ? 0 : Math.min(Math.max(here + by, 0), ordered.length - 1);
    this.pick(ordered[next]);
  }

  drawRing() {
    const row = this.model.get("selected");
    let place = this.places.find(({ point }) => point[0] === row);
    // A selected proposal stays marked when the filters, or the limit of points, leave it out.
    const { row: opened, values } = this.model.get("_opened");
    if (!place && row !== null && row === opened) {
      const [x, y] = [values[this.model.get("x")], values[this.model.get("y")]];
      if (x !== null && y !== null) place = { x: this.xScale(x), y: this.yScale(y) };
    }
    this.ring.setAttribute("visibility", place ? "visible" : "hidden");
    if (!place) return;
    this.ring.setAttribute("cx", place.x);
    this.ring.setAttribute("cy", place.y);
  }

  // Distributions -----------------------------------------------------------------------------------------------------

  drawDistributions() {
    const width = Math.max(this.distributions.clientWidth, 180);
    const height = Math.max(this.distributions.clientHeight, 240);
    const half = (height - 8) / 2;
    this.distributions.replaceChildren(
      svg("svg", { width, height }, this.ridge("x", 0, width, half), this.ridge("y", half + 8, width, half)),
    );
  }

  ridge(axis, top, width, height) {
    const { edges, levels } = this.shown[axis];
    const filtered = this.model.get("category") !== "all" || this.sizeNarrowed();
    const column = this.column(this.model.get(axis));
    const [left, right, head, foot] = [54, 52, 20, 18];
    const x = scale(edges, left, width - right);
    const row = (height - head - foot) / levels.length;
    const picked = this.model.get("level");
    const drawn = svg("g", { class: `ridge ${column.role}`, transform: `translate(0 ${top})` });
    drawn.append(svg("text", { class: "title", x: 0, y: 12 }, this.title(column)),
      svg("text", { class: "small", x: width, y: 12, "text-anchor": "end" }, "mean"));
    for (const [value, text] of ticks(...edges, (width - left - right) / 56)) {
      drawn.append(
        svg("line", { class: "grid", x1: x(value), x2: x(value), y1: head, y2: height - foot }),
        svg("text", { x: x(value), y: height - 4, "text-anchor": "middle" }, text),
      );
    }
    levels.forEach((level, i) => {
      // A scale for each level: a few proposals of one would press the others flat.
      const peak = Math.max(...level.all, ...level.chosen, 1e-9);
      const name = this.fixed.levels[i];
      const floor = head + (i + 1) * row;
      const middle = floor - row / 2;
      const curve = (shares, style) =>
        svg("path", { class: style, d: steps(shares, x, edges, floor, row - 4, peak) + (style === "line" ? "" : "z") });
      const group = svg("g", {
        class: `row${picked !== "all" && picked !== name ? " away" : ""}`,
        onclick: () => this.send("level", picked === name ? "all" : name),
      });
      group.append(
        svg("title", {}, picked === name ? "show all levels" : `show only level ${name}`),
        svg("rect", { class: "hit", x: 0, y: floor - row, width, height: row }),
        filtered ? curve(level.all, "outline") : "",
        curve(level.chosen, "fill"),
        level.count ? curve(level.chosen, "line") : "",
        svg("line", { class: "floor", x1: left, x2: width - right, y1: floor, y2: floor }),
        svg("text", { class: "name", x: 0, y: middle + 1 }, `level ${name}`),
        svg("text", { class: "small", x: 0, y: middle + 13 }, level.count ? `n ${level.count}` : "none"),
        svg("text", { class: "value", x: width, y: middle + 4, "text-anchor": "end" }, short(level.mean, column.name)),
      );
      if (level.mean !== null) {
        const at = x(level.mean);
        group.append(svg("line", { class: "mean", x1: at, x2: at, y1: floor - row + 4, y2: floor }));
      }
      drawn.append(group);
    });
    return drawn;
  }

  // Mean field --------------------------------------------------------------------------------------------------------

  drawField() {
    const { field, shift } = this.shown;
    const label = "mean ΔC and ΔR on the proposal";
    const drawing = svg("svg", { viewBox: "-0.27 -0.27 1.54 1.54", role: "img", "aria-label": label });
    drawing.append(svg("rect", { class: "box proposal", x: 0, y: 0, width: 1, height: 1 }));
    if (field === null) {
      drawing.append(svg("text", { class: "empty", x: 0.5, y: 0.52, "text-anchor": "middle" }, "no proposal here"));
      this.field.replaceChildren(drawing);
      return;
    }
    const bins = field.length;
    const everywhere = (offsets, draw) =>
      offsets.forEach((line, i) =>
        line.forEach(([dx, dy], j) => drawing.append(...draw((j + 0.5) / bins, (i + 0.5) / bins, dx, dy))),
      );
    const arrow = (style) => (x, y, dx, dy) => [svg("path", { class: style, d: `M${x} ${y}l${dx} ${dy}` })];
    const filtered = this.shown.count < this.fixed.total;
    if (filtered) everywhere(this.fixed.field, arrow("ghost"));
    everywhere(field, arrow("arrow"));
    everywhere(field, (x, y, dx, dy) => [
      svg("circle", { class: "from", cx: x, cy: y, r: 0.011 }),
      svg("circle", { class: "to", cx: x + dx, cy: y + dy, r: 0.017 }),
    ]);
    drawing.append(svg("rect", { class: "box localization", x: shift[0], y: shift[1], width: 1, height: 1 }));
    const note = `mean ΔR (${shift.map((v) => short(v)).join(", ")})${filtered ? "; grey: all proposals" : ""}`;
    this.field.replaceChildren(drawing, node("p", { class: "note" }, note));
  }

  // Objects -----------------------------------------------------------------------------------------------------------

  drawExamples() {
    const column = this.column(this.model.get("x"));
    this.examplesHead.replaceChildren("Examples", node("span", {}, `small to large ${column.title}`));
    const cards = this.shown.examples.map((example) =>
      node(
        "button",
        { class: "card", title: "open in the explorer", onclick: () => this.select(example.row) },
        crop(example),
        node("span", {}, `${example.category}`, node("b", {}, short(example.values[column.name], column.name))),
      ),
    );
    this.examples.replaceChildren(...(cards.length ? cards : [node("p", { class: "empty" }, "no proposal here")]));
  }

  drawOpened() {
    const opened = this.model.get("_opened");
    if (this.places) this.drawRing();
    if (opened.row === undefined) {
      const hint = "Click a point or an example to look at it here and in the explorer.";
      this.opened.replaceChildren(node("p", { class: "empty" }, hint));
      return;
    }
    const value = (name) =>
      node("tr", {}, node("th", {}, this.title(this.column(name))), node("td", {}, short(opened.values[name], name)));
    const shownColumns = [...new Set([this.model.get("x"), this.model.get("y")])];
    this.opened.replaceChildren(
      crop(opened),
      node("p", { class: "caption" }, node("b", {}, opened.category), ` in image ${opened.image}, level ${opened.level}`,
        node("button", { class: "clear", title: "select nothing", onclick: () => this.select(null) }, "clear")),
      node("table", {}, ...shownColumns.map(value)),
    );
  }

  async showExplorer() {
    const id = this.model.get("_explorer_id");
    const manager = this.model.widget_manager;
    if (!id || !manager?.create_view) return;
    const view = await manager.create_view(await manager.get_model(id));
    this.explorer.replaceChildren(view.el);
    view.trigger("displayed");
  }
}

// Shapes --------------------------------------------------------------------------------------------------------------

// Levels differ in shape as well as in shade: circle, square, triangle, diamond, then again; the coarser the darker.
function dot(level, levels, x, y) {
  const r = 3.6;
  const depth = levels < 2 ? 50 : (100 * level) / (levels - 1);
  const shapes = [
    `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
    `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    `M${x} ${y - 1.3 * r}l${1.25 * r} ${2.2 * r}h${-2.5 * r}z`,
    `M${x} ${y - 1.4 * r}l${1.4 * r} ${1.4 * r}l${-1.4 * r} ${1.4 * r}l${-1.4 * r} ${-1.4 * r}z`,
  ];
  return svg("path", { class: "dot", d: shapes[level % 4], style: `--depth:${depth}%` });
}


// The outline of a histogram, from floor to floor.
function steps(heights, x, [low, high], floor, height, peak) {
  const edge = (i) => x(low + (i / heights.length) * (high - low));
  const places = heights.map((h, i) => `L${edge(i)} ${floor - (h / peak) * height}H${edge(i + 1)}`);
  return `M${x(low)} ${floor}${places.join("")}L${x(high)} ${floor}`;
}

function crop({ view: [x, y, side], part: [left, top, width, height], url, proposal, truth, moved, points, category }) {
  const box = (role, [x1, y1, x2, y2]) =>
    svg("rect", { class: `box ${role}`, x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
  const style = side < 160 ? "pixels" : ""; // coarse pixels are shown as what they are
  const label = `${category}, with its proposal and where it is moved`;
  return svg(
    "svg",
    { class: "crop", viewBox: `${x} ${y} ${side} ${side}`, role: "img", "aria-label": label },
    svg("image", { href: url, x: left, y: top, width, height, preserveAspectRatio: "none", class: style }),
    box("truth", truth),
    box("proposal", proposal),
    box("localization", moved),
    ...points.map(([px, py]) => svg("circle", { class: "to", cx: px, cy: py, r: 0.014 * side })),
  );
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.dispose();
  },
};
