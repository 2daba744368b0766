/** Keys and what they do. Every action can be given another key; two actions never share one. */

import * as settings from "./settings.js";

/** Actions in the order help shows them. `keys` are those they have until somebody chooses others. */
export const ACTIONS = [
  { name: "keep", label: "Keep: the class is right", keys: ["a", "Enter"] },
  { name: "later", label: "Skip for now, ask again later", keys: [" "] },
  { name: "cannot", label: "Cannot tell", keys: ["x"] },
  { name: "mixed", label: "Mixed classes, or a bad border", keys: ["m"] },
  { name: "void", label: "Unlabeled: no class", keys: ["0"] },
  { name: "cut", label: "Cut into parts", keys: ["c"] },
  { name: "undo", label: "Undo: answer the last question again", keys: ["Backspace"] },
  { name: "search", label: "Search for a class", keys: ["/", "s"] },
  { name: "overlay", label: "Overlay: fill, outline, none", keys: ["o"] },
  { name: "fit", label: "Fit the picture", keys: ["f"] },
  { name: "zoomIn", label: "Zoom in", keys: ["+", "="] },
  { name: "zoomOut", label: "Zoom out", keys: ["-"] },
  { name: "inset", label: "Show or hide the whole image", keys: ["i"] },
  { name: "grid", label: "Open or leave the grid", keys: ["g"] },
  { name: "help", label: "Help", keys: ["?"] },
];

const FIXED = /^([1-9]|Escape|Tab|Arrow.*)$/;
const NAMES = {
  " ": "Space",
  Backspace: "⌫",
  Enter: "↵",
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
};

const keysOf = (action) => settings.get("keys")[action.name] ?? action.keys;
const normal = (key) => (key.length === 1 ? key.toLowerCase() : key);

/** @param {string} key as in KeyboardEvent.key @returns {string} as it is shown */
export const keyName = (key) => NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key);

/** The key shown on an action's button. @param {string} name @returns {string} */
export const shownKey = (name) => keyName(keysOf(ACTIONS.find((action) => action.name === name))[0]);

/** All keys of an action, as shown. @returns {string[]} */
export const shownKeys = (action) => keysOf(action).map(keyName);

/** @param {string} key @returns {string|null} name of the action it is bound to */
function actionFor(key) {
  return ACTIONS.find((action) => keysOf(action).includes(normal(key)))?.name ?? null;
}

/**
 * Give an action another key.
 * @param {string} name @param {string} key
 * @returns {string|null} why not, or null
 */
export function bind(name, key) {
  const wanted = normal(key);
  if (FIXED.test(wanted)) return `${keyName(wanted)} is reserved by the page.`;
  const other = ACTIONS.find((action) => action.name !== name && keysOf(action).includes(wanted));
  if (other) return `${keyName(wanted)} is already used for “${other.label}”.`;
  settings.set("keys", { ...settings.get("keys"), [name]: [wanted] });
  return null;
}

/** All keys as they were. */
export const resetKeys = () => settings.set("keys", {});

const typing = (target) =>
  target.closest("input:not([type=range], [type=checkbox], [type=radio]), textarea, select");
const pressable = (target) => target.closest("a[href], button, input, summary, [role=option]");

/**
 * What a key press asks for, or null where it belongs to the control that has the focus.
 * @param {KeyboardEvent} event
 * @returns {{action: string|null, digit: number|null, letter: string|null, key: string}|null}
 */
export function read(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing)
    return null;
  const { target, key } = event;
  if (typing(target)) return null;
  if ((key === "Enter" || key === " ") && pressable(target)) return null;
  if (key.startsWith("Arrow") && target.closest("input")) return null;
  const action = actionFor(key);
  return {
    key,
    action,
    digit: !action && /^[1-9]$/.test(key) ? Number(key) : null,
    letter: !action && /^\p{L}$/u.test(key) ? key : null,
  };
}
