// The history of an execution, and one moment of it.
//
// The report's frames contain the changes of each event to tasks and context, computed by the engine's own fold. A moment is
// the sum of frames: this code applies and reverts them, and has no rules of its own.

import { elementsOf, membersOf, textAt } from "./raw.js";
import { isFinal, micros } from "./words.js";

/** The placeholder for an erased value. */
export const ERASED = "(erased)";

/** The history of an execution, parsed from its documents. */
export class Past {
  constructor(historyText, reportText) {
    const history = JSON.parse(historyText);
    const report = JSON.parse(reportText);
    this.execution = history.execution;
    this.trouble = history.trouble;
    this.verification = report.verification;
    this.made = report.made;
    this.rows = new Map(history.tasks.map((row) => [row.task, row]));
    /** The task whose failure came first, if known. */
    this.firstFailure = history.first_failure;
    this.collisions = history.collisions;
    this.definitions = new Map(history.definitions.map((definition) => [definition.fingerprint, definition]));
    this.layouts = new Map(report.layouts.map((layout) => [layout.definition, layout]));
    this.events = [];
    this.frames = [];
    /** For each event and frame, the text that contains it, and its position there. */
    this.eventTexts = [];
    this.frameTexts = [];
    /** For each task, its attempts, in order. */
    this.attempts = new Map();
    /** For each task, the `seq`s of its events. */
    this.eventsOf = new Map();
    /** The state of each task at the end, as far as the events can be folded. */
    this.finalStates = new Map();
    /** Events of the whole execution to mark in the timeline: recoveries, retries, pauses. */
    this.marks = [];
    /** All keys that the context has at any moment. */
    this.keys = new Set();
    this.start = history.events.length ? micros(history.events[0].time) : 0;
    this.end = this.start;
    this.add(historyText, history.events, reportText, report.frames);
  }

  /** Adds events and their frames. The texts contain them as members `events` and `frames`. */
  add(eventsText, events, framesText, frames) {
    const places = (text, name) => elementsOf(text, membersOf(text, text.indexOf("{")).get(name)[0]);
    this.eventTexts.push(...places(eventsText, "events").map((place) => [eventsText, place]));
    this.frameTexts.push(...places(framesText, "frames").map((place) => [framesText, place]));
    for (const event of events) this.#addEvent(event);
    for (const frame of frames) {
      this.frames.push(frame);
      for (const key of Object.keys(frame.context ?? {})) this.keys.add(key);
      if (frame.definition) this.finalStates.clear();
      for (const [task, [state]] of Object.entries(frame.tasks ?? {})) this.finalStates.set(task, state);
    }
  }

