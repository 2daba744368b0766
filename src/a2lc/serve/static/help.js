/** The keys, and how to change them. */

import { byId, h, setText } from "./dom.js";
import { ACTIONS, bind, keyName, resetKeys, shownKeys } from "./keys.js";

const FIXED = [
  ["1 – 9", "Choose a suggested class, in order"],
  ["any other letter", "Search for a class that begins with that letter"],
  ["← ↑ → ↓", "Move the picture; in the grid, move between tiles"],
  ["Esc", "Close the search, a reopened answer, or a view"],
  ["wheel, drag, double click", "Zoom, move, fit the picture"],
  ["swipe right, left", "Keep; skip for now"],
];

const MORE = [
  ["Grid", "Space or a click marks a mask of another class. Enter confirms all others."],
  [
    "Cut",
    "Choose a class, then click parts. With keys: Tab or the arrow keys choose a part, a digit gives it a class, " +
      "R gives it to the remaining parts, Enter saves.",
  ],
  ["Several classes", "If a question asks for all classes, choose with digits and send with Enter."],
  ["Offline", "Answers are stored in this browser and sent when the server is back."],
];

export class HelpDialog {
  /** @param {function()} onchange keys have changed */
  constructor(onchange) {
    this.onchange = onchange;
    this.dialog = byId("help-dialog");
    this.line = h("p", { class: "quiet", role: "status" });
    this.rows = h("tbody");
    const reset = h("button", { type: "button", class: "button" }, "Reset all keys");
    reset.addEventListener("click", () => {
      resetKeys();
      this.#changed("All keys are reset.");
    });
    const close = h(
      "button",
      { type: "button", class: "button primary", testid: "help-close", autofocus: true },
      "Close",
    );
    close.addEventListener("click", () => this.dialog.close());
    this.dialog.append(
      h(
        "div",
        { class: "view-head" },
        h("h2", { id: "help-title" }, "Keys"),
        h("div", { class: "head-actions" }, reset, close),
      ),
      this.line,
      h(
        "div",
        { class: "help-columns" },
        h(
          "table",
          { class: "keys" },
          h("caption", { class: "visually-hidden" }, "Keys that can be changed"),
          this.rows,
        ),
        h(
          "div",
          {},
          h(
            "table",
            { class: "keys" },
            h("caption", { class: "visually-hidden" }, "Fixed keys"),
            h(
              "tbody",
              {},
              ...FIXED.map(([key, what]) =>
                h("tr", {}, h("th", { scope: "row" }, what), h("td", {}, h("kbd", {}, key))),
              ),
            ),
          ),
          h(
            "dl",
            { class: "help-more" },
            ...MORE.flatMap(([name, what]) => [h("dt", {}, name), h("dd", {}, what)]),
          ),
        ),
      ),
    );
    this.dialog.addEventListener("keydown", (event) => this.#key(event), true);
    this.dialog.addEventListener("cancel", (event) => this.waiting && event.preventDefault());
    this.dialog.addEventListener("close", () => this.#stop());
  }

  open() {
    this.#show();
    setText(this.line, "Choose a key to change it.");
    this.dialog.showModal();
  }

  #show() {
    this.rows.replaceChildren(
      ...ACTIONS.map((action) => {
        const button = h(
          "button",
          {
            type: "button",
            class: "flat",
            "aria-label": `${action.label}: ${shownKeys(action).join(" or ")}. Change`,
          },
          ...shownKeys(action).map((key) => h("kbd", {}, key)),
        );
        button.dataset.action = action.name;
        button.addEventListener("click", () => this.#wait(action, button));
        return h("tr", {}, h("th", { scope: "row" }, action.label), h("td", {}, button));
      }),
    );
  }

  #wait(action, button) {
    this.#stop();
    this.waiting = { action, button };
    button.classList.add("waiting");
    setText(this.line, `Press the new key for “${action.label}”, or Esc to cancel.`);
  }

  #stop() {
    this.waiting?.button.classList.remove("waiting");
    this.waiting = null;
  }

  #key(event) {
    if (!this.waiting || ["Shift", "Control", "Alt", "Meta", "Tab"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const { action } = this.waiting;
    if (event.key === "Escape") {
      this.#stop();
      setText(this.line, "Nothing changed.");
      return;
    }
    const refused = bind(action.name, event.key);
    if (refused) {
      setText(this.line, `${refused} Press another key.`);
      return;
    }
    this.#changed(`${keyName(event.key)} is now “${action.label}”.`);
    this.rows.querySelector(`[data-action="${action.name}"]`).focus();
  }

  #changed(text) {
    this.#stop();
    this.#show();
    setText(this.line, text);
    this.onchange();
  }
}
