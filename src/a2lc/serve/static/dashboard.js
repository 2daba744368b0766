/** Where the project stands: rounds, pace, what changed, how good the labels are, and the export. */

import * as api from "./api.js";
import { byId, count, h, percent, setText, svg, swatch } from "./dom.js";
import { toast } from "./toast.js";

const EVERY = 5000;
const MINUTES = 60;
const DASH = "–";

const share = (value) => percent(value);
const maybe = (value, show = count) => (value === null || value === undefined ? DASH : show(value));

function table(caption, heads, rows) {
  return h(
    "div",
    { class: "table-box", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "visually-hidden" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ...heads.map((head, place) => h("th", { scope: "col", class: place ? "number" : null }, head)),
        ),
      ),
      h(
        "tbody",
        {},
        ...rows.map((cells) =>
          h(
            "tr",
            {},
            ...cells.map((cell, place) =>
              place ? h("td", { class: "number" }, cell) : h("th", { scope: "row" }, cell),
            ),
          ),
        ),
      ),
    ),
  );
}

const card = (title, ...children) => h("section", { class: "card" }, h("h3", {}, title), ...children);

/** Before and after as two marks with their intervals on one scale. */
function interval(label, before, after) {
  const low = Math.max(0, Math.min(before.low, after.low) - 0.03);
  const high = Math.min(1, Math.max(before.high, after.high) + 0.03);
  const at = (value) => (300 * (value - low)) / Math.max(1e-6, high - low);
  const mark = ({ low: from, estimate, high: to }, y, name) => [
    svg("line", { x1: at(from), x2: at(to), y1: y, y2: y, class: `bar-${name}` }),
    svg("circle", { cx: at(estimate), cy: y, r: 5, class: `dot-${name}` }),
  ];
  const said = ({ low: from, estimate, high: to }) =>
    `${percent(estimate)} (${percent(from)} to ${percent(to)})`;
  return h(
    "div",
    { class: "interval" },
    h("h4", {}, label),
    svg(
      "svg",
      {
        viewBox: "-8 0 316 40",
        role: "img",
        "aria-label": `${label}: before ${said(before)}, after ${said(after)}`,
      },
      ...mark(before, 12, "before"),
      ...mark(after, 28, "after"),
    ),
    h(
      "dl",
      {},
      h("dt", {}, h("span", { class: "key before", "aria-hidden": "true" }), "before"),
      h("dd", {}, said(before)),
      h("dt", {}, h("span", { class: "key after", "aria-hidden": "true" }), "after"),
      h("dd", {}, said(after)),
    ),
  );
}

/**
 * Answers in each of the last minutes, the present one last; the server may leave out minutes without any.
 */
function byMinute(minutes) {
  const counts = Array(MINUTES).fill(0);
  for (const { time, answers } of minutes) {
    const ago = Math.floor((Date.now() - Date.parse(time)) / 60_000);
    if (ago >= -1 && ago < MINUTES) counts[MINUTES - 1 - Math.max(0, ago)] += answers;
  }
  return counts;
}

function pace(minutes) {
  const counts = byMinute(minutes);
  const most = Math.max(...counts);
  const top = Math.max(5, most);
  const bars = counts.map((answers, place) =>
    svg("rect", {
      x: place * 10 + 1,
      width: 8,
      y: 90 - (84 * answers) / top,
      height: (84 * answers) / top,
      rx: 1,
      class: "in",
    }),
  );
  const all = counts.reduce((sum, answers) => sum + answers, 0);
  return h(
    "div",
    { class: "pace" },
    svg(
      "svg",
      {
        viewBox: `0 0 ${MINUTES * 10} 92`,
        preserveAspectRatio: "none",
        role: "img",
        "aria-label": `${all} answers in the last ${MINUTES} minutes, at most ${most} per minute`,
      },
      svg("line", { x1: 0, x2: MINUTES * 10, y1: 91, y2: 91, class: "axis" }),
      ...bars,
    ),
    h(
      "p",
      { class: "quiet small spread-ends" },
      h("span", {}, `${MINUTES} minutes ago`),
      h("span", {}, `at most ${most} per minute`),
      h("span", {}, "now"),
    ),
  );
}

