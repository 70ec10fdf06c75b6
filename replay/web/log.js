// The page of a log: its executions, newest first, updated live.

import { byId, cut, element } from "./dom.js";
import { common, showHelp, turnTheme } from "./header.js";
import { cell, VirtualList } from "./lists.js";
import { listen, showLiveness } from "./live.js";
import { causeWords, counted, dayTime, isFinal, appearance, micros, shortId, size, span, statusWord } from "./words.js";

const STATUSES = ["Running", "Waiting", "Deferred", "Blocked", "Damaged", "NotRunning", "Paused", "Completed", "Failed", "Cancelled"];
/** The columns: name and heading. */
const COLUMNS = [
  ["sign", ""], ["status", "Status"], ["id", "Id"], ["workflow", "Workflow"], ["started", "Started"], ["took", "Duration"],
  ["cause", "Cause"], ["events-number", "Events"], ["bytes", "Size"], ["error", "Error or reason"],
];
/** The heights of rows of one, two and three lines. */
const ROWS = { line: 28, two: 46, three: 64 };
/** The columns that are as wide as their content, with the limits of their width in characters. */
const WIDE = {
  workflow: { least: 10, most: 34, words: (execution) => execution.workflow ?? "" },
  cause: { least: 10, most: 26, words: (execution) => causeWords(execution.cause) },
};

/** The page of a log. */
export class LogPage {
  constructor(text) {
    const { executions, more, log, position, standing } = JSON.parse(text);
    this.executions = new Map(executions.map((execution) => [execution.id, execution]));
    /** @type {any[]} */
    this.shown = [];
    this.more = more;
    this.log = log;
    /** The widths below which the error gets a line of its own, and the rest of the row two lines: the same as in page.css. */
    this.middle = matchMedia("(max-width: 1000px)");
    this.narrow = matchMedia("(max-width: 780px)");
    this.#build();
    this.list = new VirtualList(byId("executions"), {
      label: "Executions, newest first",
      render: (execution) => this.#row(execution),
      choose: (execution) => location.assign(`x/${execution.id}`),
      move: () => {},
      high: (execution) => this.#high(execution),
      heads: element("div", { className: "heads", "aria-hidden": "true" }, COLUMNS.map(([name, head]) => cell(name, head))),
    });
    for (const width of [this.narrow, this.middle]) width.addEventListener("change", () => this.show());
    this.show();
    showLiveness(standing);
    this.live = standing.live;
    listen(() => `events?from=${position}`, {
      executions: (data) => this.#update(JSON.parse(data)),
      standing: (standing) => {
        showLiveness(standing);
        this.live = standing.live;
        this.list.redraw();
      },
    });
    setInterval(() => this.#tick(), 1000);
  }

  #update({ executions }) {
    for (const execution of executions) this.executions.set(execution.id, execution);
    this.show();
  }

