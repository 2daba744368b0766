/**
 * Answers on their way. Each is in localStorage before anything else happens and leaves it only once the
 * server has said what became of it: neither a reload nor a server that is away loses one.
 */

import * as api from "./api.js";

const DELAY = 700;
const MOST = 64;
const LONGEST_PAUSE = 15_000;

let counter = 0;
const newUid = () => `${Date.now().toString().padStart(15, "0")}.${String((counter += 1)).padStart(6, "0")}`;

/**
 * Events: `change` (how many wait), `result` (detail: entry, result), `status` (detail), `away`, `back`,
 * `locked`.
 */
export class Outbox extends EventTarget {
  /** @param {string} place tells projects served from one address apart */
  constructor(place) {
    super();
    this.prefix = `a2lc.queue.${place}.`;
    this.entries = [];
    this.answerIds = new Map();
    this.sending = false;
    this.stopped = false;
    this.single = false;
    this.pause = 0;
    this.timer = null;
    this.#restore();
  }

  get size() {
    return this.entries.length;
  }

  /** Questions answered here of which the server may not know yet. @returns {number[]} */
  get questions() {
    return this.entries.map((entry) => entry.answer.query_id);
  }

  /**
   * Keep an answer and send it soon.
   * @param {string} annotator
   * @param {{query_id: number, kind: string, classes: number[], milliseconds: number|null, parts:
   * Object|null, in_grid: boolean}} answer
   * @param {boolean} again whether it takes the place of an answer given before
   */
  add(annotator, answer, again) {
    const unsent = this.entries.findIndex(
      (entry) => entry.answer.query_id === answer.query_id && !entry.tried,
    );
    // The server never saw the one before, so this one takes its place here.
    const before = unsent >= 0 ? this.entries.splice(unsent, 1)[0] : null;
    if (before) this.#forget(before);
    const known = this.answerIds.get(answer.query_id) ?? null;
    const entry = {
      uid: newUid(),
      annotator,
      answer: { ...answer, replaces: before ? before.answer.replaces : again ? known : null },
      again: before ? before.again : again,
      tried: false,
    };
    this.entries.push(entry);
    this.#keep(entry);
    this.#tell("change");
    this.schedule(DELAY);
  }

  /** The server's number of the standing answer to a question. */
  know(queryId, answerId) {
    if (answerId) this.answerIds.set(queryId, answerId);
  }

  /** Send what is there at the latest after `delay` milliseconds. */
  schedule(delay = 0) {
    if (this.timer && delay > 0) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      this.#send();
    }, delay);
  }

  /** Send what is there now: the page may be gone in a moment. */
  flush() {
    this.#send();
  }

  /** The next batch: one annotator, and one answer a question, as a later one must name the one before. */
  #batch() {
    const first = this.entries[0];
    const asked = new Set();
    return this.entries
      .filter((entry) => {
        if (entry.annotator !== first.annotator || asked.has(entry.answer.query_id)) return false;
        asked.add(entry.answer.query_id);
        return true;
      })
      .slice(0, this.single ? 1 : MOST);
  }

  async #send() {
    if (this.sending || this.stopped || !this.size) return;
    this.sending = true;
    const batch = this.#batch();
    for (const entry of batch) {
      entry.tried = true;
      this.#keep(entry);
    }
    try {
      const { results, status } = await api.answers(
        batch[0].annotator,
        batch.map((entry) => entry.answer),
      );
      this.pause = 0;
      this.single = false;
      const byQuestion = new Map(results.map((result) => [result.query_id, result]));
      for (const entry of batch) this.#done(entry, byQuestion.get(entry.answer.query_id));
      this.#tell("back");
      this.#tell("status", status);
    } catch (error) {
      this.#failed(error, batch);
    }
    this.sending = false;
    if (this.size && !this.stopped) this.schedule(this.pause || (this.single ? 1 : DELAY));
    this.#tell("change");
  }

  #done(entry, result) {
    // An answer the server said nothing of is sent once more.
    if (!result) return;
    this.#remove(entry);
    this.know(result.query_id, result.answer_id);
    for (const later of this.entries) {
      if (later.answer.query_id !== result.query_id || !result.answer_id) continue;
      later.answer.replaces = result.answer_id;
      this.#keep(later);
    }
    this.#tell("result", { entry, result });
  }

  #failed(error, batch) {
    if (error instanceof api.AwayError) {
      this.pause = Math.min(LONGEST_PAUSE, Math.max(1000, this.pause * 2));
      this.#tell("away");
    } else if (error.status === 401 || error.status === 403) {
      this.#tell("locked", error);
    } else if (batch.length > 1) {
      // One bad answer must not hold up the others: they go one by one.
      this.single = true;
    } else {
      this.#remove(batch[0]);
      const result = {
        query_id: batch[0].answer.query_id,
        status: "refused",
        answer_id: null,
        message: error.message,
      };
      this.#tell("result", { entry: batch[0], result });
    }
  }

  #remove(entry) {
    this.entries = this.entries.filter((other) => other !== entry);
    this.#forget(entry);
  }

  #keep(entry) {
    try {
      localStorage.setItem(this.prefix + entry.uid, JSON.stringify(entry));
    } catch {
      this.#tell("unkept");
    }
  }

  #forget(entry) {
    try {
      localStorage.removeItem(this.prefix + entry.uid);
    } catch {
      // An answer that cannot be stored stays in memory.
    }
  }

  #restore() {
    try {
      const names = Object.keys(localStorage)
        .filter((name) => name.startsWith(this.prefix))
        .sort();
      this.entries = names.map((name) => JSON.parse(localStorage.getItem(name)));
    } catch {
      // Without storage there is nothing from before.
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
