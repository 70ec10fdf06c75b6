// Words and signs for states and events, the same words as in the terminal. Every state has a sign, so that colour is never
// the only distinction.

import { cut } from "./dom.js";

/** For each state: its sign, the word for it, and the name of its colour. */
export const STATES = {
  Pending: { sign: "○", word: "waiting", colour: "pending" },
  Ready: { sign: "◎", word: "ready", colour: "ready" },
  Running: { sign: "▶", word: "running", colour: "running" },
  WaitingRetry: { sign: "↻", word: "waits for its next attempt", colour: "retry" },
  Completed: { sign: "✓", word: "completed", colour: "completed" },
  Failed: { sign: "✕", word: "failed", colour: "failed" },
  Skipped: { sign: "»", word: "skipped", colour: "skipped" },
  Cancelled: { sign: "⊘", word: "cancelled", colour: "cancelled" },
  Paused: { sign: "‖", word: "paused", colour: "retry" },
  Abandoned: { sign: "†", word: "abandoned", colour: "abandoned" },
  Waiting: { sign: "◷", word: "waiting for a time", colour: "waiting" },
  Deferred: { sign: "◷", word: "deferred", colour: "waiting" },
  Blocked: { sign: "■", word: "blocked", colour: "retry" },
  Damaged: { sign: "!", word: "damaged", colour: "failed" },
  NotRunning: { sign: "◌", word: "not running", colour: "abandoned" },
  unknown: { sign: "?", word: "unknown", colour: "pending" },
};

/** The sign, word and colour of a state. A state that this page does not know is shown by its name. */
export function appearance(state) {
  return STATES[state] ?? { ...STATES.unknown, word: spaced(state ?? "unknown").toLowerCase() };
}