  /** Redraws the durations of running executions. */
  #tick() {
    if (this.shown.some((execution) => !isFinal(execution.status))) this.list.redraw();
  }

  /** Shows the executions that pass the filters. */
  show() {
    const status = byId("by-status", HTMLSelectElement).value;
    const workflow = byId("by-workflow", HTMLSelectElement).value;
    const words = byId("filter", HTMLInputElement).value.trim().toLowerCase();
    const all = [...this.executions.values()].sort(newestFirst);
    this.shown = all.filter((execution) =>
      (status === "" || execution.status === status) &&
      (workflow === "" || execution.workflow === workflow) &&
      (words === "" || searchText(execution).includes(words)));
    byId("executions-count").textContent = this.shown.length === all.length
      ? `${counted(all.length, "execution")}${this.more ? " (older ones are not listed)" : ""}`
      : `${this.shown.length} of ${counted(all.length, "execution")}`;
    byId("none").hidden = this.shown.length > 0;
    const workflows = [...new Set(all.map((execution) => execution.workflow ?? ""))].sort();
    const select = byId("by-workflow", HTMLSelectElement);
    if (select.options.length !== workflows.length + 1) {
      select.replaceChildren(element("option", { value: "" }, "every workflow"), ...workflows.map((name) => element("option", { value: name }, cut(name, 60))));
      select.value = workflow;
    }
    for (const [name, { least, most, words }] of Object.entries(WIDE)) {
      const longest = this.shown.reduce((most, execution) => Math.max(most, words(execution).length), 0);
      byId("executions").style.setProperty(`--${name}`, `${Math.min(most, Math.max(least, longest + 1))}ch`);
    }
    this.list.show(this.shown);
  }

  #high(execution) {
    const below = this.middle.matches && why(execution) !== "";
    if (this.narrow.matches) return below ? ROWS.three : ROWS.two;
    return below ? ROWS.two : ROWS.line;
  }

  #row(execution) {
    const state = appearance(execution.status);
    const started = micros(execution.started);
    const until = this.live ? Date.now() * 1000 : micros(execution.last);
    const took = execution.duration_us ?? Math.max(0, until - started);
    const error = why(execution);
    return {
      className: state.colour,
      cells: [
        cell(`sign ${state.colour}`, state.sign, { "aria-hidden": "true" }),
        cell(`status ${state.colour}`, statusWord(execution.status)),
        element("a", { className: "cell id", href: `x/${execution.id}`, tabIndex: -1, title: execution.id }, `…${shortId(execution.id)}`),
        cell("workflow", cut(execution.workflow ?? "unknown", 80), { dir: "auto" }),
        cell("started", dayTime(started)),
        cell("took", span(took)),
        cell("cause", cut(causeWords(execution.cause), 80), { dir: "auto" }),
        cell("events-number", execution.events.toLocaleString("en")),
        cell("bytes", size(execution.bytes)),
        cell("error", cut(error, 300), { dir: "auto", title: cut([error, execution.next_step].filter(Boolean).join("\nNext: "), 1_000) }),
      ],
    };
  }

  #build() {
    const select = (id, label, options) => element("select", { id, "aria-label": label, onchange: () => this.show() }, options);
    const filter = element("input", { id: "filter", type: "search", placeholder: "Filter  /", "aria-label": "Filter executions", oninput: () => this.show() });
    const redraw = () => {};
    document.body.classList.add("log");
    const buttons = common(redraw);
    document.body.prepend(
      element("header", { id: "top" },
        element("div", { className: "line" }, element("h1", {}, "Executions"), element("span", { className: "spring" }), buttons),
        element("p", { className: "facts" }, element("span", { id: "live", className: "badge", hidden: true }), element("span", { className: "fact muted" }, `read from ${cut(this.log, 120)}; read-only, no task code is run`))),
      element("main", {},
        element("div", { className: "line filters" },
          select("by-status", "Status", [element("option", { value: "" }, "every status"), ...STATUSES.map((status) => element("option", { value: status }, statusWord(status)))]),
          select("by-workflow", "Workflow", [element("option", { value: "" }, "every workflow")]),
          filter,
          element("span", { id: "executions-count", className: "muted" })),
        element("div", { id: "executions", className: "list" }),
        element("p", { id: "none", className: "muted", hidden: true }, "No execution matches the filter.")),
      element("div", { id: "announcements", "aria-live": "polite", className: "unseen" }));
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
      if (event.key === "/") {
        event.preventDefault();
        filter.focus();
      } else if (event.key === "t") turnTheme(redraw);
      else if (event.key === "?") showHelp();
    });
  }
}

/** The reason for an execution's status: its error, or why it does not continue. */
function why({ reason }) {
  return reason ?? "";
}

/** The text that the filter searches. */
function searchText(execution) {
  const { id, workflow, status, cause } = execution;
  return [id, workflow, status, statusWord(status), causeWords(cause), why(execution)].join(" ").toLowerCase();
}

function newestFirst(one, other) {
  if (one.started !== other.started) return one.started < other.started ? 1 : -1;
  return one.id < other.id ? 1 : -1;
}
