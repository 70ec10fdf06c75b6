// Virtual lists: only visible rows are elements, so lists can have any length.

import { byId, cleanLine, cut, element, oncePerFrame } from "./dom.js";
import { ERASED } from "./model.js";
import { counted, appearance, size, span, describeEvent } from "./words.js";

const ROW_HEIGHT = 26;
const BEYOND = 4;

/**
 * How a list shows its items. All rows have the same height unless `high` returns it; `heads` stay on top of them.
 * @typedef {object} Rows
 * @property {string} label
 * @property {(item: any, at: number) => { className?: string, cells: any[] }} render The cells and the class of a row.
 * @property {(item: any, at: number) => void} choose The row was clicked, or entered with the keyboard.
 * @property {(item: any, at: number) => void} [move] The keyboard moved to the row.
 * @property {(item: any) => number} [high]
 * @property {HTMLElement} [heads]
 */

/** A list that has elements only for its visible rows. */
export class VirtualList {
  /**
   * @param {HTMLElement} host
   * @param {Rows} rows
   */
  constructor(host, { label, render, choose, move = choose, high, heads }) {
    this.host = host;
    this.render = render;
    this.choose = choose;
    this.move = move;
    this.high = high;
    /** @type {any[]} */
    this.items = [];
    /** @type {number[] | undefined} */
    this.tops = undefined;
    this.current = -1;
    this.room = element("div", { className: "room" });
    if (heads) host.append(heads);
    host.append(this.room);
    host.tabIndex = 0;
    host.setAttribute("role", "listbox");
    host.setAttribute("aria-label", label);
    this.redraw = oncePerFrame(() => this.#draw());
    host.addEventListener("scroll", this.redraw);
    host.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(this.redraw).observe(host);
  }

  /** Replaces the items, or updates their heights. */
  show(items) {
    this.items = items;
    const { high } = this;
    if (high) {
      let top = 0;
      this.tops = [top, ...items.map((item) => (top += high(item)))];
    }
    this.redraw();
  }

  /** Marks a row as the current one, and scrolls to it. */
  mark(index, { centred = false } = {}) {
    this.current = index;
    if (index >= 0) {
      const { scrollTop } = this.host;
      const seen = this.host.clientHeight - this.room.offsetTop;
      const [top, bottom] = [this.#top(index), this.#top(index + 1)];
      if (top < scrollTop || bottom > scrollTop + seen) {
        this.room.style.height = `${this.#top(this.items.length)}px`;
        this.host.scrollTop = centred ? top - seen / 2 : top < scrollTop ? top : bottom - seen;
      }
    }
    this.redraw();
  }

  /** The top of a row, in pixels below the first row's top. */
  #top(index) {
    return this.tops ? this.tops[index] : index * ROW_HEIGHT;
  }

  /** The row at this many pixels below the first row's top. */
  #at(pixels) {
    if (!this.tops) return Math.floor(pixels / ROW_HEIGHT);
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= pixels) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #draw() {
    const { scrollTop, clientHeight } = this.host;
    this.room.style.height = `${this.#top(this.items.length)}px`;
    const from = Math.max(0, this.#at(scrollTop) - BEYOND);
    const to = Math.min(this.items.length, this.#at(scrollTop + clientHeight) + 1 + BEYOND);
    const rows = [];
    for (let at = from; at < to; at += 1) {
      const { className = "", cells } = this.render(this.items[at], at);
      const row = element("div", {
        className: `row ${className}`,
        role: "option",
        id: `${this.host.id}-${at}`,
        "aria-selected": String(at === this.current),
        "aria-posinset": at + 1,
        "aria-setsize": this.items.length,
        onclick: () => this.choose(this.items[at], at),
      }, cells);
      row.style.top = `${this.#top(at)}px`;
      if (this.tops) row.style.height = `${this.#top(at + 1) - this.#top(at)}px`;
      rows.push(row);
    }
    this.room.replaceChildren(...rows);
    if (this.current >= from && this.current < to) this.host.setAttribute("aria-activedescendant", `${this.host.id}-${this.current}`);
    else this.host.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.host.clientHeight / ROW_HEIGHT) - 1);
    const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || this.items.length === 0) return;
    if (event.key === "Enter" && this.current >= 0) {
      event.stopPropagation();
      this.choose(this.items[this.current], this.current);
    } else if (by !== undefined) {
      event.preventDefault();
      event.stopPropagation();
      const next = Math.min(this.items.length - 1, Math.max(0, this.current + by));
      this.mark(next);
      this.move(this.items[next], next);
    }
  }
}

/** A cell of a row. */
export function cell(name, text, attributes = {}) {
  return element("span", { className: `cell ${name}`, ...attributes }, text);
}

