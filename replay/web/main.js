// The page of one execution: its views, the moment that all of them show, and the selection.

import { announce, byId, cleanLine, cut, element, oncePerFrame } from "./dom.js";
import { GraphView } from "./graph.js";
import { common, Header, showHelp, turnTheme } from "./header.js";
import { Inspector } from "./inspector.js";
import { ContextView, EventsView } from "./lists.js";
import { listen, showLiveness } from "./live.js";
import { LogPage } from "./log.js";
import { Moment, Past } from "./model.js";
import { Slider } from "./slider.js";
import { TimelineView } from "./timeline.js";
import { statusWord, describeEvent } from "./words.js";

class Page {
  constructor(past, live) {
    this.past = past;
    this.moment = new Moment(past);
    this.task = undefined;
    this.key = undefined;
    this.words = "";
    this.filter = undefined;
    this.lineage = undefined;
    this.log = live ? "../" : undefined;
    this.opened = performance.now();
    this.age = live?.age_us ?? 0;
    this.live = live && { isLive: live.live };
    build(common(() => this.#recolour()), this);
    this.header = new Header(this);
    this.slider = new Slider(this);
    this.graph = new GraphView(byId("graph"), this);
    this.timeline = new TimelineView(byId("timeline"), this);
    this.events = new EventsView(this);
    this.context = new ContextView(this);
    this.inspector = new Inspector(this);
    this.writeAddress = oncePerFrame(() => this.#writeAddress());
    this.#rebuild();
    this.#readAddress();
    addEventListener("hashchange", () => this.#readAddress());
    addEventListener("keydown", (event) => this.#keyPressed(event));
    // Also for finished executions: their values can still be erased.
    if (live) this.#listen(live);
  }

  /** Moves all views to the moment after an event. */
  go(seq) {
    const { last } = this.past;
    this.moment.go(Math.max(0, Math.min(last, Number.isNaN(seq) ? last : Math.round(seq))));
    this.#update();
  }

  /** Moves to the last event at or before a time, in microseconds after the start. */
  goToTime(time) {
    this.go(Math.max(0, this.past.events.findLastIndex((event) => event.at <= time)));
  }

  /** Chooses a task, or nothing. */
  choose(task, { quietly = false } = {}) {
    this.task = task;
    this.key = undefined;
    this.#selectionChanged(quietly);
  }

  /** Chooses a key of the context. */
  chooseKey(key) {
    this.key = key;
    this.task = undefined;
    this.#selectionChanged();
  }

  /** How long the execution has been running, or ran, in microseconds. */
  now() {
    const { past } = this;
    const ran = past.end - past.start;
    if (!past.isOpen || !this.live?.isLive) return ran;
    return Math.max(ran, this.age + (performance.now() - this.opened) * 1000);
  }

  /** Filters events, keys and tasks by a text. */
  setFilter(text) {
    this.words = text.trim().toLowerCase();
    this.filter = this.words ? (task) => task.toLowerCase().includes(this.words) : undefined;
    this.events.rebuild();
    this.timeline.rebuild();
    this.context.update();
    this.graph.redraw();
  }

  #rebuild() {
    this.header.rebuild();
    this.slider.rebuild();
    this.events.rebuild();
    this.timeline.rebuild();
  }

  #update() {
    this.lineage = this.#lineage();
    for (const view of [this.header, this.slider, this.graph, this.timeline, this.events, this.context, this.inspector]) view.update();
    this.writeAddress();
  }

  #selectionChanged(quietly) {
    this.lineage = this.#lineage();
    if (!quietly || this.key !== undefined || !byId("inspector").hidden) this.inspector.update();
    this.graph.selectionChanged();
    this.timeline.selectionChanged();
    this.context.update();
    this.writeAddress();
  }

  /** The tasks that contributed to the selected value. */
  #lineage() {
    if (this.key === undefined) return undefined;
    const steps = this.past.why(this.moment, this.key);
    return new Set(steps.map((step) => step.task).filter((task) => typeof task === "string"));
  }

  #recolour() {
    for (const view of [this.graph, this.timeline.picture, this.slider]) view.redraw();
  }

