/** Cut a mask that holds several classes: give its parts classes, or click points and let the server cut. */

import * as api from "./api.js";
import { byId, h, keepFocus, plural, setText, swatch } from "./dom.js";
import { shownKey, read } from "./keys.js";
import { decodePairs, outlinePath } from "./masks.js";
import { ClassSearch } from "./search.js";
import { say } from "./toast.js";
import { CONTRAST, strokeTwice, Viewer } from "./viewer.js";

const VOID = -1;
const PARTS = 12;
const WAIT = 180;
const MOST_DIGITS = 9;
const probe = document.createElement("canvas").getContext("2d");

/** The outline of every value above 0. @returns {Map<number, Path2D>} in pixels of the crop */
function pathsByValue(ids, width) {
  const boxes = new Map();
  for (let at = 0; at < ids.length; at += 1) {
    const value = ids[at];
    if (!value) continue;
    const x = at % width;
    const y = (at - x) / width;
    const box = boxes.get(value);
    if (!box) {
      boxes.set(value, [x, y, x, y]);
      continue;
    }
    if (x < box[0]) box[0] = x;
    if (x > box[2]) box[2] = x;
    box[3] = y;
  }
  const paths = new Map();
  for (const [value, [x0, y0, x1, y1]] of [...boxes].sort((a, b) => a[0] - b[0])) {
    const w = x1 - x0 + 1;
    const hgt = y1 - y0 + 1;
    const mask = new Uint8Array(w * hgt);
    for (let y = 0; y < hgt; y += 1) {
      const row = (y + y0) * width + x0;
      for (let x = 0; x < w; x += 1) mask[y * w + x] = ids[row + x] === value ? 1 : 0;
    }
    const path = new Path2D();
    path.addPath(outlinePath(mask, w, hgt), new DOMMatrix([1, 0, 0, 1, x0, y0]));
    paths.set(value, path);
  }
  return paths;
}

export class SplitDialog {
  /** @param {Object} app */
  constructor(app) {
    this.app = app;
    this.dialog = byId("split-dialog");
    this.#build();
    this.dialog.addEventListener("close", () => {
      this.ready = null;
      app.answer.focus();
    });
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
  }

