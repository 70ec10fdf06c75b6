// The inspector: one task with its attempts, or one key with the origin of its value.

import { byId, clean, cleanLine, cut, element } from "./dom.js";
import { ERASED } from "./model.js";
import { longText, valueBlock } from "./value.js";
import { counted, dayTime, appearance, micros, shortId, size, skipped, skipReason, span } from "./words.js";

const MOST_STEPS = 200;
const DEEPEST = 8;

/** Shows the page's selection. */
export class Inspector {
  constructor(page) {
    this.page = page;
    this.host = byId("inspector");
    this.body = byId("inspector-body");
    this.title = byId("inspector-title");
    byId("inspector-close").addEventListener("click", () => page.choose(undefined));
  }

  /** Shows the present moment and selection. */
  update() {
    const { task, key } = this.page;
    const open = task !== undefined || key !== undefined;
    this.host.hidden = !open;
    document.body.classList.toggle("inspecting", open);
    if (!open) return;
    const { scrollTop } = this.body;
    const subject = key !== undefined ? `key ${key}` : `task ${task}`;
    const same = this.subject === subject;
    this.subject = subject;
    if (key !== undefined) this.#key(key);
    else this.#task(task);
    this.body.scrollTop = same ? scrollTop : 0;
  }

  #key(key) {
    const { past, moment } = this.page;
    const version = moment.context.get(key);
    this.title.replaceChildren(element("span", { className: "kind" }, "key"), element("bdi", {}, cut(key, 120)));
    if (!version) {
      this.body.replaceChildren(element("p", {}, `After seq ${moment.seq} the context has no such key.`), ...this.#writesOf(key));
      return;
    }
    const text = past.value(moment, key);
    const merged = typeof version.seen === "number" ? [] : version.seen.writes;
    const steps = past.why(moment, key);
    this.body.replaceChildren(
      element("p", { className: "muted" }, `${text === ERASED ? "" : `${size(text?.length ?? 0)}, `}as it was after seq ${moment.seq}`),
      ...this.#erasures(typeof version.seen === "number" ? [version.seen] : version.seen.writes),
      ...(version.seen.collided ? [warning(`Collision: seq ${merged.join(" and ")} wrote this key without having seen each other, and the values conflict.`)] : []),
      ...(text === ERASED ? [] : [valueBlock(text)]),
      element("h3", {}, "Why"),
      this.#steps(steps),
      ...command(`replay ${shortId(past.execution.id)} why ${quoted(key)} --at ${moment.seq}`),
    );
  }

