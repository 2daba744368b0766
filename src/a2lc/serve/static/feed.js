/**
 * The questions ahead. Some are held (leased) with their pictures decoded and outlines traced, so that the
 * next is drawn in the frame of the key that answers the last.
 */

import * as api from "./api.js";
import { cardPath } from "./masks.js";

const HELD = 8;
const MOST_WHOLE = 48;
const INSET = 256;

/**
 * A card with all that drawing it needs; `bitmap` (of `region`) and `whole` are null until they have come.
 */
export class Ready {
  /** @param {Object} card */
  constructor(card) {
    this.card = card;
    this.region = card.crop;
    this.bitmap = null;
    this.whole = null;
    this.loading = null;
  }

  /** The mask's outline, traced once. @returns {Path2D} */
  get path() {
    this.traced ??= cardPath(this.card);
    return this.traced;
  }
}

/** Whether a card's picture is there and of this region: a resized window asks for another. */
const shows = (ready, region) => Boolean(ready.bitmap) && ready.region.join() === region.join();

const wholes = new Map();

function wholePicture(image) {
  if (!wholes.has(image)) {
    const coming = api.picture(api.wholeUrl(image, INSET));
    wholes.set(image, coming);
    coming.catch(() => wholes.delete(image));
    // Bitmaps hold memory outside the heap: only those of the last images stay.
    if (wholes.size > MOST_WHOLE) wholes.delete(wholes.keys().next().value);
  }
  return wholes.get(image);
}

/**
 * Load a card's pictures; asking again after a failure tries again.
 * @param {Ready} ready @param {{region: number[], size: number}} view what of the image, and how large
 * @returns {Promise<void>}
 */
function load(ready, { region, size }) {
  ready.loading ??= (async () => {
    try {
      const [bitmap, whole] = await Promise.all([
        shows(ready, region) ? ready.bitmap : api.picture(api.cropUrl(ready.card.image, region, size)),
        ready.whole ?? wholePicture(ready.card.image),
      ]);
      Object.assign(ready, { bitmap, whole, region, traced: ready.path });
    } finally {
      ready.loading = null;
    }
  })();
  return ready.loading;
}

/**
 * Events: `cards` (new ones are there), `picture` (detail: Ready), `gone` (detail: ids), `status` (detail),
 * `away`, `locked`, `refused` (detail: error).
 */
export class Feed extends EventTarget {
  /**
   * @param {{annotator: function(): string, view: function(Object): Object, answered: function(): number[]}}
   * options
   */
  constructor(options) {
    super();
    this.options = options;
    this.held = [];
    this.others = new Set();
    this.releasing = new Set();
    this.line = Promise.resolve();
    this.leasing = false;
    this.locked = false;
    this.order = this.#rememberedOrder();
  }

  /** Whether a question can be shown at once. */
  get size() {
    return this.held.length;
  }

  /**
   * The first whose picture is there, or the first, or null. It stays held until `drop`.
   * @returns {Ready|null}
   */
  next() {
    return this.held.find((ready) => ready.bitmap) ?? this.held[0] ?? null;
  }

  /** No longer in line: answered, or shown otherwise. */
  drop(id) {
    this.held = this.held.filter((ready) => ready.card.query_id !== id);
    this.#remember();
  }

  /** First in line again. @param {Ready} ready */
  putBack(ready) {
    this.drop(ready.card.query_id);
    this.held.unshift(ready);
    this.#remember();
  }

  /** Give questions back, to be asked again later. @param {number[]} ids */
  release(ids) {
    if (!ids.length) return;
    for (const id of ids) {
      this.drop(id);
      this.others.delete(id);
      this.releasing.add(id);
    }
    this.#inLine(async () => {
      try {
        await api.release(this.options.annotator(), ids);
      } catch (error) {
        // A lease that is not given back runs out by itself.
        if (error instanceof api.AwayError) this.#tell("away");
      }
      for (const id of ids) this.releasing.delete(id);
    });
  }

  /** Hold as many questions as are wanted, and their pictures. */
  fill() {
    for (const ready of this.held) this.prepare(ready);
    if (this.size < HELD) this.#lease(HELD);
  }

  /**
   * Tell the server that what is held is still wanted. A lease asks for one at least: the last of those
   * held, which the server gives back first, so that a page left open does not gather ever more.
   */
  renew() {
    this.#lease(HELD, this.size >= HELD ? this.held.at(-1).card.query_id : null);
  }

  /** Load a card's pictures and say when they are there. @param {Ready} ready */
  prepare(ready) {
    if (this.locked) return;
    const view = this.options.view(ready.card);
    if (shows(ready, view.region) && ready.whole) return;
    load(ready, view).then(
      () => this.#tell("picture", ready),
      (error) => error instanceof api.AwayError && this.#tell("away"),
    );
  }

  #lease(wanted, but = null) {
    if (this.leasing || this.locked || !this.options.annotator()) return;
    this.leasing = true;
    this.#inLine(async () => {
      const answered = this.options.answered();
      const held = this.held.map((ready) => ready.card.query_id).filter((id) => id !== but);
      const have = [...new Set([...held, ...this.others, ...answered])];
      try {
        const wants = Math.max(1, wanted - this.size);
        const { cards, gone = [], status } = await api.lease(this.options.annotator(), wants, have);
        this.#take(cards, gone);
        this.#tell("status", status);
      } catch (error) {
        if (error instanceof api.AwayError) this.#tell("away");
        else if (error.status === 401) this.#tell("locked", error);
        else this.#tell("refused", error);
      }
      this.leasing = false;
    });
  }

  #take(cards, gone) {
    const answered = new Set(this.options.answered());
    const here = new Set(this.held.map((ready) => ready.card.query_id));
    const lost = gone.filter((id) => here.has(id) || this.others.has(id));
    for (const id of lost) this.drop(id);
    const fresh = cards.filter(
      ({ query_id: id, answer }) =>
        !here.has(id) && !answered.has(id) && !this.others.has(id) && !this.releasing.has(id) && !answer,
    );
    fresh.sort((a, b) => this.#place(a) - this.#place(b));
    for (const card of fresh) this.held.push(new Ready(card));
    this.order = [];
    this.#remember();
    for (const ready of this.held) this.prepare(ready);
    if (lost.length) this.#tell("gone", lost);
    this.#tell("cards", fresh.length);
  }

  /** Before a reload the cards stood in this order; those the server adds come after. */
  #place(card) {
    const place = this.order.indexOf(card.query_id);
    return place < 0 ? this.order.length : place;
  }

  /** One request at a time: a lease must not overtake the release of what it would lease again. */
  #inLine(task) {
    this.line = this.line.then(task);
  }

  #remember() {
    try {
      sessionStorage.setItem("a2lc.held", JSON.stringify(this.held.map((ready) => ready.card.query_id)));
    } catch {
      // Without storage a reload begins with whichever question the server gives first.
    }
  }

  #rememberedOrder() {
    try {
      return JSON.parse(sessionStorage.getItem("a2lc.held") ?? "[]");
    } catch {
      return [];
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
