/** Short messages in a corner, and announcements for screen readers. */

import { byId, h, setText } from "./dom.js";

const STAYS = 6000;

/**
 * Show a message for a few seconds.
 * @param {string} message @param {"info"|"warn"} kind
 */
export function toast(message, kind = "info") {
  const node = h("div", { class: `toast ${kind}`, testid: "toast" }, h("span", {}, message));
  const close = h("button", { type: "button", class: "flat", "aria-label": "Close message" }, "×");
  close.addEventListener("click", () => node.remove());
  node.append(close);
  const place = byId("toasts");
  place.append(node);
  while (place.children.length > 3) place.firstChild.remove();
  setTimeout(() => node.remove(), STAYS);
}

/** Tell screen readers. @param {string} text */
export const say = (text) => setText(byId("live"), text);
