/** The choices of a person, stored in localStorage: name, theme, keys, how the overlay looks. */

const KEY = "a2lc.settings";
const DEFAULTS = {
  name: "",
  theme: "system",
  keys: {},
  overlay: "fill",
  opacity: 35,
  contrast: false,
  inset: true,
};

function read() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

const values = read();

/** @param {string} name @returns {*} */
export const get = (name) => values[name];

/** Set and keep. A browser without storage still works until it is closed. */
export function set(name, value) {
  values[name] = value;
  try {
    localStorage.setItem(KEY, JSON.stringify(values));
  } catch {
    // Private windows may refuse storage; the choice then lasts as long as the page.
  }
}

/** Show the theme that was chosen; `system` follows the device. */
export function applyTheme() {
  const theme = get("theme");
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** The next of system, light and dark. @returns {string} */
export function nextTheme() {
  const order = ["system", "light", "dark"];
  set("theme", order[(order.indexOf(get("theme")) + 1) % order.length]);
  applyTheme();
  return get("theme");
}
