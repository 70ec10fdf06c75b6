// The slider over the events, which sets the moment of the page.

import { colours, Picture } from "./canvas.js";
import { byId, cleanLine, cut } from "./dom.js";
import { span, describeEvent } from "./words.js";

const MOST_MARKS = 2_000;

/** The slider, its buttons, and the description of the current event. */
export class Slider {
  constructor(page) {
    this.page = page;
    this.input = byId("slider", HTMLInputElement);
    this.input.addEventListener("input", () => page.go(Number(this.input.value)));
    this.picture = new Picture(byId("slider-marks"), (context, width, height) => this.#draw(context, width, height));
    for (const [id, by] of Object.entries({ first: -Infinity, previous: -1, next: 1, last: Infinity })) {
      byId(id).addEventListener("click", () => page.go(page.moment.seq + by));
    }
    byId("play").addEventListener("click", () => this.play());
  }

  /** Updates the range after the events have changed. */
  rebuild() {
    this.input.max = String(Math.max(0, this.page.past.last));
    this.picture.redraw();
  }

  /** Shows the present moment. */
  update() {
    const { past, moment } = this.page;
    const event = past.events[moment.seq];
    this.input.value = String(moment.seq);
    for (const id of ["first", "previous"]) byId(id, HTMLButtonElement).disabled = moment.seq <= 0;
    for (const id of ["next", "last"]) byId(id, HTMLButtonElement).disabled = moment.seq >= past.last;
    byId("seq").textContent = `${moment.seq} / ${past.last}`;
    if (!event) return;
    const { sign, colour, task, words } = describeEvent(event);
    byId("event-time").textContent = `+${span(event.at)}`;
    byId("event-sign").textContent = sign;
    byId("event-sign").className = `sign ${colour}`;
    byId("event-task").textContent = cut(task, 120);
    byId("event-words").textContent = cut(words, 300);
    this.input.setAttribute("aria-valuetext", cleanLine(`seq ${moment.seq} of ${past.last}, ${task} ${words}`).slice(0, 300));
  }

  /** Redraws the marks. */
  redraw() {
    this.picture.redraw();
  }

  /** Starts or stops playing through the events. All of them take about ten seconds. */
  play() {
    const { page } = this;
    if (this.playing) {
      this.stop();
      return;
    }
    if (page.moment.seq >= page.past.last) page.go(0);
    const perSecond = Math.max(4, page.past.last / 10);
    let begun = performance.now();
    let from = page.moment.seq;
    byId("play").setAttribute("aria-pressed", "true");
    byId("play").textContent = "❚❚";
    const step = (now) => {
      if (!this.playing) return;
      // If the user moved the slider meanwhile, continue from there.
      if (page.moment.seq !== this.expects) [begun, from] = [now, page.moment.seq];
      page.go(Math.min(page.past.last, Math.floor(from + ((now - begun) / 1000) * perSecond)));
      this.expects = page.moment.seq;
      if (page.moment.seq >= page.past.last) this.stop();
      else this.playing = requestAnimationFrame(step);
    };
    this.expects = from;
    this.playing = requestAnimationFrame(step);
  }

  /** Stops playing. */
  stop() {
    cancelAnimationFrame(this.playing ?? 0);
    this.playing = undefined;
    byId("play").setAttribute("aria-pressed", "false");
    byId("play").textContent = "▶";
  }

  /** Draws the marks: tall lines for failures and interruptions, short ones for completed tasks. */
  #draw(context, width, height) {
    const { past } = this.page;
    const palette = colours();
    const room = width - 16;
    const every = Math.ceil(past.events.length / MOST_MARKS);
    for (const { seq, event } of past.events) {
      const bad = event === "TaskFailed" || event === "ExecutionFailed";
      const notable = bad || ["TaskAbandoned", "ExecutionRecovered", "ExecutionRetried", "CancelRequested"].includes(event);
      if (!notable && (seq % every !== 0 || event !== "TaskCompleted")) continue;
      const x = 8 + (past.last > 0 ? (seq / past.last) * room : 0);
      context.fillStyle = bad ? palette.failed : notable ? palette.abandoned : palette.line;
      context.fillRect(x - 0.75, notable ? 0 : height - 4, notable ? 2 : 1, notable ? height : 4);
    }
  }
}
