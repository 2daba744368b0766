/** Review the automatic corrections before they are made: pairs of classes, how sure, and pictures. */

import * as api from "./api.js";
import { count, byId, h, percent, plural, setText, svg, swatch } from "./dom.js";
import { Tile } from "./tiles.js";
import { toast } from "./toast.js";

const BINS = 20;
const MORE = 24;
const NOTHING = { ready: false, total: 0, promise: "", pairs: [], items: [], histogram: [] };

/** Estimated number of corrections: those of the accepted pairs, and by the histogram those that are sure enough. */
function expected({ pairs, histogram, total }, threshold, rejected) {
  const kept = pairs
    .filter((pair) => !rejected.has(pairName(pair)))
    .reduce((sum, { masks }) => sum + masks, 0);
  if (threshold <= 0 || !total) return kept;
  const counted = histogram.reduce((sum, value) => sum + value, 0);
  const above = histogram.reduce(
    (sum, value, bin) => sum + value * Math.min(1, Math.max(0, bin + 1 - threshold * BINS)),
    0,
  );
  return counted ? (kept * above) / counted : 0;
}

const pairName = ({ old, new: fresh }) => `${old},${fresh}`;

export class SpreadView {
  /** @param {Object} app */
  constructor(app) {
    this.app = app;
    this.rejected = new Set();
    this.threshold = 0;
    this.pair = null;
    this.tiles = [];
    this.#build();
  }

