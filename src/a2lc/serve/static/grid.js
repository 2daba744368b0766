/** Look-alikes of one class side by side: mark those that are something else, confirm the others at once. */

import * as api from "./api.js";
import { naming } from "./answer.js";
import { byId, h, plural, setText } from "./dom.js";
import { Ready } from "./feed.js";
import { Tile } from "./tiles.js";
import { say, toast } from "./toast.js";

const TILES = 24;

export class GridView {
  /** @param {Object} app */
  constructor(app) {
    this.app = app;
    this.now = null;
    this.last = null;
    this.tiles = [];
    this.loading = false;
    byId("grid-confirm").addEventListener("click", () => this.confirm());
    byId("grid-back").addEventListener("click", () => this.#showLast());
    app.feed.addEventListener("gone", ({ detail }) => this.#gone(detail));
  }

  enter() {
    if (!this.now) this.load();
  }

  /** Another view is shown: what was not confirmed goes back in line. */
  leave() {
    if (this.now && !this.now.review) this.app.feed.release(this.now.cards.map((card) => card.query_id));
    this.now = null;
    this.#render();
  }

  /** Ask for the next look-alikes. */
  async load() {
    const { app } = this;
    if (this.loading || !app.name) return;
    this.loading = true;
    this.now = null;
    this.#render();
    try {
      const found = await api.grid(app.name, TILES);
      const answered = new Set(app.outbox.questions);
      const { proposed } = found;
      const cards = found.cards.filter(({ query_id: id }) => !answered.has(id));
      for (const { query_id: id } of cards) {
        app.feed.drop(id);
        app.feed.others.add(id);
      }
      if (cards.length)
        this.now = { proposed, cards, marked: new Set(), shownAt: performance.now(), review: false };
    } catch (error) {
      app.failed(error);
    }
    this.loading = false;
    if (app.hidden("grid")) this.leave();
    this.#render();
    this.tiles[0]?.button.focus();
    if (this.now) say(byId("grid-title").textContent);
  }

  #render() {
    for (const { tile } of this.tiles) tile.close();
    this.tiles = [];
    const { now, app } = this;
    byId("grid-back").hidden = !this.last || Boolean(now?.review);
    byId("grid-confirm").hidden = !now;
    if (!now) {
      byId("grid-title").textContent = this.loading ? "One moment" : "No similar masks";
      const why =
        "There are no open questions about similar masks. Single questions are under Answer.";
      setText(byId("grid-line"), this.loading ? "Similar masks are being loaded." : why);
      byId("grid-tiles").replaceChildren();
      return;
    }
    const name = h("strong", {}, app.classes.name(now.proposed));
    byId("grid-title").replaceChildren(
      ...(now.review ? ["Your answer: all ", name] : ["All ", name, " except the marked ones"]),
    );
    this.tiles = now.cards.map((card, place) => this.#tile(card, place));
    byId("grid-tiles").replaceChildren(...this.tiles.map(({ button }) => button));
    this.#count();
  }

  #tile(card, place) {
    const tile = new Tile(card);
    const button = h(
      "button",
      {
        type: "button",
        class: "tile",
        testid: "grid-tile",
        tabindex: place ? "-1" : "0",
        "aria-pressed": this.now.review ? null : "false",
        "aria-label": `${place + 1}: part of ${card.image_id}`,
      },
      tile.canvas,
      h("span", { class: "tile-mark", "aria-hidden": "true" }, "not this"),
    );
    button.addEventListener("click", () => this.toggle(place));
    return { tile, button, card };
  }

  #count() {
    const { now } = this;
    const kept = now.cards.length - now.marked.size;
    if (now.review) {
      setText(byId("grid-line"), "Choose one to answer it again. Enter shows the next grid.");
      setText(byId("grid-confirm"), "Next grid ↵");
      return;
    }
    setText(
      byId("grid-line"),
      "Mark masks of another class with a click or Space, move with the arrow keys, and confirm the others with Enter. Marked masks are asked about again one by one.",
    );
    const marked = now.marked.size ? `, ${now.marked.size} marked` : "";
    byId("grid-confirm").replaceChildren(`Confirm ${kept}${marked} `, h("kbd", {}, "↵"));
  }

  /** @param {number} place of the tile that is, or is not, one of them */
  toggle(place) {
    const { now } = this;
    const { card, button } = this.tiles[place];
    if (now.review) {
      const entry = this.app.past.entries.find(({ query_id: id }) => id === card.query_id);
      if (entry) this.app.answer.reopen(entry);
      return;
    }
    if (!now.marked.delete(card.query_id)) now.marked.add(card.query_id);
    const marked = now.marked.has(card.query_id);
    button.setAttribute("aria-pressed", String(marked));
    this.#count();
    say(marked ? "Marked as another class" : "Not marked");
  }

  /** Confirm all that are not marked, and go on. */
  confirm() {
    const { now } = this;
    if (!now || this.loading) return;
    if (!now.review) this.#send(now);
    this.now = null;
    this.load();
  }

  #send(now) {
    const { app } = this;
    const kept = now.cards.filter((card) => !now.marked.has(card.query_id));
    const each = Math.round((performance.now() - now.shownAt) / now.cards.length);
    for (const card of kept) {
      const kind = naming(card, now.proposed);
      const answer = {
        query_id: card.query_id,
        kind,
        classes: [now.proposed],
        milliseconds: each,
        parts: null,
        in_grid: true,
      };
      app.outbox.add(app.name, answer, false);
      app.past.add(new Ready(card), kind, [now.proposed]);
    }
    for (const { query_id: id } of now.cards) app.feed.others.delete(id);
    // What was marked here costs more than what was asked about alone, wherever it is answered.
    for (const id of now.marked) app.marked.add(id);
    app.feed.release([...now.marked]);
    // The next grid must not hold what was confirmed just now.
    app.outbox.schedule();
    this.last = kept.length ? { ...now, cards: kept, review: true } : this.last;
    toast(`${plural(kept.length, "mask")} confirmed as ${app.classes.name(now.proposed)}.`);
  }

  /** The grid before, to take single ones back. */
  #showLast() {
    if (!this.last) return;
    if (this.now && !this.now.review) this.app.feed.release(this.now.cards.map((card) => card.query_id));
    this.now = this.last;
    this.last = null;
    this.#render();
    this.tiles[0]?.button.focus();
  }

  #gone(ids) {
    if (!this.now || this.now.review) return;
    const left = this.now.cards.filter((card) => !ids.includes(card.query_id));
    for (const id of ids) this.app.feed.others.delete(id);
    if (left.length === this.now.cards.length) return;
    toast("Someone else is answering some of these now. They are left out.");
    this.now.cards = left;
    if (!left.length) this.load();
    else this.#render();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (!this.now || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = this.tiles.findIndex(({ button }) => button === document.activeElement);
    if (event.key === "Enter" && (place >= 0 || document.activeElement === document.body)) this.confirm();
    else if (event.key === "Backspace") this.#showLast();
    else if (event.key.startsWith("Arrow")) this.#move(place, event.key);
    else return;
    event.preventDefault();
  }

  #move(place, key) {
    const columns = getComputedStyle(byId("grid-tiles")).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    const to = place < 0 ? 0 : place + step;
    if (!this.tiles[to]) return;
    if (this.tiles[place]) this.tiles[place].button.tabIndex = -1;
    this.tiles[to].button.tabIndex = 0;
    this.tiles[to].button.focus();
  }
}
