/** One question at a time. A key renders the next card at once; the network is never waited for. */

import { byId, h, keepFocus, plural, setText, swatch } from "./dom.js";
import * as keys from "./keys.js";
import { said } from "./history.js";
import { ClassSearch } from "./search.js";
import * as settings from "./settings.js";
import { CONTRAST, Viewer } from "./viewer.js";
import { cropUrl, picture } from "./api.js";
import { say, toast } from "./toast.js";

const MOST_SUGGESTIONS = 9;
const SHARPEN_AFTER = 250;
const OVERLAYS = ["fill", "outline", "none"];

const OTHERS = [
  ["later", "Skip for now", "skip"],
  ["cannot", "Cannot tell", "cannot-tell"],
  ["mixed", "Mixed, bad border", "mixed"],
  ["void", "Unlabeled", "void"],
  ["cut", "Cut into parts", "cut"],
  ["undo", "Undo", "undo"],
];

/** An aeroplane, a bus; a unicycle and a European are not worth a dictionary. */
const article = (name) => (/^[aeio]|^u(?!ni|s|t)/i.test(name) ? "an" : "a");

/** What is asked, and the class that is shown in bold, if any. @returns {[string, number|null, string]} */
function wording({ kind, proposed }, classes) {
  if (kind === "dominant") return ["Which class covers most of this?", null, ""];
  if (kind === "classes") return ["Which classes are in this?", null, ""];
  if (proposed === null)
    return [kind === "pixel" ? "What is at the marked point?" : "What is this?", null, ""];
  const what = kind === "pixel" ? "Is the marked point" : "Is this";
  return [`${what} ${article(classes.name(proposed))} `, proposed, "?"];
}

/**
 * The kind of answer that naming one class is.
 * @param {Object} card
 * @param {number} index
 * @returns {string}
 */
export function naming({ kind, proposed }, index) {
  if (kind === "classes") return "classes";
  return index === proposed ? "confirm" : "correct";
}

/** Milliseconds until the frame after now is on the screen. */
function painted() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => resolve(performance.now());
      channel.port2.postMessage(null);
    });
  });
}

window.a2lcTimes = [];

async function measure(began) {
  const milliseconds = (await painted()) - began;
  window.a2lcTimes.push(milliseconds);
  performance.mark("a2lc-painted", { detail: { milliseconds } });
}

export class AnswerView {
  /** @param {Object} app what the views share: classes, feed, outbox, past, status, split */
  constructor(app) {
    this.app = app;
    this.ready = null;
    this.review = null;
    this.chosen = new Set();
    this.shownAt = 0;
    this.lookedAt = null;
    this.viewer = new Viewer(byId("canvas"), { swipes: true, reserved: 56 });
    this.search = new ClassSearch(app.classes, {
      label: "Another class",
      key: keys.shownKey("search"),
      onchoose: (index, at) => this.choose(index, at),
      onleave: () => this.focus(),
    });
    byId("search-place").append(this.search.root);
    this.#buildButtons();
    this.#buildTools();
    this.#listen();
    this.showKeys();
  }

  // Building