  #addEvent(event) {
    event.at = micros(event.time) - this.start;
    this.end = this.start + event.at;
    const { seq, body } = event;
    this.events.push(event);
    if (!body) return;
    if (body.task) {
      if (!this.eventsOf.has(body.task)) this.eventsOf.set(body.task, []);
      this.eventsOf.get(body.task).push(seq);
    }
    const last = this.attempts.get(body.task)?.at(-1);
    const end = (attempt, outcome) => attempt && Object.assign(attempt, { ended: event.at, endSeq: seq, outcome });
    switch (event.event) {
      case "TaskStarted":
        if (!this.attempts.has(body.task)) this.attempts.set(body.task, []);
        this.attempts.get(body.task).push({
          task: body.task,
          number: body.attempt,
          worker: body.worker,
          started: event.at,
          startSeq: seq,
          writes: [],
          outcome: "Running",
        });
        break;
      case "ContextWritten":
      case "ContextRemoved":
        if (body.task) last?.writes.push(seq);
        break;
      case "TaskCompleted":
        end(last, "Completed");
        break;
      case "TaskFailed":
        end(last, "Failed");
        last.retryAt = body.retry_at ? micros(body.retry_at) - this.start : undefined;
        break;
      case "TaskAbandoned":
        end(last, "Abandoned");
        break;
      case "TaskDeferred":
        if (last) last.deferred = true;
        break;
      case "TaskResumed":
        if (last) last.deferred = false;
        break;
      case "ExecutionFailed":
      case "ExecutionCancelled":
        for (const attempts of this.attempts.values()) {
          if (attempts.at(-1).outcome === "Running") end(attempts.at(-1), "Cancelled");
        }
        break;
      case "ExecutionRecovered":
      case "ExecutionRetried":
      case "ExecutionPaused":
      case "ExecutionUnpaused":
        this.marks.push({ at: event.at, seq, event: event.event });
        break;
    }
  }

  /** The last event. */
  get last() {
    return this.events.length - 1;
  }

  /** The failed attempts after which their tasks did not run again, in the order in which they ended. */
  get failures() {
    return this.failuresAt(this.last).filter(({ task }) => (this.finalStates.get(task) ?? "Failed") === "Failed");
  }

  /** The last attempts of the tasks that had failed for good at an event, in the order in which they ended. */
  failuresAt(seq) {
    const last = [...this.attempts.values()].map((attempts) => attempts.findLast((attempt) => attempt.startSeq <= seq));
    const failed = last.filter((attempt) => attempt?.outcome === "Failed" && attempt.retryAt === undefined && attempt.endSeq <= seq);
    return failed.sort((one, other) => one.endSeq - other.endSeq);
  }

  /** Whether more events can follow. */
  get isOpen() {
    return !isFinal(this.execution.status);
  }

  /** The state of an attempt that has not ended by a moment: not running, at the end of an execution that nothing runs. */
  openState(seq) {
    const isLeft = ["NotRunning", "Blocked", "Damaged"].includes(this.execution.status);
    return isLeft && seq >= this.last ? "NotRunning" : "Running";
  }

  /** The execution's definition at a moment. */
  definition(moment) {
    return this.definitions.get(moment.definition) ?? this.definitions.values().next().value;
  }

  /** The definition of a task at a moment. */
  task(moment, name) {
    return this.definition(moment)?.tasks.find((task) => task.id === name);
  }

  /** The text of the value that an event wrote. For an erased one, a placeholder that is not JSON. */
  written(seq) {
    if (this.events[seq].erased) return ERASED;
    const [text, [begin, end]] = this.eventTexts[seq];
    return textAt(text.slice(begin, end), ["body", "value"]);
  }

  /** The text of a value that was merged from several writes, from the frame of an event. */
  merged(seq, key) {
    if (this.frames[seq].context[key].erased) return ERASED;
    const [text, [begin, end]] = this.frameTexts[seq];
    return textAt(text.slice(begin, end), ["context", key, "value"]);
  }

  /** The text of a key's visible value at a moment. */
  value(moment, key) {
    const seen = moment.context.get(key);
    if (seen === undefined) return undefined;
    return typeof seen.seen === "number" ? this.written(seen.seen) : this.merged(seen.since, key);
  }

  /** The attempt that an event belongs to. */
  attemptAt(seq) {
    const body = this.events[seq]?.body;
    return this.attempts.get(body?.task)?.find((attempt) => attempt.number === body.attempt);
  }

  /** The reads of an attempt, if it has ended. */
  reads(attempt) {
    return attempt?.endSeq === undefined ? undefined : this.events[attempt.endSeq].body.reads;
  }

  /**
   * The origin of a key's value at a moment: its writes, the reads of their writers, and so on back to the input. Returns the
   * same steps as `replay ID why KEY --at SEQ`.
   */
  why(moment, key) {
    const root = moment.context.get(key);
    if (root === undefined) return [];
    const roots =
      typeof root.seen === "number"
        ? [{ how: "asked", seq: root.seen }]
        : root.seen.writes.map((seq) => ({ how: root.seen.collided ? "collided" : "merged", seq }));
    const steps = [];
    const toldAt = new Set();
    const open = roots.reverse().map((step) => ({ depth: 0, key, ...step }));
    while (open.length > 0) {
      const step = open.pop();
      if (step.seq === undefined) {
        steps.push(step);
        continue;
      }
      const { task, attempt } = this.events[step.seq].body;
      const reads = task === null ? undefined : this.#readsOf(moment, task, attempt);
      const again = toldAt.has(step.seq);
      toldAt.add(step.seq);
      steps.push({ ...step, task, attempt, toldBefore: again, readAll: reads?.all ?? false });
      if (again || !reads) continue;
      const seen = reads.keys.flatMap((read) => stepsOf(read).map((one) => ({ depth: step.depth + 1, key: read.key, ...one })));
      open.push(...seen.reverse());
    }
    return steps;
  }

  #readsOf(moment, task, number) {
    const attempt = this.attempts.get(task)?.find((one) => one.number === number);
    const completed = attempt?.outcome === "Completed" && attempt.endSeq <= moment.seq;
    return completed ? this.events[attempt.endSeq].body.reads : undefined;
  }
}