/** The list of events. */
export class EventsView {
  constructor(page) {
    this.page = page;
    this.list = new VirtualList(byId("events"), {
      label: "Events",
      render: (seq) => this.#row(seq),
      choose: (seq) => {
        page.go(seq);
        const { body } = page.past.events[seq];
        if (body?.key !== undefined && page.moment.context.get(body.key)?.seen === seq) page.chooseKey(body.key);
        else if (body?.task) page.choose(body.task);
      },
      move: (seq) => page.go(seq),
    });
  }

  /** Updates the list after the events or the filter have changed. */
  rebuild() {
    const { past, words } = this.page;
    const all = past.events.map((event) => event.seq);
    this.seqs = words ? all.filter((seq) => this.#says(seq).includes(words)) : all;
    byId("events-count").textContent = words ? `${this.seqs.length.toLocaleString("en")} of ${counted(all.length, "event")}` : counted(all.length, "event");
    this.list.host.style.setProperty("--wanted", `${all.length * ROW_HEIGHT}px`);
    this.list.show(this.seqs);
    this.update();
  }

  /** Shows the present moment. */
  update() {
    const { seq } = this.page.moment;
    let at = this.page.words ? this.seqs.findLastIndex((one) => one <= seq) : seq;
    if (this.seqs[at] === undefined) at = -1;
    this.list.mark(at, { centred: true });
  }

  #says(seq) {
    const event = this.page.past.events[seq];
    const { task, words } = describeEvent(event);
    return `${seq} ${task} ${words} ${event.event}`.toLowerCase();
  }

  #row(seq) {
    const event = this.page.past.events[seq];
    const { sign, colour, task, words } = describeEvent(event);
    return {
      className: seq > this.page.moment.seq ? "future" : "",
      cells: [
        cell("seq", seq),
        cell("time", `+${span(event.at)}`),
        cell(`sign ${colour}`, sign, { "aria-hidden": "true" }),
        cell("task", cut(task, 80), { dir: "auto" }),
        cell("words", cut(words, 300), { dir: "auto" }),
      ],
    };
  }
}

/** The list of keys in the context at the moment. */
export class ContextView {
  constructor(page) {
    this.page = page;
    this.list = new VirtualList(byId("context"), {
      label: "Context",
      render: (key) => this.#row(key),
      choose: (key) => page.chooseKey(key),
      move: () => {},
    });
    this.texts = new Map();
  }

  /** Shows the present moment. */
  update() {
    const { past, moment, words } = this.page;
    let keys = [...moment.context.keys()].sort();
    const all = keys.length;
    // As high as for all keys that ever exist, so that panels below do not move while stepping.
    this.list.host.style.setProperty("--wanted", `${(past.keys.size + 1) * ROW_HEIGHT}px`);
    if (words) keys = keys.filter((key) => key.toLowerCase().includes(words));
    byId("context-count").textContent = keys.length === all ? counted(all, "key") : `${keys.length} of ${counted(all, "key")}`;
    this.list.show(keys);
    this.list.current = keys.indexOf(this.page.key);
  }

  #row(key) {
    const { past, moment } = this.page;
    const version = moment.context.get(key);
    const merged = typeof version.seen !== "number";
    const text = past.value(moment, key) ?? "";
    const writers = (merged ? version.seen.writes : [version.seen]).map((seq) => past.events[seq]?.body.task ?? "input");
    const isNew = version.since === moment.seq;
    const erased = text === ERASED;
    const notes = [isNew && "now", erased && "erased", merged && (version.seen.collided ? "collision" : "merged")].filter(Boolean).join(", ");
    return {
      className: isNew ? "new" : "",
      cells: [
        cell("key", cut(key, 80), { dir: "auto" }),
        cell("content", cut(text, 160), { dir: "auto" }),
        notes && cell(`note ${version.seen.collided ? "failed" : "value"}`, notes),
        cell("size", erased ? "" : size(text.length)),
        cell("by", cut(writers.length > 2 ? `${writers.length} tasks` : writers.join(" + "), 40), { dir: "auto" }),
      ],
    };
  }
}

/** The tasks whose state is one of `states`. */
export function tasksIn(moment, ...states) {
  return [...moment.tasks.keys()].filter((task) => states.includes(moment.state(task)));
}

/** The number of tasks in each state, as a line of chips. */
export function tally(moment) {
  const counts = new Map();
  for (const task of moment.tasks.keys()) {
    const state = moment.state(task);
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  const order = ["Failed", "WaitingRetry", "NotRunning", "Deferred", "Running", "Ready", "Pending", "Completed", "Skipped", "Cancelled"];
  return order.filter((state) => counts.has(state)).map((state) => {
    const { sign, word, colour } = appearance(state);
    const count = counts.get(state).toLocaleString("en");
    return element("span", { className: `chip ${colour}` }, element("span", { className: "sign", "aria-hidden": "true" }, sign), `${count} ${cleanLine(word)}`);
  });
}