/** A status as text: `NotRunning` is "Not running". */
export function statusWord(status) {
  const words = spaced(status).toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function spaced(name) {
  return String(name).replace(/(?<=\p{Ll})(?=\p{Lu})|_/gu, " ");
}

/** Whether an execution with this status has ended. */
export function isFinal(status) {
  return ["Completed", "Failed", "Cancelled"].includes(status);
}

/** A document's time (RFC 3339, to the microsecond) as microseconds since 1970. */
export function micros(time) {
  if (time.endsWith(" us")) return Number(time.slice(0, -3));
  const [seconds, fraction = "0Z"] = time.split(".");
  const whole = Date.parse(fraction === "0Z" ? time : `${seconds}Z`);
  return whole * 1000 + Number(fraction.slice(0, -1).padEnd(6, "0").slice(0, 6));
}

/** A duration in microseconds as text, the same as `words::span` of the terminal: 0.012 s, 3.42 s, 2 min 05 s, 3 h 12 min. */
export function span(us) {
  const rounded = (unit) => Math.round(us / unit);
  const two = (number) => String(number).padStart(2, "0");
  if (rounded(1e3) < 100) return `${(rounded(1e3) / 1e3).toFixed(3)} s`;
  if (rounded(1e4) < 10_000) return `${(rounded(1e4) / 100).toFixed(2)} s`;
  const [seconds, minutes, hours] = [rounded(1e6), rounded(6e7), rounded(3.6e9)];
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  if (minutes < 2 * 24 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The label of a tick on a time axis, in a unit that distinguishes it from its neighbours. */
export function tick(us) {
  if (us === 0) return "0";
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 999_500) return us < 9_995 ? `${(us / 1000).toFixed(1)} ms` : `${Math.round(us / 1000)} ms`;
  const seconds = us / 1e6;
  if (seconds < 59.995) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return both(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return both(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return both(Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3600), "h");
}

function both(large, name, small, smaller) {
  return small === 0 ? `${large} ${name}` : `${large} ${name} ${small} ${smaller}`;
}

/** A number of bytes as text. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 999_500) return `${(bytes / 1000).toFixed(bytes < 9_950 ? 1 : 0)} KB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** A number with its noun: "1 event", "2 events". */
export function counted(number, noun, plural = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

/** The last eight digits of an id, as people type it. */
export function shortId(id) {
  return id.replaceAll("-", "").slice(-8);
}

/** A date and time in the reader's time zone, always of the same width. */
export function dayTime(us) {
  const date = new Date(us / 1000);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

const ABANDONED = { process_died: "its process died", shutdown: "its engine was shut down" };
const SETTLED = {
  completed: "completed",
  failed: "failed",
  skipped: "was skipped",
  skipped_by_failure: "was skipped by failure",
};

const isFailure = ({ settled }) => settled === "failed" || settled === "skipped_by_failure";

/** How a task was skipped: by its own rule, or by failure. */
export function skipped(why) {
  return why.failure ? "skipped by failure" : "skipped";
}

/** Why a task was skipped, failures first. */
export function skipReason(why) {
  const tasks = [...why.tasks].sort((one, other) => Number(isFailure(other)) - Number(isFailure(one)));
  const says = tasks.slice(0, 3).map(({ task, settled }) => `${task} ${SETTLED[settled]}`);
  if (why.tasks.length > 3) says.push(`${why.tasks.length - 3} more`);
  if (says.length === 0) return `${why.rule} does not hold`;
  return why.rule === "none_failed" ? says.join(", ") : `${says.join(", ")}; ${why.rule} does not hold`;
}

/** The cause of an execution. */
export function causeWords(cause) {
  switch (cause?.kind) {
    case "schedule":
      return `schedule …${shortId(cause.schedule)}`;
    case "trigger":
      return `trigger ${cause.name}`;
    case "fork":
      return `fork of …${shortId(cause.execution)} at seq ${cause.seq}`;
    case "parent":
      return `task ${cause.task} of …${shortId(cause.execution)}`;
    case undefined:
      return "";
    case "call":
      return "call";
    default:
      return spaced(cause.kind);
  }
}

function nth(attempt) {
  return attempt > 1 ? `, attempt ${attempt}` : "";
}

function request(what, body) {
  return `${what} by ${body.by}${body.reason ? `: ${body.reason}` : ""}`;
}

/** The description of an event for one line: sign, word and colour, the task, and the text. */
export function describeEvent({ event, body, erased }) {
  const about = (state, task, words) => ({ ...appearance(state), task, words });
  switch (event) {
    case "ExecutionStarted":
      return about("Running", "", `started by ${causeWords(body.cause)}`);
    case "ContextWritten":
      return { sign: "+", colour: "value", task: body.task ?? "", words: `${body.task ? "wrote" : "input"} ${cut(body.key, 80)}${erased ? ` (erased by ${erased.by})` : ""}` };
    case "ContextRemoved":
      return { sign: "−", colour: "value", task: body.task ?? "", words: `removed ${cut(body.key, 80)}` };
    case "TaskStarted":
      return about("Running", body.task, `started${nth(body.attempt)}`);
    case "TaskCompleted":
      return about("Completed", body.task, `completed${nth(body.attempt)}`);
    case "TaskFailed": {
      const after = body.retry_at ? "will be tried again" : "failed";
      const words = `${body.retry_at ? "attempt failed" : after}: ${body.error.kind}${nth(body.attempt)}`;
      return about(body.retry_at ? "WaitingRetry" : "Failed", body.task, words);
    }
    case "TaskSkipped":
      return about("Skipped", body.task, `${skipped(body.why)}: ${skipReason(body.why)}`);
    case "TaskAbandoned":
      return about("Abandoned", body.task, `abandoned: ${ABANDONED[body.why] ?? body.why}${nth(body.attempt)}`);
    case "TaskDeferred":
      return about("Deferred", body.task, `waits without a slot${nth(body.attempt)}`);
    case "TaskResumed":
      return about("Running", body.task, `resumed${nth(body.attempt)}`);
    case "ExecutionPaused":
      return about("Paused", "", request("paused", body));
    case "ExecutionUnpaused":
      return about("Running", "", request("unpaused", body));
    case "CancelRequested":
      return about("Cancelled", "", request("cancel requested", body));
    case "ExecutionRecovered":
      return about("Running", "", `recovered by pid ${body.environment.pid} on ${body.environment.host || "?"}`);
    case "ExecutionRetried":
      return about("Running", "", request("retried", body));
    case "ExecutionCompleted":
      return about("Completed", "", "completed");
    case "ExecutionFailed":
      return about("Failed", "", `failed${body.reason ? `: ${body.reason}` : ""}`);
    case "ExecutionCancelled":
      // Usually the reason is complete: "cancelled by ann: wrong day".
      return about("Cancelled", "", body.reason?.startsWith("cancelled") ? body.reason : `cancelled${body.reason ? `: ${body.reason}` : ""}`);
    default:
      return { sign: "×", colour: "pending", task: "", words: event ? event : "the body of this event was erased" };
  }
}