function stepsOf(read) {
  const how = { write: "read", merged: "merged", undeclared: "undeclared" }[read.seen];
  return how ? read.seqs.map((seq) => ({ how, seq })) : [{ how: "not_there", seq: undefined }];
}

/** The state of an execution after one event. */
export class Moment {
  constructor(past) {
    this.past = past;
    /** The event of the moment, and the last one whose frame is applied. They differ if later events cannot be folded. */
    this.seq = -1;
    this.folded = -1;
    this.status = "unknown";
    this.definition = undefined;
    /** The state of each task: `{ state, attempts, ready }`. */
    this.tasks = new Map();
    /** The visible version of each key: `{ seen, since }`, where `since` is the event that made it visible. */
    this.context = new Map();
    /** How many frames the last move applied or reverted: its cost. */
    this.cost = 0;
    this.before = [];
  }

  /** Moves to the moment after an event. */
  go(seq) {
    this.cost = 0;
    const until = Math.min(seq, this.past.frames.length - 1);
    while (this.folded < until) this.#add(this.past.frames[(this.folded += 1)]);
    while (this.folded > until) this.#takeBack(this.folded--);
    this.seq = seq;
    return this;
  }

  /** The state of a task, a key of `STATES`. */
  state(task) {
    const known = this.tasks.get(task);
    if (!known) return "unknown";
    if (known.state === "Running") return this.past.openState(this.seq);
    return known.ready && known.state === "Pending" ? "Ready" : known.state;
  }

  #add(frame) {
    this.cost += 1;
    /** @type {{ status: string, definition: string, tasks: [string, any][], context: [string, any][] }} */
    const before = { status: this.status, definition: this.definition, tasks: [], context: [] };
    if (frame.status) this.status = frame.status;
    if (frame.definition) {
      this.definition = frame.definition;
      // The frame contains all tasks of the new definition; others are removed.
      before.tasks = [...this.tasks].filter(([task]) => !frame.tasks || !Object.hasOwn(frame.tasks, task));
      before.tasks.forEach(([task]) => this.tasks.delete(task));
    }
    for (const [task, [state, attempts, ready]] of Object.entries(frame.tasks ?? {})) {
      before.tasks.push([task, this.tasks.get(task)]);
      this.tasks.set(task, { state, attempts, ready });
    }
    for (const [key, seen] of Object.entries(frame.context ?? {})) {
      before.context.push([key, this.context.get(key)]);
      if (seen === null) this.context.delete(key);
      else this.context.set(key, { seen, since: frame.seq });
    }
    this.before[frame.seq] = before;
  }

  #takeBack(seq) {
    this.cost += 1;
    const { status, definition, tasks, context } = this.before[seq];
    Object.assign(this, { status, definition });
    const restore = (map) => ([name, old]) => (old === undefined ? map.delete(name) : map.set(name, old));
    tasks.forEach(restore(this.tasks));
    context.forEach(restore(this.context));
  }
}