  #build() {
    this.total = h("h2", { testid: "spread-total" }, "One moment");
    this.promise = h("p", { class: "promise" });
    this.line = h("p", { class: "quiet" }, "The automatic corrections are being computed.");
    this.bars = h("div", { class: "histogram", "aria-hidden": "true" });
    this.slider = h("input", {
      type: "range",
      id: "spread-threshold",
      testid: "spread-threshold",
      min: "0",
      max: "1",
      step: "0.01",
      value: "0",
    });
    this.sliderText = h("output", { for: "spread-threshold" });
    this.slider.addEventListener("input", () => {
      this.threshold = Number(this.slider.value);
      this.#count();
    });
    this.rows = h("tbody");
    this.accept = h(
      "button",
      {
        type: "button",
        class: "button primary",
        testid: "spread-accept",
        disabled: true,
        onclick: () => this.#accept(),
      },
      "Accept",
    );
    this.undo = h(
      "button",
      { type: "button", class: "button", testid: "spread-undo", onclick: () => this.#undo() },
      "Undo the last corrections",
    );
    this.finish = h(
      "button",
      {
        type: "button",
        class: "button",
        testid: "spread-finish",
        hidden: true,
        title: "A few questions that check the corrections follow, then you can accept them",
        onclick: () => this.#finish(),
      },
      "Finish the round now",
    );
    this.shown = h("h3", {}, "Examples");
    this.all = h(
      "button",
      { type: "button", class: "button", hidden: true, onclick: () => this.#showPair(null) },
      "All pairs",
    );
    this.pictures = h("ul", { class: "tiles changes" });
    this.more = h(
      "button",
      { type: "button", class: "button", hidden: true, onclick: () => this.#loadMore() },
      "More",
    );
    // Until it is known what would change there is nothing to choose from, and nothing to accept.
    this.body = h(
      "div",
      { class: "spread-body", hidden: true },
      h(
        "div",
        { class: "spread-side" },
        h(
          "div",
          { class: "card" },
          h("label", { for: "spread-threshold" }, "Minimum probability"),
          this.bars,
          h("div", { class: "row" }, this.slider, this.sliderText),
        ),
        h(
          "div",
          { class: "table-box", tabindex: "0", role: "region", "aria-label": "Pairs of classes" },
          h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                h("th", { scope: "col" }, "Apply"),
                h("th", { scope: "col" }, "From → to"),
                h("th", { scope: "col", class: "number" }, "Masks"),
                h("th", { scope: "col", class: "number" }, "Pixels"),
                h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Examples")),
              ),
            ),
            this.rows,
          ),
        ),
      ),
      h(
        "div",
        { class: "spread-pictures" },
        h("div", { class: "view-head" }, this.shown, this.all),
        this.pictures,
        this.more,
      ),
    );
    byId("view-spread").append(
      h(
        "div",
        { class: "view-head" },
        h("div", {}, this.total, this.promise, this.line),
        h("div", { class: "head-actions" }, this.undo, this.finish, this.accept),
      ),
      this.body,
    );
  }

  enter() {
    this.load();
    this.app.answer.looked();
  }

  /** Load the automatic corrections. */
  async load() {
    try {
      this.found = { ...NOTHING, ...(await api.spread()) };
    } catch (error) {
      this.app.failed(error);
      return;
    }
    const there = new Set(this.found.pairs.map(pairName));
    this.rejected = new Set([...this.rejected].filter((name) => there.has(name)));
    if (this.pair && !there.has(pairName(this.pair))) this.pair = null;
    this.#showTable();
    this.#count();
    this.#showPictures(
      this.pair
        ? this.found.items.filter((item) => pairName(item) === pairName(this.pair))
        : this.found.items,
    );
  }

  /** The phase may have changed. */
  showStatus() {
    if (!this.found || this.app.hidden("spread")) return;
    const { phase, proposed } = this.app.status ?? {};
    const now = `${phase} ${proposed}`;
    if (this.seen && this.seen !== now) this.load();
    this.seen = now;
    this.#count();
  }

  #count() {
    const { found, threshold, rejected, app } = this;
    if (!found) return;
    const masks = expected(found, threshold, rejected);
    const about = threshold > 0 ? "about " : "";
    const open = app.status?.phase === "spread" && found.ready;
    // Before the round's answers are in there may be something to look at, but nothing to accept.
    const any = found.ready || found.total > 0;
    setText(
      this.total,
      any ? `${plural(found.total, "automatic correction")} to review` : "No automatic corrections yet",
    );
    setText(this.promise, any ? found.promise : "");
    setText(this.line, this.#when(open, any));
    this.body.hidden = !any;
    const { phase, finishing } = app.status ?? {};
    this.finish.hidden = found.ready || phase !== "answering" || finishing || !found.total;
    this.accept.disabled = !open;
    setText(this.accept, found.ready ? `Accept ${about}${plural(masks, "correction")}` : "Accept");
    setText(this.sliderText, threshold > 0 ? percent(threshold, 0) : "all");
    this.slider.setAttribute("aria-valuetext", `${percent(threshold, 0)}, ${about}${plural(masks, "mask")}`);
    this.#drawBars();
    for (const { node, item } of this.tiles) {
      node.classList.toggle("left-out", item.probability < threshold || rejected.has(pairName(item)));
    }
  }

  #when(open, any) {
    const { app } = this;
    if (!any) return "They appear when enough questions of the round are answered.";
    if (open) return "Untick wrong pairs, then accept. You can undo this.";
    if (app.status?.phase === "answering" && app.status.finishing) {
      return "The round ends after the questions that are left. Then you can accept its corrections.";
    }
    return app.status?.phase === "answering"
      ? "This is a preview. Corrections are made when the questions of the round are answered."
      : (app.status?.message ?? "");
  }

  #drawBars() {
    const { histogram } = this.found;
    const top = Math.max(1, ...histogram);
    const bars = histogram.map((value, bin) =>
      svg("rect", {
        x: bin * 10 + 1,
        y: 48 - (46 * value) / top,
        width: 8,
        height: (46 * value) / top + 0.5,
        rx: 1,
        class: (bin + 1) / BINS > this.threshold ? "in" : "out",
      }),
    );
    this.bars.replaceChildren(svg("svg", { viewBox: "0 0 200 49", preserveAspectRatio: "none" }, ...bars));
  }

  #names(pair) {
    const { classes } = this.app;
    const one = (index) =>
      h("span", { class: "one" }, swatch(classes.colour(index)), h("span", {}, classes.name(index)));
    return [one(pair.old), h("span", { class: "arrow" }, "→"), one(pair.new)];
  }

  #showTable() {
    const { classes } = this.app;
    this.rows.replaceChildren(
      ...this.found.pairs.map((pair) => {
        const name = pairName(pair);
        const spoken = `${classes.name(pair.old)} to ${classes.name(pair.new)}`;
        const box = h("input", {
          type: "checkbox",
          "aria-label": `Change ${spoken}`,
          checked: !this.rejected.has(name),
        });
        box.addEventListener("change", () => {
          if (box.checked) this.rejected.delete(name);
          else this.rejected.add(name);
          row.classList.toggle("left-out", !box.checked);
          this.#count();
        });
        const look = h(
          "button",
          {
            type: "button",
            class: "flat",
            "aria-label": `Examples of ${spoken}`,
            onclick: () => this.#showPair(pair),
          },
          "Show",
        );
        const row = h(
          "tr",
          { testid: "spread-pair", class: this.rejected.has(name) ? "left-out" : null },
          h("td", {}, box),
          h("td", {}, h("span", { class: "pair" }, ...this.#names(pair))),
          h("td", { class: "number" }, count(pair.masks)),
          h("td", { class: "number" }, count(pair.pixels)),
          h("td", {}, look),
        );
        return row;
      }),
    );
  }

  #picture(item) {
    const { classes } = this.app;
    const tile = new Tile(item);
    const node = h(
      "li",
      { class: "tile" },
      tile.canvas,
      h(
        "div",
        { class: "tile-line" },
        h("span", { class: "pair" }, ...this.#names(item)),
        h("span", { class: "quiet" }, percent(Math.floor(100 * item.probability) / 100, 0)),
      ),
    );
    tile.canvas.removeAttribute("aria-hidden");
    tile.canvas.setAttribute("role", "img");
    tile.canvas.setAttribute(
      "aria-label",
      `Mask in ${item.image_id}: ${classes.name(item.old)} to ${classes.name(item.new)}`,
    );
    return { tile, node, item };
  }

  #showPictures(items) {
    for (const { tile } of this.tiles) tile.close();
    this.tiles = items.map((item) => this.#picture(item));
    this.pictures.replaceChildren(...this.tiles.map(({ node }) => node));
    const { classes } = this.app;
    setText(
      this.shown,
      this.pair ? `${classes.name(this.pair.old)} → ${classes.name(this.pair.new)}` : "Examples",
    );
    this.all.hidden = !this.pair;
    this.more.hidden = !this.pair || items.length >= this.pair.masks;
    this.#count();
  }

  #showPair(pair) {
    this.pair = pair;
    this.#showPictures([]);
    if (pair) this.#loadMore();
    else this.#showPictures(this.found.items);
  }

  async #loadMore() {
    const { pair } = this;
    try {
      const { items } = await api.spread({
        old: pair.old,
        new: pair.new,
        offset: this.tiles.length,
        limit: MORE,
      });
      if (pair !== this.pair) return;
      for (const item of items) {
        const made = this.#picture(item);
        this.tiles.push(made);
        this.pictures.append(made.node);
      }
      this.more.hidden = items.length < MORE;
      this.#count();
    } catch (error) {
      this.app.failed(error);
    }
  }

  async #accept() {
    const rejected = [...this.rejected].map((name) => name.split(",").map(Number));
    this.accept.disabled = true;
    try {
      const { changed, message, status } = await api.acceptSpread(this.app.name, this.threshold, rejected);
      toast(message || `${plural(changed, "mask")} changed.`);
      this.app.setStatus(status);
    } catch (error) {
      this.app.failed(error);
    }
    this.load();
  }

  async #finish() {
    this.finish.disabled = true;
    try {
      const status = await api.finishRound(this.app.name);
      toast("The round ends after a few more questions. Then you can accept its corrections.");
      this.app.setStatus(status);
    } catch (error) {
      this.app.failed(error);
    }
    this.finish.disabled = false;
    this.load();
  }

  async #undo() {
    try {
      const { changed, status } = await api.undoSpread(this.app.name);
      toast(`${plural(changed, "mask")} restored.`);
      this.app.setStatus(status);
    } catch (error) {
      this.app.failed(error);
    }
    this.load();
  }
}