  #readAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    this.task = wanted.get("task") ?? undefined;
    this.key = this.task === undefined ? (wanted.get("key") ?? undefined) : undefined;
    const seq = wanted.get("seq");
    this.follows = seq === null;
    this.go(seq === null ? this.past.last : Number(seq));
    this.#selectionChanged();
  }

  #writeAddress() {
    const wanted = new URLSearchParams();
    this.follows = this.moment.seq >= this.past.last;
    if (!this.follows || !this.past.isOpen) wanted.set("seq", String(this.moment.seq));
    if (this.task !== undefined) wanted.set("task", this.task);
    if (this.key !== undefined) wanted.set("key", this.key);
    const text = wanted.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  #listen(live) {
    this.#setLiveness(live);
    const from = () => {
      const { execution, events } = this.past;
      return `${execution.id}/events?from=${events.length}&erased=${events.filter(({ erased }) => erased).length}`;
    };
    listen(from, {
      standing: (standing) => this.#setLiveness(standing),
      execution: (data) => this.#updateExecution(JSON.parse(data)),
      add: (data) => this.#addEvents(data),
      whole: (data) => this.#replaceHistory(JSON.parse(data)),
    });
    setInterval(() => {
      if (!this.past.isOpen || !this.live.isLive) return;
      this.header.rebuild();
      this.timeline.grow();
    }, 1000);
  }

  /** Shows whether the page is live, unless the execution has ended. */
  #setLiveness(standing) {
    this.live.isLive = standing.live;
    if (this.past.isOpen) showLiveness(standing);
    else byId("live").hidden = true;
  }

  /** Updates the execution's status after a change without new events. */
  #updateExecution(execution) {
    this.past.execution = execution;
    this.header.rebuild();
    this.#update();
    announce(statusWord(execution.status));
  }

  /** Adds new events. A page that shows the end stays at the end. */
  #addEvents(text) {
    const { past } = this;
    const added = JSON.parse(text);
    // After a reconnect, the stream may repeat events that the page has.
    if (added.events[0]?.seq !== past.events.length) return;
    const atEnd = this.moment.seq >= past.last;
    past.execution = added.execution;
    for (const layout of added.layouts) past.layouts.set(layout.definition, layout);
    for (const definition of added.definitions) past.definitions.set(definition.fingerprint, definition);
    past.add(text, added.events, text, added.frames);
    this.#rebuild();
    this.go(atEnd ? past.last : this.moment.seq);
    const { task, words } = describeEvent(past.events[past.last]);
    announce(cleanLine(`${task} ${words}`).slice(0, 200));
  }

  /** Replaces the whole history: when the execution has ended, which adds hints, or after an erasure. */
  #replaceHistory({ history, report }) {
    const atEnd = this.moment.seq >= this.past.last;
    const { seq } = this.moment;
    this.past = new Past(history, report);
    this.moment = new Moment(this.past);
    this.#rebuild();
    this.go(atEnd ? this.past.last : seq);
    if (!this.past.isOpen) byId("live").hidden = true;
  }

  #keyPressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help", HTMLDialogElement).open) return;
    const { target, key } = event;
    if (key === "Escape") {
      this.#escape(target);
      return;
    }
    if (target.tagName === "INPUT" && (target.type !== "range" || /Arrow|Home|End|Page/.test(key))) {
      if (target.type !== "range" || !event.shiftKey) return;
    }
    const { moment } = this;
    const done = () => event.preventDefault();
    switch (key) {
      case "ArrowLeft":
      case "ArrowRight": {
        const by = key === "ArrowLeft" ? -1 : 1;
        this.go(event.shiftKey ? this.#otherTask(by) : moment.seq + by);
        return done();
      }
      case "Home":
        this.go(0);
        return done();
      case "End":
        this.go(this.past.last);
        return done();
      case " ":
        if (target.tagName === "BUTTON" || target.tagName === "SUMMARY") return undefined;
        this.slider.play();
        return done();
      case "n":
      case "p":
        return this.#failure(key === "n" ? 1 : -1);
      case "/":
        byId("filter").focus();
        return done();
      case "g":
        return byId("graph").focus();
      case "l":
        return byId("timeline").focus();
      case "e":
        return byId("events").focus();
      case "c":
        return byId("context").focus();
      case "w":
        return this.#whyLast();
      case "t":
        return turnTheme(() => this.#recolour());
      case "?":
        return showHelp();
      case "Enter":
        if (target.id === "graph" && this.task !== undefined) this.choose(this.task);
        return undefined;
      default:
        return undefined;
    }
  }

  #escape(target) {
    if (target.id === "filter" || this.words) {
      byId("filter", HTMLInputElement).value = "";
      this.setFilter("");
      byId("filter").blur();
    } else this.choose(undefined);
  }

  /** The next event in a direction that belongs to another task. */
  #otherTask(by) {
    const { events, last } = this.past;
    const here = events[this.moment.seq]?.body?.task;
    let seq = this.moment.seq + by;
    while (seq > 0 && seq < last && (events[seq].body?.task ?? here) === here) seq += by;
    return seq;
  }

  #failure(by) {
    const { events, last } = this.past;
    for (let seq = this.moment.seq + by; seq >= 0 && seq <= last; seq += by) {
      if (events[seq].event !== "TaskFailed") continue;
      this.go(seq);
      this.choose(events[seq].body.task);
      return;
    }
    announce(by > 0 ? "no later failure" : "no earlier failure");
  }

  /** Shows the origin of the key that was written last. */
  #whyLast() {
    let newest;
    for (const [key, { since }] of this.moment.context) {
      if (newest === undefined || since > newest.since) newest = { key, since };
    }
    if (newest) this.chooseKey(newest.key);
  }
}