export class DashboardView {
  /** @param {Object} app */
  constructor(app) {
    this.app = app;
    this.exportButton = h(
      "button",
      { type: "button", class: "button primary", testid: "export", onclick: () => this.#export() },
      "Export the labels",
    );
    this.exported = h("p", { class: "exported", role: "status" });
    this.head = h("h2", {}, "Dashboard");
    this.body = h("div", { class: "dashboard" });
    byId("view-dashboard").append(
      h(
        "div",
        { class: "view-head" },
        this.head,
        h("div", { class: "head-actions" }, this.exported, this.exportButton),
      ),
      this.body,
    );
  }

  enter() {
    this.load();
    this.timer = setInterval(() => this.load(), EVERY);
  }

  leave() {
    clearInterval(this.timer);
  }

  async load() {
    try {
      this.#show(await api.dashboard());
    } catch (error) {
      this.app.failed(error);
    }
  }

  #show(found) {
    // Nothing is redrawn under a reader's hands when nothing is new.
    const now = JSON.stringify(found);
    if (now === this.seen) return;
    this.seen = now;
    setText(this.head, this.app.project.name);
    this.body.replaceChildren(
      ...[
        this.#figures(found),
        this.#quality(found.quality),
        card("Answers per minute", pace(found.minutes)),
        card("Rounds", this.#rounds(found.rounds)),
        card("Changes by class", this.#changes(found.changes)),
        card("People", this.#people(found.annotators)),
      ].filter(Boolean),
    );
  }

  #figures({ answers, clicks, waiting, data_miou: miou, annotators }) {
    const minute = annotators.find(({ name }) => name === this.app.name)?.a_minute;
    const figure = (value, label) =>
      h("div", { class: "figure" }, h("strong", {}, value), h("span", {}, label));
    return h(
      "section",
      { class: "figures", "aria-label": "Figures" },
      figure(count(answers), "answers"),
      figure(clicks.toLocaleString("en-GB", { maximumFractionDigits: 1 }), "clicks"),
      figure(count(waiting), "waiting"),
      figure(
        maybe(minute, (value) => value.toFixed(1)),
        "your answers per minute",
      ),
      miou === null ? null : figure(percent(miou), "mIoU of the labels"),
    );
  }

  #quality(quality) {
    if (!quality?.before || !quality?.after) {
      return card(
        "Label quality",
        h(
          "p",
          { class: "quiet", testid: "quality" },
          "No estimate yet: it is computed from audits when a round with audits is finished.",
        ),
      );
    }
    const { before, after, round, undone } = quality;
    const sure = after.confidence ? ` with ${percent(after.confidence, 0)} confidence` : "";
    const node = card(
      "Label quality",
      interval("Pixel accuracy", before.pixel_accuracy, after.pixel_accuracy),
      interval("Mean IoU", before.miou, after.miou),
      h(
        "p",
        { class: "quiet small" },
        `Estimated from audits of round ${round}${sure}.${undone ? " Some corrections have been undone since." : ""}`,
      ),
    );
    node.dataset.testid = "quality";
    return node;
  }

  #rounds(rounds) {
    return table(
      "Rounds",
      ["Round", "Answered", "Clicks", "Manual", "Automatic", "Label mIoU", "Model mIoU"],
      rounds.map((row) => [
        row.finished ? `${row.round}` : `${row.round}, open`,
        maybe(row.answered),
        maybe(row.clicks),
        count(row.manual_changed),
        count(row.automatic_changed),
        maybe(row.data_miou, share),
        maybe(row.model_miou, share),
      ]),
    );
  }

  #changes(changes) {
    const some = changes.filter(({ from, to }) => from || to);
    if (!some.length) return h("p", { class: "quiet" }, "Nothing has changed yet.");
    const { classes } = this.app;
    const top = Math.max(...some.map(({ from, to }) => Math.max(from, to)));
    const bar = (value, name) =>
      svg(
        "svg",
        { viewBox: "0 0 100 8", preserveAspectRatio: "none", class: "hbar", "aria-hidden": "true" },
        svg("rect", { width: (100 * value) / top, height: 8, rx: 1, class: name }),
      );
    const barred = (value, name) => h("span", { class: "barred" }, bar(value, name), count(value));
    return table(
      "Changes by class",
      ["Class", "Changed from", "Changed to"],
      some
        .sort((a, b) => b.from + b.to - a.from - a.to)
        .map(({ class: index, from, to }) => [
          h("span", { class: "pair" }, swatch(classes.colour(index)), h("span", {}, classes.name(index))),
          barred(from, "fill-before"),
          barred(to, "fill-after"),
        ]),
    );
  }

  #people(annotators) {
    if (!annotators.length) return h("p", { class: "quiet" }, "Nobody has answered yet.");
    return table(
      "People",
      ["Name", "Answers", "Today", "Per minute", "Changed"],
      annotators.map((one) => [
        one.name,
        count(one.answers),
        count(one.today),
        maybe(one.a_minute, (value) => value.toFixed(1)),
        count(one.changed),
      ]),
    );
  }

  async #export() {
    this.exportButton.disabled = true;
    setText(this.exported, "Writing files…");
    try {
      const { files, path, download } = await api.exportLabels(this.app.name);
      this.exported.replaceChildren(
        `${count(files)} files in ${path} · `,
        h("a", { href: download, testid: "export-link", download: true }, "Download"),
      );
    } catch (error) {
      setText(this.exported, "");
      toast(error.message, "warn");
    }
    this.exportButton.disabled = false;
  }
}
