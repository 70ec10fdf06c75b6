// What both pictures need of a canvas: the theme's colours, sharp pixels on any screen, and a picture only when
// something has changed.

import { element, oncePerFrame } from "./dom.js";

const COLOURS = [
  "surface", "sunken", "text", "muted", "line", "accent", "pending", "ready", "running", "retry", "completed", "failed",
  "skipped", "cancelled", "abandoned", "waiting", "value",
];

const probe = element("span", { hidden: true });
let palette;

/** The theme's colours, by name, as a canvas takes them. */
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

/** After the theme has changed, the colours are others. */
export function forgetColours() {
  palette = undefined;
}

/** A canvas that fills its element and asks to be drawn when it must be. `draw` gets the context, width and height. */
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

/** Remembers what `find` gives for a text in the context's present font and so many pixels. */
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

/** The most of something from 0 to `most` that still fits. */
function mostThat(most, fits) {
  let [low, high] = [0, most];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** A text cut to so many pixels, in the context's present font. It is cut in its middle: names differ at their ends. */
export function fitted(context, text, room) {
  return remembered(context, "cut", text, room, () => {
    if (context.measureText(text).width <= room) return text;
    const cutTo = (letters) => `${text.slice(0, Math.ceil(letters / 2))}…${text.slice(text.length - Math.floor(letters / 2))}`;
    return cutTo(mostThat(text.length - 1, (letters) => context.measureText(cutTo(letters)).width <= room));
  });
}

/** Where a name may be broken: after what divides its words, and before a capital. */
const BREAK = /(?<=[_\-.\s/:])|(?<=[\p{Ll}\d])(?=\p{Lu})/u;

/**
 * A name in lines of so many pixels, in the first of some `{ font, most }` in which so many lines hold it. In one that is
 * too long for all of them something is missing before its last line: its beginning and its end are there.
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
      return [...lines, `…${end.slice(end.length - mostThat(end.length, (letters) => fits(`…${end.slice(end.length - letters)}`)))}`];
    }
    const words = rest.split(BREAK);
    const whole = words.slice(0, mostThat(words.length, (count) => fits(words.slice(0, count).join("").trimEnd()))).join("");
    // A word that is longer than a line, and all but the end of a name that is cut, fill their line.
    const filled = rest.slice(0, Math.max(1, mostThat(rest.length, (letters) => fits(rest.slice(0, letters)))));
    const line = whole === "" || (isLast && lines.length === most - 2 && !fits(rest.slice(whole.length).trimStart())) ? filled : whole;
    lines.push(line.trimEnd());
    rest = rest.slice(line.length).trimStart();
  }
  return [...lines, rest];
}

/** The page's fonts, as a canvas takes them. */
export const FONT = '12px ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif';
export const SMALL = '11px ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif';
export const SIGNS = '12px "DejaVu Sans", "Segoe UI Symbol", "Apple Symbols", "Noto Sans Symbols2", sans-serif';
