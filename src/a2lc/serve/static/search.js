/** A box that finds a class by a few letters: arrows and Enter choose, Escape leaves. */

import { h, keepFocus, swatch } from "./dom.js";

const LEAST_ROOM = 260;
const MOST_ROOM = 320;
const TOP_BAR = 50;
const EDGE = 12;

let boxes = 0;

export class ClassSearch {
  /**
   * @param {import("./classes.js").Classes} classes
   * @param {{label: string, key: string, onchoose: function(number), onleave: function()}} options
   */
  constructor(classes, { label, key, onchoose, onleave }) {
    this.classes = classes;
    this.onchoose = onchoose;
    this.onleave = onleave;
    this.found = [];
    this.at = 0;
    const id = `class-list-${(boxes += 1)}`;
    this.list = h("ul", { class: "options", id, role: "listbox", "aria-label": "Classes", hidden: true });
    this.input = h("input", {
      type: "text",
      class: "search",
      testid: "search-input",
      placeholder: label,
      "aria-label": label,
      role: "combobox",
      "aria-expanded": "false",
      "aria-controls": id,
      "aria-autocomplete": "list",
      autocomplete: "off",
      spellcheck: "false",
    });
    this.key = h("kbd", { "aria-hidden": "true" }, key);
    this.root = h("div", { class: "search-box" }, this.input, this.key, this.list);
    this.input.addEventListener("input", () => this.#filter());
    this.input.addEventListener("focus", () => this.#filter());
    this.input.addEventListener("blur", () => this.#hide());
    this.input.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Begin, with a letter that was typed elsewhere. @param {string} text */
  open(text = "") {
    this.input.value = text;
    this.input.focus();
    this.#filter();
  }

  #filter() {
    this.found = this.classes.find(this.input.value);
    this.at = 0;
    this.list.replaceChildren(...this.found.map((one, index) => this.#option(one, index)));
    if (!this.found.length)
      this.list.append(h("li", { class: "none", role: "option", "aria-disabled": "true" }, "No such class"));
    this.list.hidden = false;
    this.#place();
    this.input.setAttribute("aria-expanded", "true");
    this.#mark();
  }

  /** The list opens to the side that has more room. */
  #place() {
    const { top, bottom } = this.input.getBoundingClientRect();
    const below = window.innerHeight - bottom;
    const up = below < LEAST_ROOM && top > below;
    this.list.classList.toggle("up", up);
    this.list.style.setProperty(
      "max-height",
      `${Math.min(MOST_ROOM, (up ? top - TOP_BAR : below) - EDGE)}px`,
    );
  }

  #option(one, index) {
    const node = h(
      "li",
      { role: "option", id: `${this.list.id}-${index}`, testid: "search-option" },
      swatch(one.color),
      h("span", {}, one.name),
    );
    node.addEventListener("click", () => this.#choose(one.index));
    return keepFocus(node);
  }

  #mark() {
    const options = [...this.list.children];
    options.forEach((node, index) => node.setAttribute("aria-selected", String(index === this.at)));
    const marked = options[this.at];
    if (marked?.id) this.input.setAttribute("aria-activedescendant", marked.id);
    else this.input.removeAttribute("aria-activedescendant");
    marked?.scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    const last = this.found.length - 1;
    if (event.key === "ArrowDown") this.at = this.at >= last ? 0 : this.at + 1;
    else if (event.key === "ArrowUp") this.at = this.at <= 0 ? last : this.at - 1;
    else if (event.key === "Enter")
      this.found[this.at] && this.#choose(this.found[this.at].index, event.timeStamp);
    else if (event.key === "Escape") this.#leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key.startsWith("Arrow")) this.#mark();
  }

  #choose(index, at) {
    this.#leave();
    this.onchoose(index, at);
  }

  #leave() {
    this.input.value = "";
    this.input.blur();
    this.onleave?.();
  }

  #hide() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
