// The timeline: a bar for each attempt, in a lane for each task or each worker. Whatever is after the moment is faded.

import { colours, fitted, Picture, SIGNS, SMALL } from "./canvas.js";
import { cleanLine, element } from "./dom.js";
import { appearance, span, tick } from "./words.js";

const LANE = 22;
const AXIS = 24;
/** The free space after the end of the axis, in pixels. */
const END = 24;
/** The space below the lanes for the labels of marks. */
const MARK = 20;
/** How many names are measured for the width of the gutter. */
const MOST_MEASURED = 500;

/** The timeline in a scrolling element. */
export class TimelineView {
  /**
   * Made by `rebuild`.
   * @type {any[]}
   */
  lanes;
  /**
   * The width of the names, and of a microsecond of the axis, in pixels. Set by `#measure`.
   * @type {number}
   */
  gutter;
  /** @type {number} */
  perMicro;

  constructor(host, page) {
    this.page = page;
    this.host = host;
    this.by = "task";
    this.zoom = 1;
    this.hits = [];
    this.drawn = 0;
    this.cursor = 0;
    this.stage = element("div", { className: "stage" });
    this.room = element("div", { className: "room" });
    host.append(this.stage, this.room);
    this.picture = new Picture(this.stage, (context, width, height) => this.#draw(context, width, height));
    this.resize = new ResizeObserver(() => this.#measure());
    this.resize.observe(host);
    host.tabIndex = 0;
    host.setAttribute("role", "img");
    host.addEventListener("scroll", () => this.picture.redraw());
    host.addEventListener("click", (event) => this.#click(event));
    host.addEventListener("pointermove", (event) => this.#hover(event));
    host.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    const lanes = element("button", { title: "A lane for each task, or for each worker", onclick: () => this.#turn(lanes) }, "By task");
    host.parentElement.querySelector(".tools").append(
      element("button", { title: "Shorter", "aria-label": "Zoom out", onclick: () => this.#zoom(1 / 1.6) }, "−"),
      element("button", { title: "Longer", "aria-label": "Zoom in", onclick: () => this.#zoom(1.6) }, "+"),
      lanes,
    );
  }

  /** Rebuilds the lanes after the events or the filter have changed. */
  rebuild() {
    const { past } = this.page;
    this.lanes = this.by === "task" ? lanesByTask(past, this.page.filter) : lanesByWorker(past, this.page.filter);
    this.laneOf = new Map(this.lanes.map((lane, at) => [lane.name, at]));
    const attempts = this.lanes.reduce((count, lane) => count + lane.attempts.length, 0);
    this.host.setAttribute("aria-label", `Timeline: ${attempts} attempts in ${this.lanes.length} lanes. The list of events has the same information as text.`);
    this.#measure();
  }

  /** Shows the present moment and the lane of its event. For a failed execution's end, the lane of the first failure. */
  update() {
    const { past, moment } = this.page;
    const at = past.events[moment.seq];
    const task = at?.body?.task;
    this.#reveal(at?.event === "ExecutionFailed" ? past.failuresAt(moment.seq)[0] : { task, worker: past.attemptAt(moment.seq)?.worker });
  }

  /** Extends the axis to the present time. */
  grow() {
    this.#measure();
  }

  /** Shows the present selection. */
  selectionChanged() {
    const { past, moment, task } = this.page;
    this.#reveal({ task, worker: past.attemptAt(moment.seq)?.worker });
  }

  /** @param {{ task?: string, worker?: string }} [of] */
  #reveal({ task, worker } = {}) {
    const at = this.laneOf?.get(this.by === "task" ? task : worker);
    if (at !== undefined) {
      const [top, high] = [at * LANE, this.host.clientHeight - AXIS];
      if (top < this.host.scrollTop || top + LANE > this.host.scrollTop + high) this.host.scrollTop = top - high / 2;
    }
    this.picture.redraw();
  }

  #measure() {
    if (!this.lanes) return;
    const { clientWidth, clientHeight } = this.host;
    this.stage.style.width = `${clientWidth}px`;
    this.stage.style.height = `${clientHeight}px`;
    this.gutter = this.#gutter(clientWidth);
    const length = (clientWidth - this.gutter - END) * this.zoom;
    const wanted = this.lanes.length * LANE + AXIS + (this.page.past.marks.length > 0 ? MARK : 8);
    this.host.style.setProperty("--wanted", `${wanted}px`);
    this.room.style.width = `${this.gutter + length + END}px`;
    this.room.style.height = `${Math.max(0, wanted - clientHeight)}px`;
    const { past } = this.page;
    /** The end of the time axis, in microseconds after the start. */
    this.until = Math.max(past.end - past.start, this.page.now(), 1);
    this.perMicro = length / this.until;
    this.picture.redraw();
  }

  /** The width of the names: that of the longest one, if that leaves enough space for the bars. */
  #gutter(width) {
    const { context } = this.picture;
    context.font = SMALL;
    const longest = this.lanes.slice(0, MOST_MEASURED).reduce((most, lane) => Math.max(most, context.measureText(lane.title).width), 0);
    return Math.min(longest + 42, Math.max(90, width * 0.36));
  }

  #zoom(factor, at = this.host.clientWidth / 2) {
    const time = (this.host.scrollLeft + at - this.gutter) / this.perMicro;
    this.zoom = Math.min(2_000, Math.max(1, this.zoom * factor));
    this.#measure();
    this.host.scrollLeft = time * this.perMicro + this.gutter - at;
  }

  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.#zoom(Math.exp(-event.deltaY / 300), event.clientX - this.host.getBoundingClientRect().left);
  }

  #turn(button) {
    this.by = this.by === "task" ? "worker" : "task";
    button.textContent = this.by === "task" ? "By task" : "By worker";
    this.rebuild();
  }

  #hit(event) {
    const box = this.host.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (y < AXIS) return { time: this.#time(x) };
    const found = this.hits.find((hit) => x >= hit.x - 1 && x <= hit.x + hit.wide + 1 && y >= hit.y && y <= hit.y + LANE);
    const lane = this.lanes[Math.floor((y - AXIS + this.host.scrollTop) / LANE)];
    return { attempt: found?.attempt, lane, time: x > this.gutter ? this.#time(x) : undefined };
  }

  #time(x) {
    return (x + this.host.scrollLeft - this.gutter) / this.perMicro;
  }

  #click(event) {
    const { attempt, lane, time } = this.#hit(event);
    if (attempt) this.page.choose(attempt.task);
    else if (time === undefined && this.by === "task" && lane) this.page.choose(lane.name);
    else if (time !== undefined) this.page.goToTime(time);
  }

  #hover(event) {
    const { attempt } = this.#hit(event);
    this.host.title = attempt ? describe(attempt) : "";
    this.host.classList.toggle("over", attempt !== undefined);
  }

  #draw(context, width, height) {
    if (!this.lanes) return;
    const palette = colours();
    const { past, moment } = this.page;
    const { scrollLeft, scrollTop } = this.host;
    const now = this.#now();
    const x = (time) => this.gutter + time * this.perMicro - scrollLeft;
    const from = Math.max(0, Math.floor(scrollTop / LANE));
    const to = Math.min(this.lanes.length, Math.ceil((scrollTop + height - AXIS) / LANE));
    this.hits = [];
    this.drawn = 0;
    context.textBaseline = "middle";
    context.save();
    context.beginPath();
    context.rect(this.gutter, 0, width - this.gutter, height);
    context.clip();
    this.#grid(context, palette, x, width, height, now);
    for (let lane = from; lane < to; lane += 1) {
      const y = AXIS + lane * LANE - scrollTop;
      const { name } = this.lanes[lane];
      const tint = this.by !== "task" ? undefined : name === this.page.task ? palette.accent : moment.state(name) === "Failed" ? palette.failed : undefined;
      if (tint) {
        context.fillStyle = tint;
        context.globalAlpha = 0.1;
        context.fillRect(this.gutter, y, width, LANE);
        context.globalAlpha = 1;
      }
      let drawnTo = -Infinity;
      for (const attempt of this.lanes[lane].attempts) {
        const right = x(attempt.ended ?? this.until);
        // Skip bars that an earlier one covers.
        if (right < this.gutter - 50 || x(attempt.started) > width || (right < drawnTo && attempt.outcome === "Completed")) continue;
        drawnTo = this.#bar(context, palette, attempt, x, y, moment.seq, now);
      }
    }
    this.#marks(context, palette, x, height, moment.seq);
    context.strokeStyle = palette.accent;
    context.lineWidth = 1.5;
    this.cursor = x(now);
    line(context, this.cursor, 0, this.cursor, height);
    context.restore();
    this.#names(context, palette, from, to, scrollTop);
  }

  /** The position of the moment on the axis: the time of its event, or the present at the end of a running execution. */
  #now() {
    const { past, moment, live } = this.page;
    const isNow = live?.isLive && past.isOpen && moment.seq === past.last;
    return isNow ? this.until : (past.events[moment.seq]?.at ?? 0);
  }

