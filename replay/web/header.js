// The header: workflow, status and facts of the execution, the result of its verification, and why it failed.

import { forgetColours } from "./canvas.js";
import { byId, clean, cleanLine, cut, element } from "./dom.js";
import { tally } from "./lists.js";
import { counted, dayTime, appearance, micros, shortId, size, span, statusWord } from "./words.js";

const THEMES = ["auto", "light", "dark"];
const KEYS = [
  ["← →", "previous, next event"],
  ["Shift + ← →", "previous, next event of another task"],
  ["Home, End", "first, last event"],
  ["Space", "play through the events, or stop"],
  ["n, p", "next, previous failure"],
  ["/", "filter events, keys and tasks"],
  ["g, l, e, c", "focus graph, timeline, events, context"],
  ["arrows, in the graph", "move between tasks"],
  ["↑ ↓ Enter, in a list", "move, choose"],
  ["w", "why: origin of the key that was written last"],
  ["Esc", "close, clear"],
  ["t", "theme: system, light, dark"],
  ["?", "this help"],
];

/** The header of the page for one execution. */
export class Header {
  constructor(page) {
    this.page = page;
  }

  /** Shows the facts about the whole execution. */
  rebuild() {
    const { past, log } = this.page;
    const { execution } = past;
    const state = appearance(execution.status);
    const started = micros(execution.started);
    document.title = `${cleanLine(execution.workflow ?? "execution").slice(0, 80)} …${shortId(execution.id)} · replay`;
    byId("workflow").replaceChildren(element("bdi", {}, cut(execution.workflow ?? "unknown workflow", 120)));
    byId("status").className = `badge ${state.colour}`;
    const took = execution.duration_us !== null ? ` after ${span(execution.duration_us)}` : execution.status === "Running" ? ` for ${span(this.page.now())}` : "";
    byId("status").replaceChildren(element("span", { className: "sign", "aria-hidden": "true" }, state.sign), ` ${statusWord(execution.status)}${took}`);
    const id = element("button", { className: "link id", title: `Copy ${execution.id}`, onclick: () => navigator.clipboard?.writeText(execution.id) }, `…${shortId(execution.id)}`);
    byId("facts").replaceChildren(
      ...(log ? [element("a", { href: log }, "← all executions")] : []),
      id,
      fact(`v${(execution.version ?? "?").replace(/^v/, "")}`),
      fact(dayTime(started)),
      fact(counted(execution.events, "event")),
      fact(size(execution.bytes)),
      ...(execution.recoveries ? [fact(`recovered ${counted(execution.recoveries, "time")}`, "abandoned")] : []),
      ...(execution.retries ? [fact(`retried ${counted(execution.retries, "time")}`, "retry")] : []),
      this.#verdict(),
      fact(`read from ${cut(execution.log, 80)}`, "muted"),
    );
    this.#banner();
  }

  /** Shows the present moment. */
  update() {
    byId("tally").replaceChildren(...tally(this.page.moment));
  }