function panel(id, title, body, count) {
  return element("section", { className: "panel", id: `${id}-panel`, "aria-labelledby": `${id}-title` },
    element("div", { className: "head" }, element("h2", { id: `${id}-title` }, title), count && element("span", { id: count, className: "muted" }), element("span", { className: "spring" }), element("span", { className: "tools" })),
    body);
}

/** Builds the elements of the page. */
function build(buttons, page) {
  const button = (id, title, sign) => element("button", { id, title, "aria-label": title }, sign);
  const filter = element("input", { id: "filter", type: "search", placeholder: "Filter  /", "aria-label": "Filter events, keys and tasks", oninput: (event) => page.setFilter(event.target.value) });
  document.body.classList.add("execution");
  document.body.prepend(
    element("header", { id: "top" },
      element("div", { className: "line" },
        element("h1", { id: "workflow" }), element("span", { id: "status", className: "badge" }), element("span", { id: "live", className: "badge", hidden: true }),
        element("span", { className: "spring" }), filter, buttons),
      element("p", { id: "facts", className: "facts" }),
      element("div", { id: "banner", role: "note", hidden: true })),
    element("section", { id: "moment", "aria-label": "Moment" },
      element("div", { className: "line" },
        element("span", { className: "steps" }, button("first", "First event (Home)", "⇤"), button("previous", "Previous event (←)", "←"), button("play", "Play through the events (Space)", "▶"), button("next", "Next event (→)", "→"), button("last", "Last event (End)", "⇥")),
        element("span", { id: "seq" }),
        element("span", { id: "event" }, element("span", { id: "event-time" }), element("span", { id: "event-sign", "aria-hidden": "true" }), element("bdi", { id: "event-task" }), element("bdi", { id: "event-words" })),
        element("span", { id: "tally" })),
      element("div", { id: "track" }, element("div", { id: "slider-marks" }), element("input", { id: "slider", type: "range", min: "0", step: "1", "aria-label": "Event" }))),
    element("main", {},
      element("div", { className: "column" }, panel("graph", "Graph", element("div", { id: "graph" })), panel("timeline", "Timeline", element("div", { id: "timeline" }))),
      element("div", { className: "column" }, panel("events", "Events", element("div", { id: "events", className: "list" }), "events-count"), panel("context", "Context", element("div", { id: "context", className: "list" }), "context-count")),
      element("aside", { id: "inspector", hidden: true, "aria-labelledby": "inspector-title" },
        element("div", { className: "head" }, element("h2", { id: "inspector-title" }), element("span", { className: "spring" }), button("inspector-close", "Close (Esc)", "✕")),
        element("div", { id: "inspector-body", tabIndex: 0 }))),
    element("footer", {}, `Made by replay from an event log; no task code was run. `, element("bdi", {}, cut(page.past.made ?? "", 40))),
    element("div", { id: "announcements", "aria-live": "polite", className: "unseen" }));
}

/** Starts the page: that of a log or of an execution, depending on the embedded documents. */
function begin() {
  const text = (id) => document.getElementById(id)?.textContent;
  if (text("log")) return new LogPage(text("log"));
  const live = text("live-state");
  return new Page(new Past(text("history"), text("report")), live && JSON.parse(live));
}

// For tests, which inspect the page's state.
window.replay = begin();
