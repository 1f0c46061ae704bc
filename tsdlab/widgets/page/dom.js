// Builders of elements, for all pages. Text is always inserted as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; see `setAttributes` for the attributes. Children are elements, strings, arrays of those, or null. */
export function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element, likewise. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return setAttributes(element, attributes);
}

/**
 * Set attributes by name. `onclick` and the like are listeners; false, null and undefined remove an attribute, and true
 * sets it without a value.
 */
export function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value; // some pages do not allow it as an attribute
    else if (value === false || value === null || value === undefined) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

export const sub = (text) => html("sub", {}, text);

export function button(content, title, onclick, attributes = {}) {
  return html("button", { type: "button", title, onclick, ...attributes }, content);
}

/** Buttons of which one is pressed: `options` are [value, label, title]; `choose` gets the value of a clicked one. */
export function segments(options, choose, attributes = {}) {
  const buttons = options.map(([value, label, title]) => button(label, title, () => choose(value)));
  const element = html("span", { class: "segments", ...attributes }, buttons);
  const press = (pressed) => options.forEach(([value], i) => setAttributes(buttons[i], { "aria-pressed": String(value === pressed) }));
  return { element, buttons, press };
}

/** A drop-down list of `options` ([value, label]); `choose` gets the value, null for the option with the value null. */
export function select(title, options, choose) {
  const listed = options.map(([value, label]) => html("option", { value: value ?? "" }, label));
  const element = html("select", { title, "aria-label": title, onchange: () => choose(element.value || null) }, listed);
  return element;
}

export function panel(title, ...content) {
  return html("section", { class: "panel" }, html("h4", {}, title), content);
}

/** Give a file to the person as a download. */
export function download(blob, name) {
  const link = html("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