  #verdict() {
    const { verification } = this.page.past;
    if (!verification) return fact("not verified", "muted");
    const erased = verification.verdicts.filter((verdict) => verdict.verdict === "body erased").length;
    if (verification.ok) return fact(`✓ chain ok${erased ? `, ${counted(erased, "body", "bodies")} erased` : ""}`, "completed");
    const says = verification.verdicts.map((verdict) => verdict.says).join("\n");
    return element("span", { className: "fact failed", title: clean(says) }, `✕ ${cut(verification.verdicts[0]?.says ?? "damaged", 160)}`);
  }

  /** Shows why the execution failed or does not continue, and what to do. */
  #banner() {
    const { page } = this;
    const { past } = page;
    const banner = byId("banner");
    const parts = [];
    if (past.trouble) parts.push(element("p", { className: "error" }, element("strong", {}, "The events cannot be read to the end: "), cut(past.trouble, 600)));
    const { execution, failures: failed } = past;
    if (past.isOpen && execution.reason) {
      const until = execution.until ? `, until ${dayTime(micros(execution.until))}` : "";
      parts.push(element("p", { className: "error" }, element("strong", { className: appearance(execution.status).colour }, statusWord(execution.status)), ": ", element("bdi", {}, cut(execution.reason, 600)), until));
    }
    if (past.isOpen && execution.next_step) parts.push(element("p", { className: "hint" }, element("strong", {}, "Next: "), element("bdi", {}, cut(execution.next_step, 600))));
    const first = failed.find((attempt) => attempt.task === past.firstFailure) ?? failed[0];
    if (first) {
      const { error } = past.events[first.endSeq].body;
      const row = past.rows.get(first.task)?.attempts.find((one) => one.attempt === first.number);
      const advice = row?.hint ?? error.hint;
      parts.push(element("p", { className: "error" },
        element("button", { className: "link", onclick: () => page.choose(first.task) }, element("bdi", {}, cut(first.task, 80))),
        ` failed, attempt ${first.number}: `, element("strong", {}, cleanLine(error.kind)), ": ", element("bdi", {}, cut(error.message, 300)),
        failed.length > 1 && element("span", { className: "muted" }, ` and ${counted(failed.length - 1, "more task")} failed`),
        element("button", { className: "link seq", onclick: () => page.go(first.endSeq) }, `seq ${first.endSeq}`)));
      if (advice) parts.push(element("p", { className: "hint" }, element("strong", {}, "Hint: "), cut(advice, 400)));
    }
    const ended = past.events.at(-1);
    const reason = ended?.body?.reason;
    if (!first && reason) parts.push(element("p", { className: "error" }, cut(reason, 400)));
    for (const { key, writes } of past.collisions.slice(0, 3)) {
      const who = writes.map(({ writer }) => writer ?? "the input").join(" and ");
      parts.push(element("p", { className: "warn" }, "Collision at the end of the graph: ", element("button", { className: "link key", onclick: () => page.chooseKey(key) }, cut(key, 80)), ` was written by ${cleanLine(who).slice(0, 200)}, and the values conflict.`));
    }
    if (past.collisions.length > 3) parts.push(element("p", { className: "warn" }, `and ${counted(past.collisions.length - 3, "more collision")}; they are marked in the context`));
    banner.replaceChildren(...parts);
    banner.className = first || past.trouble ? "failed" : appearance(execution.status).colour;
    banner.hidden = parts.length === 0;
  }
}

function fact(words, className = "") {
  return element("span", { className: `fact ${className}` }, words);
}

/** The theme button and the help dialog, which both pages have. */
export function common(redraw) {
  const button = element("button", { id: "theme", onclick: () => turnTheme(redraw) });
  const help = element("button", { id: "help-button", title: "Keys (?)", "aria-label": "Keys", onclick: showHelp }, "?");
  const dialog = element("dialog", { id: "help", "aria-labelledby": "help-title" },
    element("h2", { id: "help-title" }, "Keys"),
    element("dl", { className: "keys" }, KEYS.flatMap(([key, words]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, words)])),
    element("button", { onclick: () => dialog.close() }, "Close"));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  setTheme(stored() ?? "auto", button);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    forgetColours();
    redraw();
  });
  return [button, help];
}

/** Shows the keys. */
export function showHelp() {
  byId("help", HTMLDialogElement).showModal();
}

/** Switches to the next theme: system, light, dark. */
export function turnTheme(redraw) {
  const now = document.documentElement.dataset.theme ?? "auto";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length], byId("theme"));
  forgetColours();
  redraw();
}

function setTheme(theme, button) {
  document.documentElement.dataset.theme = theme;
  const sign = { auto: "◐", light: "☀", dark: "☾" }[theme];
  button.textContent = sign;
  button.title = `Theme: ${theme} (t)`;
  button.setAttribute("aria-label", `Theme: ${theme}`);
  try {
    localStorage.setItem("cloaca.replay.theme", theme);
  } catch {
    // Pages loaded from files may have no storage. Then the theme applies only to this page.
  }
}

function stored() {
  try {
    const theme = localStorage.getItem("cloaca.replay.theme");
    return THEMES.find((one) => one === theme);
  } catch {
    return undefined;
  }
}