  #bar(context, palette, attempt, x, y, seq, now) {
    const ended = attempt.endSeq !== undefined && attempt.endSeq <= seq;
    const begun = attempt.startSeq <= seq;
    const state = appearance(ended || (!begun && attempt.outcome !== "Running") ? attempt.outcome : this.page.past.openState(seq));
    // Short bars have a minimum width, and none extends beyond the end of the axis.
    const [end, until] = [x(this.until), attempt.ended ?? this.until];
    const left = Math.min(x(attempt.started), end - 3);
    const wide = Math.max(3, x(until) - left);
    this.drawn += 1;
    this.hits.push({ x: left, wide, y, attempt });
    context.fillStyle = palette[state.colour];
    context.globalAlpha = begun ? (ended ? 0.85 : 1) : 0.16;
    const solid = begun && !ended ? Math.min(wide, Math.max(3, x(Math.min(until, now)) - left)) : wide;
    context.beginPath();
    context.roundRect(left, y + 4, solid, LANE - 8, Math.min(3, solid / 2));
    context.fill();
    if (solid < wide) {
      context.globalAlpha = 0.16;
      context.fillRect(left + solid, y + 4, wide - solid, LANE - 8);
    }
    if (attempt.retryAt !== undefined && ended) {
      context.globalAlpha = 0.6;
      context.strokeStyle = palette.retry;
      context.lineWidth = 1;
      context.setLineDash([2, 3]);
      line(context, left + wide, y + LANE / 2, Math.min(x(attempt.retryAt), end), y + LANE / 2);
      context.setLineDash([]);
    }
    context.globalAlpha = begun ? 1 : 0.3;
    if (wide > 18) {
      context.fillStyle = palette.surface;
      context.font = SIGNS;
      context.textAlign = "left";
      context.fillText(state.sign, left + 5, y + LANE / 2 + 0.5);
      if (wide > 60) {
        context.font = SMALL;
        const words = this.#says(attempt);
        // Names may be cut, but not numbers: half a number would be wrong.
        if (this.by !== "task" || context.measureText(words).width <= wide - 24) context.fillText(fitted(context, words, wide - 24), left + 20, y + LANE / 2 + 0.5);
      }
    } else if (state.colour === "failed" || state.colour === "abandoned") {
      context.fillStyle = palette[state.colour];
      context.font = SIGNS;
      // Right of the bar, or left of it at the end of the axis.
      const before = left + wide + 14 > end;
      context.textAlign = before ? "right" : "left";
      context.fillText(state.sign, before ? left - 2 : left + wide + 2, y + LANE / 2 + 0.5);
    }
    context.globalAlpha = 1;
    return left + wide;
  }

  #says(attempt) {
    const took = attempt.ended === undefined ? "" : span(attempt.ended - attempt.started);
    return this.by === "task" ? took : `${cleanLine(attempt.task).slice(0, 80)}  ${took}`;
  }

  #grid(context, palette, x, width, height, now) {
    const visible = (width - this.gutter) / this.perMicro;
    const step = niceStep(visible / Math.max(3, (width - this.gutter) / 110));
    context.font = SMALL;
    context.textAlign = "left";
    context.lineWidth = 1;
    const first = Math.floor(this.#time(this.gutter) / step) * step;
    for (let time = Math.max(0, first); x(time) < width - 4; time += step) {
      context.strokeStyle = palette.line;
      context.globalAlpha = 0.6;
      line(context, x(time), AXIS - 6, x(time), height);
      context.globalAlpha = 1;
      context.fillStyle = palette.muted;
      // No label at the edge, where it would be cut, and none under the line of the moment.
      const [left, right] = [x(time), x(time) + 50];
      if (right > width || (x(now) > left + 1 && x(now) < right)) continue;
      context.fillText(time === 0 ? "0" : `+${tick(Math.round(time)).replace(/\.0+(?= )/, "")}`, x(time) + 4, AXIS / 2);
    }
  }

  #marks(context, palette, x, height, seq) {
    context.font = SMALL;
    context.textAlign = "left";
    for (const mark of this.page.past.marks) {
      context.globalAlpha = mark.seq <= seq ? 1 : 0.35;
      context.strokeStyle = palette.abandoned;
      context.fillStyle = palette.abandoned;
      context.setLineDash([5, 4]);
      line(context, x(mark.at), AXIS, x(mark.at), height);
      context.setLineDash([]);
      const words = { ExecutionRecovered: "recovered", ExecutionRetried: "retried", ExecutionPaused: "paused", ExecutionUnpaused: "unpaused" }[mark.event];
      const room = this.picture.width - x(mark.at);
      context.textAlign = room < 70 ? "right" : "left";
      context.fillText(words, x(mark.at) + (room < 70 ? -4 : 4), height - 8);
    }
    context.globalAlpha = 1;
  }

  #names(context, palette, from, to, scrollTop) {
    context.save();
    context.beginPath();
    context.rect(0, AXIS, this.gutter, this.picture.height);
    context.clip();
    context.textAlign = "left";
    for (let at = from; at < to; at += 1) {
      const lane = this.lanes[at];
      const y = AXIS + at * LANE - scrollTop + LANE / 2;
      const isTask = this.by === "task";
      const state = appearance(isTask ? this.page.moment.state(lane.name) : "Running");
      if (isTask) {
        context.font = SIGNS;
        context.fillStyle = palette[state.colour];
        context.fillText(state.sign, 10, y + 0.5);
      }
      context.font = SMALL;
      context.fillStyle = lane.name === this.page.task ? palette.accent : palette.text;
      context.fillText(fitted(context, lane.title, this.gutter - 36), isTask ? 27 : 12, y + 0.5);
    }
    context.restore();
  }
}