  #buildButtons() {
    keepFocus(byId("keep")).addEventListener("click", (event) => this.act("keep", event.timeStamp));
    this.suggestions = Array.from({ length: MOST_SUGGESTIONS }, (_, index) => {
      const dot = swatch("transparent");
      const name = h("span", { class: "name" });
      const button = keepFocus(
        h(
          "button",
          { type: "button", class: "answer-button", testid: `suggestion-${index + 1}` },
          dot,
          name,
          h("kbd", {}, String(index + 1)),
        ),
      );
      button.addEventListener("click", (event) => this.suggestion(index, event.timeStamp));
      return { item: h("li", {}, button), button, dot, name };
    });
    byId("suggestions").append(...this.suggestions.map(({ item }) => item));
    this.others = OTHERS.map(([action, label, testid]) => {
      const key = h("kbd");
      const button = keepFocus(
        h("button", { type: "button", class: "action", testid }, h("span", {}, label), key),
      );
      button.addEventListener("click", (event) => this.act(action, event.timeStamp));
      return { action, button, key };
    });
    byId("actions").append(...this.others.map(({ button }) => button));
  }

  #buildTools() {
    const { look } = this.viewer;
    Object.assign(look, {
      overlay: settings.get("overlay"),
      opacity: settings.get("opacity"),
      inset: settings.get("inset"),
    });
    const opacity = byId("opacity");
    opacity.value = look.opacity;
    opacity.addEventListener("input", () => {
      look.opacity = Number(opacity.value);
      settings.set("opacity", look.opacity);
      this.viewer.draw();
    });
    // Moved with the pointer, it does not keep Enter and Space from being answers.
    opacity.addEventListener("pointerup", () => this.focus());
    const tool = (id, run) => keepFocus(byId(id)).addEventListener("click", run);
    tool("overlay-mode", () => this.act("overlay"));
    tool("overlay-colour", () => {
      settings.set("contrast", !settings.get("contrast"));
      this.#showLook();
    });
    tool("zoom-in", () => this.act("zoomIn"));
    tool("zoom-out", () => this.act("zoomOut"));
    tool("zoom-fit", () => this.act("fit"));
    tool("review-leave", () => this.leaveReview());
    this.#showLook();
  }

  #listen() {
    const { feed } = this.app;
    feed.addEventListener("cards", () => this.ready || this.next());
    feed.addEventListener("picture", ({ detail }) => this.#pictureCame(detail));
    feed.addEventListener("gone", ({ detail }) => {
      if (!this.ready || this.review || !detail.includes(this.ready.card.query_id)) return;
      toast("Someone else is answering that question now. Here is the next one.");
      this.next();
    });
    this.viewer.addEventListener("swipe", ({ detail }) => this.act(detail === "right" ? "keep" : "later"));
    this.viewer.addEventListener("zoom", () => this.#sharpenSoon());
    this.viewer.addEventListener("resize", () => {
      clearTimeout(this.resizing);
      this.resizing = setTimeout(() => {
        feed.fill();
        if (this.ready) feed.prepare(this.ready);
      }, SHARPEN_AFTER);
    });
  }

  /** Write the keys on the buttons, as they are now. */
  showKeys() {
    setText(byId("keep-key"), keys.shownKey("keep"));
    setText(this.search.key, keys.shownKey("search"));
    for (const { action, key } of this.others) setText(key, keys.shownKey(action));
    byId("overlay-mode").title = `Key ${keys.shownKey("overlay")}`;
    byId("zoom-fit").title = `Key ${keys.shownKey("fit")}, or double click`;
  }

  // Showing

  focus() {
    byId("canvas").focus({ preventScroll: true });
  }

  /** The view has come into sight. */
  enter() {
    this.viewer.resize();
    if (!this.ready) this.next();
    this.app.feed.fill();
    this.focus();
  }

  /** The next question, or what is waited for. */
  next(spoken = "") {
    this.review = null;
    const ready = this.app.feed.next();
    if (ready) this.show(ready, spoken);
    else this.rest();
  }

  /** @param {Object} ready @param {string} spoken what was just done, for screen readers */
  show(ready, spoken = "") {
    const { card } = ready;
    const { classes } = this.app;
    this.ready = ready;
    this.pictured = Boolean(ready.bitmap);
    this.chosen.clear();
    this.#setResting(false);
    const [before, index, after] = wording(card, classes);
    byId("question").replaceChildren(
      before,
      ...(index === null ? [] : [h("strong", {}, classes.name(index))]),
      after,
    );
    this.#showSuggestions(card);
    this.#showKeep();
    setText(byId("caption"), `${card.image_id} · ${plural(card.area, "pixel")}`);
    this.#showReview();
    this.#setColour();
    this.viewer.show(ready);
    byId("canvas").setAttribute(
      "aria-label",
      `Part of image ${card.image_id}, with a mask of ${plural(card.area, "pixel")} outlined`,
    );
    byId("stage").classList.toggle("loading", !ready.bitmap);
    this.shownAt = performance.now();
    if (!this.app.hidden("answer")) say(`${spoken} ${byId("question").textContent}`.trim());
    this.app.feed.prepare(ready);
  }

  #showSuggestions({ suggestions, kind, proposed }) {
    const { classes } = this.app;
    byId("suggestions").hidden = !suggestions.length;
    this.suggestions.forEach(({ item, button, dot, name }, place) => {
      const index = suggestions[place];
      item.hidden = index === undefined;
      if (item.hidden) return;
      setText(name, classes.name(index));
      dot.style.setProperty("--colour", classes.colour(index));
      button.classList.toggle("proposed", index === proposed && kind !== "classes");
      if (kind === "classes") button.setAttribute("aria-pressed", String(this.chosen.has(index)));
      else button.removeAttribute("aria-pressed");
    });
  }

  #showKeep() {
    const { classes } = this.app;
    const { kind, proposed } = this.ready.card;
    const keep = byId("keep");
    const several = kind === "classes";
    keep.hidden = !several && proposed === null;
    keep.disabled = several && !this.chosen.size;
    byId("keep-swatch").style.setProperty("--colour", several ? "transparent" : classes.colour(proposed));
    if (!several) setText(byId("keep-text"), `Yes, ${classes.name(proposed)}`);
    else
      setText(
        byId("keep-text"),
        this.chosen.size ? `Send ${classes.names([...this.chosen])}` : "Choose classes, then send",
      );
    setText(byId("keep-key"), several ? "↵" : keys.shownKey("keep"));
  }

  #showReview() {
    byId("review").hidden = !this.review;
    if (this.review)
      setText(byId("review-text"), `Your answer: ${said(this.review, this.app.classes)}. Answer again to change it.`);
  }

  #setColour() {
    const proposed = this.ready?.card.proposed ?? null;
    this.viewer.look.colour =
      settings.get("contrast") || proposed === null ? CONTRAST : this.app.classes.colour(proposed);
  }

  #showLook() {
    const { look } = this.viewer;
    look.inset = settings.get("inset");
    setText(byId("overlay-mode"), `Overlay: ${look.overlay}`);
    byId("opacity").disabled = look.overlay !== "fill";
    byId("overlay-colour").setAttribute("aria-pressed", String(settings.get("contrast")));
    this.#setColour();
    this.viewer.draw();
  }

  #pictureCame(ready) {
    if (ready !== this.ready) return;
    byId("stage").classList.remove("loading");
    this.viewer.draw();
    // Looking begins when there is something to look at.
    if (!this.pictured) this.shownAt = performance.now();
    this.pictured = true;
  }

  /** Zoomed in, the picture is fetched once more with as many pixels as show. */
  #sharpenSoon() {
    clearTimeout(this.sharpening);
    const { ready } = this;
    if (!ready?.bitmap || this.viewer.zoom < 1.3) return;
    this.sharpening = setTimeout(async () => {
      const { card, bitmap, region } = ready;
      const natural = Math.max(region[2] - region[0], region[3] - region[1]);
      const long = Math.max(bitmap.width, bitmap.height);
      if (ready !== this.ready || long >= Math.min(natural, 2048)) return;
      try {
        ready.bitmap = await picture(cropUrl(card.image, region, this.viewer.pixelsOf(region)));
      } catch {
        return;
      }
      if (ready === this.ready) this.viewer.draw();
    }, SHARPEN_AFTER);
  }

  /** No question: say why, and go on by itself when there is one. */
  rest() {
    this.ready = null;
    this.viewer.show(null);
    this.#setResting(true);
    this.#showReview();
    setText(byId("caption"), "");
    byId("canvas").setAttribute("aria-label", "No picture: no question is open");
    byId("stage").classList.remove("loading");
    this.showStatus();
    say(`${byId("resting-title").textContent} ${byId("resting-message").textContent}`);
  }

  #setResting(resting) {
    byId("asking").hidden = resting;
    byId("resting").hidden = !resting;
    byId("stage-tools").hidden = resting;
  }

  /**
   * What the resting panel says.
   * @returns {{title: string, message: string, busy: boolean, look: boolean}}
   */
  #reason() {
    const { status, outbox, offline, asked } = this.app;
    if (offline) {
      const kept = outbox.size ? `${plural(outbox.size, "answer")} stored, not yet sent. ` : "";
      return { title: "The server does not respond", message: `${kept}Questions continue when it is back.`, busy: true };
    }
    if (!status || !asked) return { title: "One moment", message: "Questions are being loaded.", busy: true };
    const { phase, message, waiting, proposed, training } = status;
    if (training?.error) return { title: "Training stopped", message: training.error };
    if (phase === "spread") {
      const many = proposed === null ? "Some masks" : plural(proposed, "mask");
      return {
        title: "All questions of the round are answered",
        message: message || `${many} would be corrected automatically.`,
        look: true,
      };
    }
    if (phase === "training")
      return {
        title: "The model is being trained",
        message: message || "New questions appear here automatically.",
        busy: true,
      };
    if (phase === "waiting")
      return {
        title: "No questions at the moment",
        message: message || "New questions appear here automatically.",
        busy: true,
      };
    if (waiting > 0) {
      return {
        title: "Nearly done",
        message: "Others are answering the last questions. Any that they skip will appear here.",
        busy: true,
      };
    }
    return { title: "All questions are answered", message: message || "Thank you.", busy: true };
  }

  /** Bring panel and notice up to the status. */
  showStatus() {
    const { status } = this.app;
    if (!this.ready) {
      const { title, message, busy = false, look = false } = this.#reason();
      setText(byId("resting-title"), title);
      setText(byId("resting-message"), message);
      byId("resting-spinner").hidden = !busy;
      byId("resting-link").hidden = !look;
      const line = status?.training?.line ?? "";
      byId("resting-training").hidden = !line;
      setText(byId("resting-training"), line);
    }
    this.#showNotice(status);
  }

  /** Automatic corrections are worth a look when they are new and a question hides the panel that says so. */
  #showNotice(status) {
    const proposed = status?.proposed ?? 0;
    const fresh = proposed > 0 && proposed !== this.lookedAt;
    const over = status?.phase === "spread";
    byId("notice").hidden = !this.ready || !(fresh || over);
    if (byId("notice").hidden) return;
    const changes = proposed
      ? `${plural(proposed, "mask")} would be corrected automatically.`
      : "Automatic corrections are ready for review.";
    setText(byId("notice-text"), over ? `All questions of the round are answered. ${changes}` : changes);
  }

  /** The spread view has been seen: the notice has done its work. */
  looked() {
    this.lookedAt = this.app.status?.proposed ?? null;
  }

  // Answering

  /**
   * @param {KeyboardEvent} event
   * @param {Object} pressed from keys.read
   * @returns {boolean} whether it meant something here
   */
  key(event, { action, digit, letter, key }) {
    if (this.viewer.arrow(key)) return true;
    if (key === "Escape" && this.review) this.leaveReview();
    else if (letter && this.ready) this.search.open(letter);
    else if (!action && !digit) return false;
    // A key that is held down does not answer question after question.
    else if (event.repeat && !action?.startsWith("zoom")) return true;
    else if (digit) this.suggestion(digit - 1, event.timeStamp);
    else this.act(action, event.timeStamp);
    return true;
  }

  /** @param {string} action name in keys.ACTIONS @param {number} at when it was asked for */
  act(action, at = performance.now()) {
    const { viewer } = this;
    switch (action) {
      case "keep":
        return this.#keep(at);
      case "later":
        return this.#later(at);
      case "cannot":
        return this.answer("skip", [], { at });
      case "mixed":
        return this.answer("mixed", [], { at });
      case "void":
        return this.answer("void", [], { at });
      case "cut":
        return this.ready && this.app.split.open(this.ready);
      case "undo":
        return this.undo();
      case "search":
        return this.ready && this.search.open();
      case "overlay":
        viewer.look.overlay = OVERLAYS[(OVERLAYS.indexOf(viewer.look.overlay) + 1) % OVERLAYS.length];
        settings.set("overlay", viewer.look.overlay);
        return this.#showLook();
      case "inset":
        settings.set("inset", !settings.get("inset"));
        return this.#showLook();
      case "fit":
        return viewer.fit();
      case "zoomIn":
        return viewer.zoomBy(1.25);
      case "zoomOut":
        return viewer.zoomBy(0.8);
      default:
        return undefined;
    }
  }

  #keep(at) {
    if (!this.ready) return;
    const { kind, proposed } = this.ready.card;
    if (kind === "classes") {
      if (this.chosen.size)
        this.answer(
          "classes",
          [...this.chosen].sort((a, b) => a - b),
          { at },
        );
    } else if (proposed !== null) {
      this.answer("confirm", [proposed], { at });
    }
  }

  /** The n-th suggestion was pressed. */
  suggestion(place, at) {
    const index = this.ready?.card.suggestions[place];
    if (index !== undefined) this.choose(index, at);
  }

  /** A class was named: an answer, or one of several. */
  choose(index, at = performance.now()) {
    if (!this.ready) return;
    const { kind } = this.ready.card;
    if (kind !== "classes") {
      this.answer(naming(this.ready.card, index), [index], { at });
      return;
    }
    if (!this.chosen.delete(index)) this.chosen.add(index);
    this.#showSuggestions(this.ready.card);
    this.#showKeep();
    say(this.chosen.size ? `Chosen: ${this.app.classes.names([...this.chosen])}` : "No class chosen");
  }

  /**
   * Keep the answer and show the next question in this very frame.
   * @param {string} kind @param {number[]} classes @param {{at: number, parts: Object|null}} options
   */
  answer(kind, classes, { at = performance.now(), parts = null } = {}) {
    if (!this.ready) return;
    const { app, ready, review } = this;
    const { query_id: id } = ready.card;
    const milliseconds = Math.max(0, Math.round(at - this.shownAt));
    app.outbox.add(
      app.name,
      { query_id: id, kind, classes, milliseconds, parts, in_grid: app.marked.has(id) },
      Boolean(review) && review.kind !== "later",
    );
    app.past.add(ready, kind, classes);
    app.feed.drop(id);
    this.next(said({ kind, classes, proposed: ready.card.proposed }, app.classes));
    measure(at);
    app.feed.fill();
    // Nothing is left to undo into, and the round may be waiting for just these.
    if (!this.ready) app.outbox.schedule();
  }

  #later(at) {
    if (!this.ready) return;
    if (this.review && this.review.kind !== "later") {
      this.leaveReview();
      return;
    }
    const { app, ready } = this;
    app.past.add(ready, "later", []);
    app.feed.release([ready.card.query_id]);
    this.next("Skipped for now.");
    measure(at);
    app.feed.fill();
  }

  /** Go back to the answer before the one that is open. */
  undo() {
    const entry = this.app.past.before(this.review);
    if (entry) this.reopen(entry);
    else toast("There is no earlier answer.");
  }

  /** Answer an entry of the history again. @param {Object} entry */
  async reopen(entry) {
    const { app } = this;
    let ready = entry.ready;
    if (!ready) {
      try {
        ready = await app.past.open(entry);
        app.outbox.know(entry.query_id, ready.card.answer?.answer_id);
      } catch {
        toast("This answer cannot be opened now.", "warn");
        return;
      }
    }
    if (this.ready && !this.review) app.feed.putBack(this.ready);
    app.feed.drop(entry.query_id);
    this.review = entry;
    this.ready = ready;
    app.go("answer");
    this.show(ready, `Answer again. Your answer: ${said(entry, app.classes)}.`);
    app.past.render(entry);
    this.showStatus();
    this.focus();
  }

  /** Back to the question that was open; the answer stays. */
  leaveReview() {
    if (!this.review) return;
    this.app.past.render();
    this.next();
    this.focus();
  }
}
