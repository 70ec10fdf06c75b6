// Shared canvas code of the graph and the timeline: the theme's colours, device pixels, and redrawing only after a change.

import { element, oncePerFrame } from "./dom.js";

const COLOURS = [
  "surface", "sunken", "text", "muted", "line", "accent", "pending", "ready", "running", "retry", "completed", "failed",
  "skipped", "cancelled", "abandoned", "waiting", "value",
];

const probe = element("span", { hidden: true });
let palette;

/** The theme's colours, by name, in the form that a canvas needs. */
export function colours() {
  if (palette) return palette;
  document.body.append(probe);
  palette = {};
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    palette[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return palette;
}

/** Clears the cached colours, after the theme has changed. */
export function forgetColours() {
  palette = undefined;
}

/** A canvas that fills its element and redraws when necessary. `draw` receives the context, width and height. */
export class Picture {
  constructor(host, draw) {
    this.host = host;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.width = 0;
    this.height = 0;
    this.redraw = oncePerFrame(() => this.#draw(draw));
    host.append(this.canvas);
    new ResizeObserver(() => this.redraw()).observe(host);
  }

  #draw(draw) {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
    }
    const resized = this.width !== width || this.height !== height;
    Object.assign(this, { width, height });
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, height);
    draw(this.context, width, height, resized);
  }
}

const widths = new Map();

/** Caches the result of `find` for a text, the context's present font and the room in pixels. */
function remembered(context, kind, text, room, find) {
  const key = `${kind}\n${context.font}\n${Math.floor(room)}\n${text}`;
  let found = widths.get(key);
  if (found === undefined) {
    found = find();
    if (widths.size > 20_000) widths.clear();
    widths.set(key, found);
  }
  return found;
}

/** The largest number from 0 to `most` that fits, by binary search. */
function largestThat(most, fits) {
  let [low, high] = [0, most];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** A text cut to `room` pixels in the context's present font. The middle is cut, since names differ at their ends. */
export function fitted(context, text, room) {
  return remembered(context, "cut", text, room, () => {
    if (context.measureText(text).width <= room) return text;
    const cutTo = (letters) => `${text.slice(0, Math.ceil(letters / 2))}…${text.slice(text.length - Math.floor(letters / 2))}`;
    return cutTo(largestThat(text.length - 1, (letters) => context.measureText(cutTo(letters)).width <= room));
  });
}

/** Where a name may be broken into lines: after a separator, and before a capital. */
const BREAK = /(?<=[_\-.\s/:])|(?<=[\p{Ll}\d])(?=\p{Lu})/u;

/**
 * A name broken into lines of `room` pixels, in the first of the `sizes` (`{ font, most }`) of which `most` lines hold it. A
 * name that is too long for all of them is cut before its last line, so that its beginning and its end are shown.
 */
export function inLines(context, text, room, sizes) {
  for (const [at, { font, most }] of sizes.entries()) {
    context.font = font;
    const isLast = at === sizes.length - 1;
    const lines = remembered(context, `lines ${most}`, text, room, () => broken(context, text, room, most, isLast));
    if (lines) return { lines, font };
  }
  return { lines: [], font: context.font };
}

function broken(context, text, room, most, isLast) {
  const fits = (words) => context.measureText(words).width <= room;
  const lines = [];
  let rest = text;
  while (!fits(rest)) {
    if (lines.length === most - 1) {
      if (!isLast) return undefined;
      const end = rest;
      return [...lines, `…${end.slice(end.length - largestThat(end.length, (letters) => fits(`…${end.slice(end.length - letters)}`)))}`];
    }
    const words = rest.split(BREAK);
    const whole = words.slice(0, largestThat(words.length, (count) => fits(words.slice(0, count).join("").trimEnd()))).join("");
    // Fill the line if a word is longer than a line, or before the cut of a name that is too long.
    const filled = rest.slice(0, Math.max(1, largestThat(rest.length, (letters) => fits(rest.slice(0, letters)))));
    const line = whole === "" || (isLast && lines.length === most - 2 && !fits(rest.slice(whole.length).trimStart())) ? filled : whole;
    lines.push(line.trimEnd());
    rest = rest.slice(line.length).trimStart();
  }
  return [...lines, rest];
}

/** The page's fonts, in the form that a canvas needs. */
export const FONT = '12px ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif';
export const SMALL = '11px ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif';
export const SIGNS = '12px "DejaVu Sans", "Segoe UI Symbol", "Apple Symbols", "Noto Sans Symbols2", sans-serif';