  #build() {
    this.canvas = h("canvas", { tabindex: "0", role: "img", "aria-label": "The mask and its parts" });
    this.line = h("p", { class: "quiet", role: "status" });
    this.palette = h("ol", { class: "suggestions palette", "aria-label": "Chosen class" });
    this.modes = ["superpixels", "clicks"].map((mode) =>
      keepFocus(
        h(
          "button",
          { type: "button", class: "segment", "aria-pressed": "false", onclick: () => this.#setMode(mode) },
          mode === "clicks" ? "Click points" : "Choose parts",
        ),
      ),
    );
    this.count = h("input", {
      type: "range",
      id: "cut-part-count",
      testid: "cut-part-count",
      min: "2",
      max: "60",
      value: PARTS,
    });
    this.countText = h("output", { for: "cut-part-count" }, String(PARTS));
    this.count.addEventListener("input", () => {
      setText(this.countText, this.count.value);
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.#cut(), WAIT);
    });
    this.countRow = h(
      "label",
      { class: "row", for: "cut-part-count" },
      h("span", {}, "Parts"),
      this.count,
      this.countText,
    );
    this.search = new ClassSearch(this.app.classes, {
      label: "Another class",
      key: shownKey("search"),
      onchoose: (index) => this.#addClass(index),
      onleave: () => this.canvas.focus(),
    });
    const button = (label, key, run, props = {}) =>
      keepFocus(
        h(
          "button",
          { type: "button", class: "button", onclick: run, ...props },
          `${label} `,
          h("kbd", {}, key),
        ),
      );
    this.rest = button("Fill the rest", "R", () => this.#giveRest());
    this.save = button("Save", "↵", () => this.#save(), { class: "button primary", testid: "cut-save" });
    this.dialog.append(
      h(
        "div",
        { class: "split" },
        h("div", { class: "stage" }, this.canvas),
        h(
          "div",
          { class: "panel" },
          h("h2", { id: "split-title" }, "Cut into parts"),
          h("div", { class: "segments", role: "group", "aria-label": "How to cut" }, ...this.modes),
          this.countRow,
          this.line,
          this.palette,
          this.search.root,
          h(
            "div",
            { class: "actions" },
            this.rest,
            button("Undo", "⌫", () => this.#undo()),
          ),
          h(
            "div",
            { class: "dialog-actions" },
            button("Cancel", "Esc", () => this.dialog.close()),
            this.save,
          ),
        ),
      ),
    );
  }

  /** @param {Object} ready the question whose mask is cut */
  open(ready) {
    const { card } = ready;
    const first = card.proposed === null ? [] : [card.proposed];
    this.ready = ready;
    this.names = [...new Set([...first, ...card.suggestions])].slice(0, MOST_DIGITS);
    this.hand = this.names[0] ?? null;
    this.count.value = PARTS;
    setText(this.countText, String(PARTS));
    this.dialog.showModal();
    this.#setMode("superpixels");
    this.viewer ??= this.#viewer();
    this.viewer.show(ready);
    this.viewer.resize();
    this.canvas.focus();
  }

  #viewer() {
    const viewer = new Viewer(this.canvas);
    viewer.look.inset = false;
    viewer.paintOver = (context, frame, unit) => this.#paint(context, frame, unit);
    viewer.addEventListener("tap", ({ detail }) => this.#tap(viewer.imagePoint(...detail)));
    return viewer;
  }

  #setMode(mode) {
    this.mode = mode;
    this.modes.forEach((node, place) =>
      node.setAttribute("aria-pressed", String((place === 1) === (mode === "clicks"))),
    );
    this.countRow.hidden = mode === "clicks";
    this.rest.hidden = mode === "clicks";
    this.#clear();
    this.#showPalette();
    if (mode === "superpixels") this.#cut();
    else
      this.#told(
        "Choose a class, then click points of that class inside the mask. The arrow keys move the cross, Space sets a point.",
      );
  }

  #clear() {
    const [x0, y0, x1, y1] = this.ready.card.box;
    Object.assign(this, { ids: null, paths: new Map(), given: [], points: [], past: [], cursor: null });
    this.cross = this.mode === "clicks" ? [Math.floor((x0 + x1) / 2), Math.floor((y0 + y1) / 2)] : null;
    this.#refresh();
  }

