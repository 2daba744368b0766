/** Small helpers for building elements. Text only ever goes in as text: class names come from users. */

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} id @returns {HTMLElement} */
export const byId = (id) => document.getElementById(id);

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "testid") node.dataset.testid = value;
    else if (name === "colour") node.style.setProperty("--colour", value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/**
 * An HTML element.
 * @param {string} tag
 * @param {Object} props attributes; `onclick` and the like are listeners, `testid` is data-testid, `colour`
 * a swatch's colour
 * @param {...(Node|string|null)} children strings become text nodes
 * @returns {HTMLElement}
 */
export const h = (tag, props = {}, ...children) => fill(document.createElement(tag), props, children);

/** An SVG element, like `h`. */
export const svg = (tag, props = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), props, children);

/** Set text only where it differs, so that screen readers and layout are left alone. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A button pressed with the pointer does not take the focus: Space and Enter stay answers. */
export function keepFocus(node) {
  node.addEventListener("mousedown", (event) => event.preventDefault());
  return node;
}

/** @param {number} value @returns {string} with thin spaces between thousands */
export const count = (value) => Math.round(value).toLocaleString("en-GB").replaceAll(",", "\u202f");

/** @returns {string} `1 mask`, `2 masks` */
export const plural = (value, word, many = `${word}s`) => `${count(value)} ${value === 1 ? word : many}`;

/** @returns {string} 93.1 % */
export const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)}\u202f%`;

/** A coloured dot that stands for a class. */
export const swatch = (colour) => h("span", { class: "swatch", colour, "aria-hidden": "true" });