  /** Notes about erased writes. */
  #erasures(seqs) {
    const erased = seqs.filter((seq) => this.page.past.events[seq].erased);
    return erased.map((seq) => {
      const { by, reason, time } = this.page.past.events[seq].erased;
      return warning(`The value of seq ${seq} was erased by ${cut(by, 80)} on ${dayTime(micros(time))}: ${cut(reason, 400)}`);
    });
  }

  #writesOf(key) {
    const writes = this.page.past.events.filter((event) => event.body?.key === key && event.event === "ContextWritten");
    if (writes.length === 0) return [];
    const links = writes.slice(0, 20).map((event) => [this.#seqLink(event.seq), ` by ${cut(event.body.task ?? "the input", 80)}, `]);
    return [element("p", {}, "It was written at ", links.flat(), "which may have had no effect.")];
  }

  #steps(steps) {
    const { past } = this.page;
    const shown = steps.slice(0, MOST_STEPS);
    const list = element("ol", { className: "why" });
    const items = shown.map((step, at) => {
      const item = element("li", { className: step.how, "aria-level": step.depth + 1 });
      item.style.marginInlineStart = `${Math.min(step.depth, DEEPEST) * 14}px`;
      const value = step.seq === undefined ? undefined : past.written(step.seq);
      const name = element("bdi", { className: "key" }, cut(step.key, 80));
      if (step.seq === undefined) {
        item.append(name, element("span", { className: "muted" }, " was not there"));
        return item;
      }
      item.append(
        element("div", { className: "what" }, name, value === undefined ? " was removed" : [" = ", element("bdi", { className: "code" }, cut(value, 140))]),
        element("div", { className: "muted" }, step.task === null ? "input at " : ["written by ", this.#taskLink(step.task), `, attempt ${step.attempt}, at `], `+${span(past.events[step.seq].at)} `, this.#seqLink(step.seq)),
      );
      const before = past.frames[step.seq]?.before;
      if (typeof before === "number") item.append(element("div", { className: "muted" }, "before: ", element("bdi", { className: "code" }, cut(past.written(before) ?? "", 80))));
      const note = NOTES[step.how];
      if (note) item.append(element("div", { className: "warn" }, note));
      if (step.task !== null) item.append(element("div", { className: "muted" }, readNote(step, steps[at + 1])));
      return item;
    });
    list.append(...items);
    if (steps.length > shown.length) list.append(element("li", { className: "muted" }, `and ${counted(steps.length - shown.length, "step")} more, which the command below shows`));
    return list;
  }

  #task(name) {
    const { past, moment } = this.page;
    const definition = past.task(moment, name);
    const state = appearance(moment.state(name));
    this.title.replaceChildren(
      element("span", { className: `sign ${state.colour}`, "aria-hidden": "true" }, state.sign),
      element("bdi", {}, cut(name, 120)),
      element("span", { className: "muted" }, state.word),
    );
    const attempts = (past.attempts.get(name) ?? []).filter((attempt) => attempt.startSeq <= moment.seq);
    const later = (past.attempts.get(name)?.length ?? 0) - attempts.length;
    this.body.replaceChildren(
      ...this.#stateReason(name, definition),
      ...this.#collisions(name),
      ...attempts.reverse().map((attempt) => this.#attempt(attempt, definition)),
      ...(later ? [element("p", { className: "muted" }, `${counted(later, "attempt")} started after this moment.`)] : []),
      ...(definition ? this.#definition(definition) : [element("p", {}, "The workflow definition at this moment has no such task.")]),
      ...command(`replay ${shortId(past.execution.id)} explain ${quoted(name)} --at ${moment.seq}`),
    );
  }

  /** Explains the task's state. */
  #stateReason(name, definition) {
    const { past, moment } = this.page;
    const state = moment.state(name);
    const upstream = definition?.dependencies ?? [];
    if (state === "Pending") {
      const open = upstream.filter((up) => !["Completed", "Failed", "Skipped"].includes(moment.state(up)));
      if (open.length === 0) return [element("p", {}, `It has not started. Its rule is ${definition?.rule}.`)];
      return [element("p", {}, "It waits for ", this.#taskLinks(open), ".")];
    }
    if (state === "Ready") return [element("p", {}, "It is ready, and waits for a free slot.")];
    const seqs = past.eventsOf.get(name)?.filter((seq) => seq <= moment.seq) ?? [];
    const last = past.events[seqs.at(-1)];
    if (state === "Skipped" && last?.body.why) return [element("p", {}, clean(`${skipped(last.body.why)}: ${skipReason(last.body.why)}`))];
    if (state === "WaitingRetry" && last?.body.retry_at) {
      return [element("p", {}, `Its next attempt is due at +${span(micros(last.body.retry_at) - past.start)}.`)];
    }
    return [];
  }

  #collisions(name) {
    const met = this.page.past.rows.get(name)?.collisions ?? [];
    return met.map(({ key, writes, taken }) => {
      const who = writes.map(({ seq, writer }) => `${writer ?? "the input"} (seq ${seq})`).join(" and ");
      const whose = `the value of seq ${taken.join(" and ")} was taken`;
      return warning("Collision where its dependencies meet: ", this.#keyLink(key), ` was written by ${cleanLine(who)}; ${whose}.`);
    });
  }

  #attempt(attempt, definition) {
    const { past, moment } = this.page;
    const ended = attempt.endSeq !== undefined && attempt.endSeq <= moment.seq;
    const state = appearance(ended ? attempt.outcome : past.openState(moment.seq));
    const until = ended ? attempt.ended : past.events[moment.seq].at;
    const row = past.rows.get(attempt.task)?.attempts.find((one) => one.attempt === attempt.number);
    const event = ended ? past.events[attempt.endSeq] : undefined;
    const error = event?.body.error;
    const most = definition?.retry.max_attempts ?? 1;
    const box = element("section", { className: `attempt ${state.colour}` },
      element("h3", {},
        element("span", { className: `sign ${state.colour}`, "aria-hidden": "true" }, state.sign),
        `Attempt ${attempt.number}${most > 1 && attempt.number <= most ? ` of ${most}` : ""}: ${state.word}`,
        element("span", { className: "muted" }, `${ended ? "after" : "for"} ${span(until - attempt.started)}, worker ${attempt.worker}`),
      ),
      element("p", { className: "muted" }, "started ", this.#seqLink(attempt.startSeq), ` at +${span(attempt.started)}`, ended && [", ended ", this.#seqLink(attempt.endSeq), ` at +${span(attempt.ended)}`]),
    );
    if (error) box.append(...this.#error(error, ended ? row?.hint ?? error.hint : undefined, this.#sameTraceback(attempt, error)));
    else if (ended && row?.hint) box.append(hint(row.hint));
    if (ended) box.append(...this.#reads(attempt), ...this.#writes(attempt));
    return box;
  }

  /** A later attempt with the same traceback, which is shown above this one. */
  #sameTraceback(attempt, { traceback }) {
    const { past, moment } = this.page;
    const later = (past.attempts.get(attempt.task) ?? []).filter((one) => one.number > attempt.number && one.endSeq <= moment.seq);
    return later.find((one) => traceback && past.events[one.endSeq].body.error?.traceback === traceback);
  }

  #error(error, advice, same) {
    /** @type {HTMLElement[]} */
    const parts = [element("p", { className: "error" }, element("strong", {}, cleanLine(error.kind)), ": ", element("bdi", {}, cut(error.message, 2_000)))];
    if (advice) parts.push(hint(advice));
    if (same) parts.push(element("p", { className: "muted" }, `The traceback is the same as that of attempt ${same.number}.`));
    else if (error.traceback) parts.push(element("details", { open: true }, element("summary", {}, "Traceback"), longText(error.traceback, { most: 4_000 })));
    return parts;
  }

  #reads(attempt) {
    const reads = this.page.past.reads(attempt);
    if (!reads || (reads.keys.length === 0 && !reads.all)) return [];
    const items = reads.keys.map((read) => element("li", {},
      this.#keyLink(read.key),
      read.seen === "nothing" ? element("span", { className: "warn" }, " was not there") : [" of ", read.seqs.map((seq) => [this.#seqLink(seq), " "]).flat()],
      read.seen === "merged" && element("span", { className: "muted" }, "merged"),
      read.seen === "undeclared" && element("span", { className: "warn" }, "undeclared: this task does not depend on the one that wrote it"),
    ));
    return [element("h4", {}, reads.all ? "Read (the whole context)" : "Read"), element("ul", {}, items)];
  }

  #writes(attempt) {
    if (attempt.writes.length === 0) return [];
    const { past } = this.page;
    const items = attempt.writes.map((seq) => {
      const { event, body } = past.events[seq];
      const text = event === "ContextRemoved" ? undefined : past.written(seq);
      return element("li", {}, this.#keyLink(body.key), text === undefined ? " removed " : [" = ", element("bdi", { className: "code" }, cut(text, 100)), element("span", { className: "muted" }, text === ERASED ? " " : ` ${size(text.length)} `)], this.#seqLink(seq));
    });
    const effect = attempt.outcome === "Completed" ? "Wrote" : "Wrote, without effect";
    return [element("h4", {}, effect), element("ul", {}, items)];
  }

  #definition(task) {
    const facts = [["rule", task.rule], ["code", task.code.slice(0, 12)]];
    if (task.retry.max_attempts > 1) facts.push(["retry", `${task.retry.backoff.kind}, ${task.retry.max_attempts} attempts, from ${span(task.retry.initial_delay_ms * 1000)}`]);
    if (task.timeout_ms !== null) facts.push(["timeout", span(task.timeout_ms * 1000)]);
    /** @type {HTMLElement[]} */
    const parts = [
      element("h3", {}, "Definition"),
      element("dl", {}, facts.flatMap(([name, words]) => [element("dt", {}, name), element("dd", {}, cleanLine(words))])),
    ];
    if (task.dependencies.length > 0) parts.push(element("p", {}, "Depends on ", this.#taskLinks(task.dependencies), "."));
    const after = this.page.past.definition(this.page.moment).tasks.filter((other) => other.dependencies.includes(task.id));
    if (after.length > 0) parts.push(element("p", {}, "Needed by ", this.#taskLinks(after.map((other) => other.id)), "."));
    if (task.source) parts.push(element("details", { open: task.source.length < 3_000 }, element("summary", {}, "Source"), longText(task.source, { most: 6_000 })));
    return parts;
  }

  #taskLinks(names) {
    const shown = names.slice(0, 12).flatMap((name, at) => [at ? ", " : "", this.#taskLink(name)]);
    return names.length > 12 ? [...shown, ` and ${names.length - 12} more`] : shown;
  }

  #taskLink(name) {
    return element("button", { className: "link", onclick: () => this.page.choose(name) }, element("bdi", {}, cut(name, 80)));
  }

  #keyLink(key) {
    return element("button", { className: "link key", onclick: () => this.page.chooseKey(key) }, element("bdi", {}, cut(key, 80)));
  }

  #seqLink(seq) {
    return element("button", { className: "link seq", title: `Go to seq ${seq}`, onclick: () => this.page.go(seq) }, `seq ${seq}`);
  }
}

const NOTES = {
  undeclared: "undeclared: the reader does not depend on the task that wrote it",
  collided: "collision: merged with other writes of this key that conflict with it",
  merged: "merged with other writes of this key",
};

function readNote(step, next) {
  if (step.toldBefore) return "its reads are shown above";
  const below = next !== undefined && next.depth > step.depth;
  if (step.readAll) return below ? "it had read the whole context, and looked up:" : "it had read the whole context";
  return below ? "it had read:" : "it had read nothing";
}

function warning(...parts) {
  return element("p", { className: "warning" }, element("span", { className: "sign", "aria-hidden": "true" }, "!"), element("span", {}, ...parts));
}

function hint(text) {
  return element("p", { className: "hint" }, element("strong", {}, "Hint: "), element("bdi", {}, cut(text, 1_000)));
}

/** The command that shows the same in a terminal. */
function command(text) {
  return [element("p", { className: "command" }, element("span", { className: "muted" }, "In a terminal: "), element("code", {}, cleanLine(text)))];
}

/** A word, quoted for a shell. */
function quoted(text) {
  return /^[\p{L}\p{N}/._\-+@%:,]+$/u.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