  /** Ask the server for the parts, or for the cut that the points make. */
  async #cut() {
    const { ready, mode } = this;
    const asked = Number(this.count.value);
    const body = mode === "clicks" ? { method: mode, points: this.points } : { method: mode, count: asked };
    if (mode === "superpixels") this.#clear();
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const { crop, ids } = await api.parts(ready.card.query_id, body);
      // Only the latest request counts: the slider moves faster than the server cuts.
      if (turn !== this.turn || ready !== this.ready) return;
      const width = crop[2] - crop[0];
      this.ids = decodePairs(ids, width * (crop[3] - crop[1]));
      this.width = width;
      this.paths = pathsByValue(this.ids, width);
      if (mode === "superpixels") {
        this.given = Array(this.paths.size).fill(null);
        this.asked = asked;
        this.#told("Choose a class, then click its parts. Parts without a class keep their labels.");
      }
    } catch (error) {
      if (turn === this.turn) this.#told(error.message);
    }
    this.#refresh();
  }

  #told(text) {
    setText(this.line, text);
  }

  // Drawing

  #paint(context, frame, unit) {
    const { classes } = this.app;
    const clicks = this.mode === "clicks";
    for (const [value, path] of this.paths) {
      const name = clicks ? value - 1 : this.given[value - 1];
      if (name !== null && name !== undefined) {
        context.globalAlpha = 0.55;
        context.fillStyle = name === VOID ? "#20242a" : classes.colour(name);
        context.fill(path, "evenodd");
        context.globalAlpha = 1;
      }
      strokeTwice(context, path, unit * 0.6);
    }
    strokeTwice(context, this.ready.path, unit);
    const marked = this.cursor !== null && this.paths.get(this.cursor + 1);
    if (marked) strokeTwice(context, marked, unit * 1.4, CONTRAST);
    for (const [x, y, name] of this.points)
      this.#dot(context, x - frame.x0, y - frame.y0, unit, classes.colour(name));
    if (this.cross && document.activeElement === this.canvas) this.#cross(context, frame, unit);
  }

  #dot(context, x, y, unit, colour) {
    const path = new Path2D();
    path.arc(x + 0.5, y + 0.5, 5 * unit, 0, 7);
    context.fillStyle = colour;
    context.fill(path);
    strokeTwice(context, path, unit * 0.8);
  }

  #cross(context, { x0, y0 }, unit) {
    const [x, y] = [this.cross[0] - x0 + 0.5, this.cross[1] - y0 + 0.5];
    const path = new Path2D();
    path.moveTo(x - 12 * unit, y);
    path.lineTo(x + 12 * unit, y);
    path.moveTo(x, y - 12 * unit);
    path.lineTo(x, y + 12 * unit);
    strokeTwice(context, path, unit, CONTRAST);
  }

  #showPalette() {
    const offered = this.mode === "clicks" ? this.names : [...this.names, VOID];
    this.palette.replaceChildren(
      ...offered.map((name, place) => {
        const key = name === VOID ? "0" : place < MOST_DIGITS ? String(place + 1) : "";
        const button = keepFocus(
          h(
            "button",
            {
              type: "button",
              class: "answer-button",
              "aria-pressed": String(name === this.hand),
              onclick: () => this.#take(name),
            },
            swatch(name === VOID ? "#20242a" : this.app.classes.colour(name)),
            h("span", { class: "name" }, this.app.classes.name(name)),
            key ? h("kbd", {}, key) : null,
          ),
        );
        return h("li", {}, button);
      }),
    );
  }

  #refresh() {
    const given = this.given.filter((name) => name !== null).length;
    this.save.disabled = !(given || this.points.length);
    this.rest.disabled = !this.given.length || this.hand === null;
    this.viewer?.draw();
  }

  // Giving

  #take(name) {
    this.hand = name;
    this.#showPalette();
    if (this.cursor !== null) this.#give(this.cursor, true);
    this.#refresh();
  }

  #addClass(index) {
    if (!this.names.includes(index)) this.names.push(index);
    this.#take(index);
  }

  #tap([x, y]) {
    const [x0, y0, x1, y1] = this.ready.card.crop;
    if (this.mode === "clicks") {
      this.#point(x, y);
    } else if (this.ids && x >= x0 && x < x1 && y >= y0 && y < y1) {
      const part = this.ids[(y - y0) * this.width + x - x0] - 1;
      this.cursor = null;
      if (part >= 0) this.#give(part, false);
    }
  }

  #give(part, onwards) {
    if (this.hand === null) return;
    this.past.push([...this.given]);
    // A second click with the same class in hand takes it away again.
    this.given[part] = !onwards && this.given[part] === this.hand ? null : this.hand;
    const name = this.given[part] === null ? "unchanged" : this.app.classes.name(this.given[part]);
    say(`Part ${part + 1}: ${name}`);
    if (onwards) this.cursor = (part + 1) % this.given.length;
    this.#told(
      `${this.given.filter((name) => name !== null).length} of ${plural(this.given.length, "part")} have a class.`,
    );
    this.#refresh();
  }

  #giveRest() {
    if (this.hand === null || !this.given.length) return;
    this.past.push([...this.given]);
    this.given = this.given.map((name) => name ?? this.hand);
    this.#told("All parts have a class.");
    this.#refresh();
  }

  #point(x, y) {
    const [x0, y0] = this.ready.card.crop;
    if (this.hand === null || this.hand === VOID) return;
    if (!probe.isPointInPath(this.ready.path, x - x0 + 0.5, y - y0 + 0.5, "evenodd")) {
      this.#told("That point is outside the mask.");
      return;
    }
    this.points.push([x, y, this.hand]);
    this.#told(`${plural(this.points.length, "point")} set.`);
    this.#refresh();
    this.#cut();
  }

  #undo() {
    if (this.mode === "clicks") {
      this.points.pop();
      if (this.points.length) this.#cut();
      else this.#clear();
    } else if (this.past.length) {
      this.given = this.past.pop();
    }
    this.#refresh();
  }

  // Keys

  #key(event) {
    const pressed = read(event);
    if (!pressed || event.key === "Escape") return;
    const onCanvas = document.activeElement === this.canvas;
    const { key, digit, action } = pressed;
    if (key === "Tab") {
      if (!onCanvas || !this.#step(event.shiftKey ? -1 : 1, false)) return;
    } else if (key.startsWith("Arrow")) {
      this.#arrow(key);
    } else if (digit) {
      if (this.names[digit - 1] !== undefined) this.#take(this.names[digit - 1]);
    } else if (key === "0" && this.mode !== "clicks") {
      this.#take(VOID);
    } else if (key === " " && this.cross) {
      this.#point(...this.cross);
    } else if (key === "Enter") {
      this.#save();
    } else if (action === "undo") {
      this.#undo();
    } else if (key.toLowerCase() === "r") {
      this.#giveRest();
    } else if (action === "search") {
      this.search.open();
    } else if (/^\p{L}$/u.test(key)) {
      this.search.open(key);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #arrow(key) {
    const back = key === "ArrowLeft" || key === "ArrowUp";
    if (this.mode !== "clicks") {
      this.#step(back ? -1 : 1, true);
      return;
    }
    const { box } = this.ready.card;
    const step = Math.max(1, Math.round(Math.max(box[2] - box[0], box[3] - box[1]) / 40)) * (back ? -1 : 1);
    const across = key === "ArrowLeft" || key === "ArrowRight";
    this.cross = [this.cross[0] + (across ? step : 0), this.cross[1] + (across ? 0 : step)];
    this.viewer.draw();
  }

  /** Move to another part. @returns {boolean} false where Tab should leave the canvas */
  #step(by, around) {
    const parts = this.given.length;
    if (!parts || this.mode === "clicks") return false;
    const to = this.cursor === null ? (by > 0 ? 0 : parts - 1) : this.cursor + by;
    if (!around && (to < 0 || to >= parts)) {
      this.cursor = null;
      this.viewer.draw();
      return false;
    }
    this.cursor = (to + parts) % parts;
    const name = this.given[this.cursor];
    say(`Part ${this.cursor + 1} of ${parts}${name === null ? "" : `, ${this.app.classes.name(name)}`}`);
    this.viewer.draw();
    return true;
  }

  #save() {
    if (this.save.disabled) return;
    const clicks = this.mode === "clicks";
    const said = clicks ? this.points.map(([, , name]) => name) : this.given;
    const classes = [...new Set(said.filter((name) => name !== null && name !== VOID))].sort((a, b) => a - b);
    const parts = clicks
      ? { method: "clicks", points: this.points }
      : { method: "superpixels", count: this.asked, classes: this.given };
    if (!classes.length && this.given.includes(null)) {
      this.#told("Give at least one part a class.");
      return;
    }
    const kind = classes.length ? "classes" : "void";
    this.dialog.close();
    this.app.answer.answer(kind, classes, { parts: kind === "void" ? null : parts });
  }
}