function line(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

/** The smallest step of at least `least`: 1, 2, 5, 10, 20, 50 ... microseconds; from a minute on, minutes and hours. */
function niceStep(least) {
  const steps = [60e6, 120e6, 300e6, 600e6, 1800e6, 3600e6, 7200e6, 21_600e6, 86_400e6];
  if (least > 30e6) return steps.find((step) => step >= least) ?? Math.ceil(least / 86_400e6) * 86_400e6;
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return ([1, 2, 5].find((factor) => factor * power >= least) ?? 10) * power;
}

function lanesByTask(past, filter) {
  const started = [...past.attempts].filter(([task]) => !filter || filter(task));
  return started.map(([task, attempts]) => ({ name: task, title: cleanLine(task).slice(0, 200), attempts }));
}

function lanesByWorker(past, filter) {
  const lanes = new Map();
  for (const attempts of past.attempts.values()) {
    for (const attempt of attempts) {
      if (filter && !filter(attempt.task)) continue;
      if (!lanes.has(attempt.worker)) lanes.set(attempt.worker, []);
      lanes.get(attempt.worker).push(attempt);
    }
  }
  const sorted = [...lanes].sort(([one], [other]) => one - other);
  return sorted.map(([worker, attempts]) => {
    attempts.sort((one, other) => one.startSeq - other.startSeq);
    return { name: worker, title: `worker ${worker}`, attempts };
  });
}

function describe(attempt) {
  const took = attempt.ended === undefined ? "" : ` after ${span(attempt.ended - attempt.started)}`;
  return `${cleanLine(attempt.task).slice(0, 200)}, attempt ${attempt.number}: ${appearance(attempt.outcome).word}${took} (worker ${attempt.worker})`;
}
