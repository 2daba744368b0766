/**
 * Starts the page and holds what the views share: who answers, what the server last said, which view is
 * open.
 */

import * as api from "./api.js";
import { AnswerView } from "./answer.js";
import { Classes } from "./classes.js";
import { DashboardView } from "./dashboard.js";
import { byId, count, h, keepFocus, plural, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { GridView } from "./grid.js";
import { HelpDialog } from "./help.js";
import { Past } from "./history.js";
import * as keys from "./keys.js";
import { Outbox } from "./outbox.js";
import * as settings from "./settings.js";
import { SplitDialog } from "./split.js";
import { SpreadView } from "./spread.js";
import { toast } from "./toast.js";

const VIEWS = ["answer", "grid", "spread", "dashboard"];
const SOON = 2000;
const LATER = 10_000;
const TICK = 500;

class App {
  constructor(project) {
    this.project = project;
    this.classes = new Classes(project.classes);
    this.status = null;
    this.offline = false;
    this.asked = false;
    this.view = null;
    this.polledAt = performance.now();
    this.renewedAt = performance.now();
    this.outbox = new Outbox(`${project.folder_name}.${project.name}.${project.masks}`);
    this.feed = new Feed({
      annotator: () => this.name,
      view: (card) => this.answer.viewer.viewOf(card),
      answered: () => this.outbox.questions,
    });
    /** Questions that were marked in a grid as of another class. */
    this.marked = new Set();
    this.past = new Past(this.classes, (entry) => this.answer.reopen(entry));
    this.answer = new AnswerView(this);
    this.split = new SplitDialog(this);
    this.help = new HelpDialog(() => this.#keysChanged());
    this.views = {
      answer: this.answer,
      grid: new GridView(this),
      spread: new SpreadView(this),
      dashboard: new DashboardView(this),
    };
    this.#listen();
    this.#nameDialog();
  }

  get name() {
    return settings.get("name");
  }

  start() {
    setText(byId("project-name"), this.project.name);
    document.title = `${this.project.name} – a2lc`;
    this.#keysChanged();
    this.past.render();
    this.#show();
    if (this.name) this.#begin();
    else this.askName();
    this.outbox.schedule();
    setInterval(() => this.#tick(), TICK);
  }

  /** The name is known: fetch what is this person's. */
  #begin() {
    setText(byId("name-button"), this.name);
    this.past
      .restore(this.name, (query, answer) => this.outbox.know(query, answer))
      .catch(() => {
        // Earlier answers are a convenience; the questions do not wait for them.
      });
    this.feed.fill();
    this.views[this.view].enter();
  }

  // Views

  /** @param {string} view @returns {boolean} whether it is out of sight */
  hidden(view) {
    return this.view !== view;
  }

  /** Open a view. @param {string} view */
  go(view) {
    if (this.view !== view) window.location.hash = view;
    this.#show(view);
  }

  #show(wanted = window.location.hash.slice(1)) {
    // Other hashes, as that of the skip link, leave the view as it is.
    const view = VIEWS.includes(wanted) ? wanted : (this.view ?? "answer");
    if (view === this.view) return;
    this.views[this.view]?.leave?.();
    this.view = view;
    for (const name of VIEWS) {
      byId(`view-${name}`).hidden = name !== view;
      const tab = document.querySelector(`.tabs a[href="#${name}"]`);
      if (name === view) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    document.body.dataset.view = view;
    if (this.name) this.views[view].enter();
    this.#showStatus();
  }

  // What the server says

  /** @param {Object} status as /api/status gives it */
  setStatus(status) {
    const went = this.status?.phase !== "answering" && status.phase === "answering";
    this.status = status;
    this.polledAt = performance.now();
    this.#back();
    if (went || (status.waiting > 0 && !this.feed.size && !this.answer.ready)) this.feed.fill();
    this.#showStatus();
  }

  #showStatus() {
    const { status } = this;
    if (status) {
      const answered = status.answered + this.#unseen();
      setText(byId("status-round"), `Round ${status.round}`);
      byId("status-progress").value = status.budget > 0 ? Math.min(1, answered / status.budget) : 0;
      setText(byId("status-answered"), `${count(answered)} / ${count(status.budget)}`);
      setText(byId("status-waiting"), `${count(Math.max(0, status.waiting - this.#unseen()))} waiting`);
      const line = status.training?.error ?? status.training?.line ?? "";
      byId("status-training").hidden = !line;
      setText(byId("status-training"), line);
      byId("status-training").title = line;
    }
    this.answer.showStatus();
    this.views.spread.showStatus();
  }

  /** Answers that the server has not counted yet. */
  #unseen() {
    return this.outbox.entries.filter((entry) => !entry.again).length;
  }

  /** A request failed for a reason a person should know. */
  failed(error) {
    if (error instanceof api.AwayError) this.#away();
    else if (error.status === 401) this.#locked();
    else toast(error.message, "warn");
  }

  #away() {
    if (!this.offline) this.polledAt = performance.now();
    this.offline = true;
    this.#showConnection();
  }

  #back() {
    if (!this.offline && !this.locked) return;
    this.offline = false;
    this.#setLocked(false);
    this.outbox.pause = 0;
    this.outbox.schedule();
    this.feed.fill();
    if (this.answer.ready) this.feed.prepare(this.answer.ready);
    this.#showConnection();
  }

  #locked() {
    this.#setLocked(true);
    this.#showConnection();
  }

  /** Signed out, only the status is asked for, until the printed address was opened in this browser. */
  #setLocked(locked) {
    this.locked = locked;
    this.feed.locked = locked;
    this.outbox.stopped = locked;
  }

  #showConnection() {
    const { offline, locked, outbox } = this;
    const kept = outbox.size
      ? `${plural(outbox.size, "answer")} stored, not yet sent.`
      : "your answers are stored.";
    const banner = byId("offline");
    banner.hidden = !offline && !locked;
    if (locked) setText(banner, `Not signed in: open the address that a2lc serve printed – ${kept}`);
    else setText(banner, `Offline – ${kept}`);
    const [state, text] = locked
      ? ["off", "Signed out"]
      : offline
        ? ["off", "Offline"]
        : outbox.size
          ? ["sending", `Sending ${outbox.size}`]
          : ["on", "Connected"];
    byId("connection").dataset.state = state;
    setText(byId("connection"), text);
    this.answer.showStatus();
  }

  async #poll() {
    this.polledAt = performance.now();
    try {
      this.setStatus(await api.status());
    } catch (error) {
      this.failed(error);
    }
  }

  #tick() {
    if (!this.name) return;
    const now = performance.now();
    const eager = this.offline || this.locked || !this.answer.ready || this.status?.phase !== "answering";
    if (now - this.polledAt > (eager ? SOON : LATER)) this.#poll();
    if (now - this.renewedAt > (this.project.lease_seconds * 1000) / 3 && !document.hidden && !this.offline) {
      this.renewedAt = now;
      this.feed.renew();
    }
  }

  #listen() {
    const { feed, outbox } = this;
    feed.addEventListener("cards", () => {
      this.asked = true;
    });
    feed.addEventListener("refused", ({ detail }) => {
      if (detail.code === "bad_annotator") this.askName(detail.message);
      else toast(detail.message, "warn");
    });
    outbox.addEventListener("back", () => this.#back());
    outbox.addEventListener("change", () => {
      this.#showConnection();
      this.#showStatus();
    });
    outbox.addEventListener("unkept", () =>
      toast("This browser cannot store answers. Do not close the page before all are sent.", "warn"),
    );
    outbox.addEventListener("result", ({ detail: { result } }) => {
      if (result.status !== "conflict" && result.status !== "refused") return;
      toast(result.message, "warn");
      this.past.remove(result.query_id);
    });
    for (const source of [feed, outbox]) {
      source.addEventListener("status", ({ detail }) => this.setStatus(detail));
      source.addEventListener("away", () => this.#away());
      source.addEventListener("locked", () => this.#locked());
    }
    window.addEventListener("hashchange", () => this.#show());
    window.addEventListener("pagehide", () => outbox.flush());
    document.addEventListener("visibilitychange", () => document.hidden && outbox.flush());
    document.addEventListener("keydown", (event) => this.#key(event));
    const tool = (id, run) => keepFocus(byId(id)).addEventListener("click", run);
    tool("theme", () => this.#showTheme(settings.nextTheme()));
    tool("help-button", () => this.help.open());
    tool("name-button", () => this.askName());
    this.#showTheme(settings.get("theme"));
  }

  #showTheme(theme) {
    setText(byId("theme"), `Theme: ${theme}`);
  }

  // Keys

  #keysChanged() {
    setText(byId("help-key"), keys.shownKey("help"));
    this.answer.showKeys();
  }

  #key(event) {
    if (document.querySelector("dialog[open]")) return;
    if (this.view === "grid") this.views.grid.key(event);
    const pressed = keys.read(event);
    if (!pressed) return;
    const used = this.#anywhere(pressed) || (this.view === "answer" && this.answer.key(event, pressed));
    if (used) event.preventDefault();
  }

  /** Keys that mean the same in every view. */
  #anywhere(pressed) {
    if (pressed.action === "help") this.help.open();
    else if (pressed.action === "grid") this.go(this.view === "grid" ? "answer" : "grid");
    else if (pressed.key === "Escape" && this.view !== "answer") this.go("answer");
    else return false;
    return true;
  }

  // The name

  #nameDialog() {
    const dialog = byId("name-dialog");
    byId("names").append(...this.project.annotators.map((name) => h("option", { value: name })));
    byId("name-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#setName(byId("name-input").value.trim());
    });
    byId("name-cancel").addEventListener("click", () => dialog.close());
    // Without a name there is nothing to go back to.
    dialog.addEventListener("cancel", (event) => this.name || event.preventDefault());
  }

  /** Ask who answers. @param {string} why the last name would not do */
  askName(why = "") {
    byId("name-input").value = this.name;
    setText(byId("name-error"), why);
    byId("name-cancel").hidden = !this.name;
    if (!byId("name-dialog").open) byId("name-dialog").showModal();
    byId("name-input").select();
  }

  #setName(name) {
    const refused = !name
      ? "Please enter a name."
      : /\p{Cc}/u.test(name)
        ? "Please do not use control characters."
        : name.toLowerCase() === "oracle"
          ? "That is the name of the simulated annotator. Please choose another."
          : "";
    setText(byId("name-error"), refused);
    if (refused) return;
    const before = this.name;
    byId("name-dialog").close();
    if (name === before) return;
    if (before) {
      // Questions held under the old name are not this person's.
      const held = this.feed.held.map((ready) => ready.card.query_id);
      api.release(before, held).catch(() => {});
      for (const id of held) this.feed.drop(id);
      this.past.clear();
    }
    settings.set("name", name);
    this.answer.next();
    this.#begin();
    this.answer.focus();
  }
}

/** Without a project there is nothing to show but why; it is tried again until it works. */
async function boot() {
  settings.applyTheme();
  try {
    const project = await api.project();
    byId("offline").hidden = true;
    new App(project).start();
  } catch (error) {
    if (!(error instanceof api.AwayError) && !(error instanceof api.ApiError)) throw error;
    byId("offline").hidden = false;
    const away = error instanceof api.AwayError;
    const why =
      error.status === 401 ? "Not signed in: open the address that a2lc serve printed." : error.message;
    setText(byId("offline"), away ? "The server does not respond. Trying again…" : why);
    if (away) setTimeout(boot, SOON);
  }
}

boot();
