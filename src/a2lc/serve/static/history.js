/** The last answers: what undo goes back through, and the strip in which any can be chosen again. */

import * as api from "./api.js";
import { byId, h } from "./dom.js";
import { Ready } from "./feed.js";

const SHOWN = 12;
const KEPT = 200;
const WITH_PICTURES = 24;

/**
 * What was said, in few words.
 * @param {{kind: string, classes: number[], proposed: number|null}} entry
 */
export function said({ kind, classes, proposed }, names) {
  switch (kind) {
    case "confirm":
      return `kept ${names.names(classes)}`;
    case "correct":
      return proposed === null ? names.names(classes) : `${names.name(proposed)} → ${names.names(classes)}`;
    case "classes":
      return names.names(classes);
    case "mixed":
      return "mixed";
    case "void":
      return "unlabeled";
    case "skip":
      return "cannot tell";
    default:
      return "skipped for now";
  }
}

export class Past {
  /** @param {import("./classes.js").Classes} classes @param {function(Object)} onopen */
  constructor(classes, onopen) {
    this.classes = classes;
    this.onopen = onopen;
    this.entries = [];
  }

  /** Entries from the server, of this person's earlier visits. */
  async restore(annotator, know) {
    const { entries } = await api.history(annotator, SHOWN);
    const here = new Set(this.entries.map((entry) => entry.query_id));
    for (const entry of entries) {
      know(entry.query_id, entry.answer_id);
      if (!here.has(entry.query_id)) this.entries.push({ ...entry, ready: null });
    }
    this.render();
  }

  /**
   * Something was said of a question just now.
   * @param {Object} ready
   * @param {string} kind
   * @param {number[]} classes
   */
  add(ready, kind, classes) {
    const { query_id, image_id, proposed } = ready.card;
    this.entries = this.entries.filter((entry) => entry.query_id !== query_id);
    this.entries.unshift({ query_id, image_id, proposed, kind, classes, ready });
    this.entries.length = Math.min(this.entries.length, KEPT);
    const old = this.entries[WITH_PICTURES];
    if (old) old.ready = null;
    this.render();
  }

  /** What was said does not stand: somebody else was faster, or it was refused. */
  remove(queryId) {
    this.entries = this.entries.filter((entry) => entry.query_id !== queryId);
    this.render();
  }

  clear() {
    this.entries = [];
    this.render();
  }

  /** The entry that undo goes to. @param {Object|null} from the one that is open */
  before(from) {
    return this.entries[this.entries.indexOf(from) + 1] ?? null;
  }

  /** The card of an entry. @returns {Promise<Ready>} */
  async open(entry) {
    entry.ready ??= new Ready(await api.question(entry.query_id));
    return entry.ready;
  }

  /** @param {Object|null} open the entry that is being answered again */
  render(open = null) {
    const list = byId("history");
    byId("history-empty").hidden = this.entries.length > 0;
    list.replaceChildren(
      ...this.entries.slice(0, SHOWN).map((entry) => {
        const text = said(entry, this.classes);
        const last = ["confirm", "correct", "classes"].includes(entry.kind)
          ? this.classes.colour(entry.classes[0])
          : null;
        const name = entry.image_id.split("/").pop();
        const button = h(
          "button",
          {
            type: "button",
            class: "entry",
            testid: "history-entry",
            title: entry.image_id,
            "aria-current": entry === open ? "true" : null,
          },
          h("span", { class: last ? "swatch" : "swatch none", colour: last, "aria-hidden": "true" }),
          h("span", { class: "entry-said" }, text),
          h("span", { class: "entry-image" }, name),
        );
        button.addEventListener("click", () => this.onopen(entry));
        return h("li", {}, button);
      }),
    );
  }
}
