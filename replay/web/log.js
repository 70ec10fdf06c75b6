// The executions of a log, newest first, as a list that moves.

import { byId, cut, element } from "./dom.js";
import { common, showHelp, turnTheme } from "./header.js";
import { cell, VirtualList } from "./lists.js";
import { listen, showStanding } from "./live.js";
import { clock, counted, look, micros, shortId, size, span } from "./words.js";

const STATUSES = ["Running", "Paused", "Completed", "Failed", "Cancelled"];

/** The page of a log. */
export class LogPage {
  constructor(text) {
    const { executions, more, log, position, standing } = JSON.parse(text);
    this.executions = new Map(executions.map((execution) => [execution.id, execution]));
    this.more = more;
    this.log = log;
    this.#build();
    this.list = new VirtualList(byId("executions"), {
      label: "Executions, newest first",
      render: (execution) => this.#row(execution),
      choose: (execution) => location.assign(`x/${execution.id}`),
      move: () => {},
    });
    this.show();
    showStanding(standing);
    this.live = standing.live;
    listen(() => `events?from=${position}`, {
      executions: (data) => this.#take(JSON.parse(data)),
      standing: (standing) => {
        showStanding(standing);
        this.live = standing.live;
        this.list.redraw();
      },
    });
    setInterval(() => this.#tick(), 1000);
  }

  #take({ executions }) {
    for (const execution of executions) this.executions.set(execution.id, execution);
    this.show();
  }

  /** The duration of what runs grows, though nothing happens. */
  #tick() {
    if (this.shown.some((execution) => execution.status === "Running")) this.list.redraw();
  }

  /** Shows those that the filters take. */
  show() {
    const status = byId("by-status").value;
    const workflow = byId("by-workflow").value;
    const words = byId("filter").value.trim().toLowerCase();
    // Ids begin with the time: the highest is the newest.
    const all = [...this.executions.values()].sort((one, other) => (one.id < other.id ? 1 : -1));
    this.shown = all.filter((execution) =>
      (status === "" || execution.status === status) &&
      (workflow === "" || execution.workflow === workflow) &&
      (words === "" || `${execution.id} ${execution.workflow} ${execution.status}`.toLowerCase().includes(words)));
    byId("executions-count").textContent = this.shown.length === all.length
      ? `${counted(all.length, "execution")}${this.more ? ", the newest of more" : ""}`
      : `${this.shown.length} of ${counted(all.length, "execution")}`;
    byId("none").hidden = this.shown.length > 0;
    const workflows = [...new Set(all.map((execution) => execution.workflow ?? ""))].sort();
    const select = byId("by-workflow");
    if (select.options.length !== workflows.length + 1) {
      select.replaceChildren(element("option", { value: "" }, "every workflow"), ...workflows.map((name) => element("option", { value: name }, cut(name, 60))));
      select.value = workflow;
    }
    this.list.show(this.shown);
  }

  #row(execution) {
    const state = look(execution.status);
    const started = micros(execution.started);
    const until = this.live ? Date.now() * 1000 : micros(execution.last);
    const took = execution.duration_us ?? Math.max(0, until - started);
    return {
      className: execution.status === "Running" ? "new" : "",
      cells: [
        cell(`sign ${state.colour}`, state.sign, { "aria-hidden": "true" }),
        cell("status", execution.status),
        element("a", { className: "cell id", href: `x/${execution.id}`, tabIndex: -1, title: execution.id }, `…${shortId(execution.id)}`),
        cell("workflow", cut(execution.workflow ?? "unknown", 80), { dir: "auto" }),
        cell("started", clock(started)),
        cell("took", span(took)),
        cell("events-number", counted(execution.events, "event")),
        cell("bytes", size(execution.bytes)),
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
        element("div", { className: "line" }, element("h1", {}, "Executions"), element("span", { id: "live", className: "badge", hidden: true }), element("span", { className: "spring" }), buttons),
        element("p", { className: "facts" }, element("span", { className: "fact muted" }, `read from ${cut(this.log, 120)}; read-only, no task code is run`))),
      element("main", {},
        element("div", { className: "line filters" },
          select("by-status", "Status", [element("option", { value: "" }, "every status"), ...STATUSES.map((status) => element("option", { value: status }, status))]),
          select("by-workflow", "Workflow", [element("option", { value: "" }, "every workflow")]),
          filter,
          element("span", { id: "executions-count", className: "muted" })),
        element("div", { id: "executions", className: "list" }),
        element("p", { id: "none", className: "muted", hidden: true }, "No execution fits.")),
      element("div", { id: "announcements", "aria-live": "polite", className: "unseen" }));
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
      if (event.key === "/") {
        event.preventDefault();
        filter.focus();
      } else if (event.key === "t") turnTheme(redraw);
      else if (event.key === "?") showHelp();
    });
  }
}
