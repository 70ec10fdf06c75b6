// What both pictures need of a canvas: the theme's colours, sharp pixels on any screen, and a picture only when
// something has changed.

import { element, oncePerFrame } from "./dom.js";

const COLOURS = [
  "surface", "sunken", "text", "muted", "line", "accent", "pending", "ready", "running", "retry", "completed", "failed",
  "skipped", "cancelled", "abandoned", "value",
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
    this.context = this.canvas.getContext("2d");
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

/** A text cut to so many pixels, in the context's present font. It is cut in its middle: names differ at their ends. */
export function fitted(context, text, room) {
  const key = `${context.font}\n${Math.floor(room)}\n${text}`;
  let found = widths.get(key);
  if (found === undefined) {
    found = text;
    if (context.measureText(text).width > room) {
      const cutTo = (letters) => `${text.slice(0, Math.ceil(letters / 2))}…${text.slice(text.length - Math.floor(letters / 2))}`;
      let [low, high] = [0, text.length - 1];
      while (low < high) {
        const middle = Math.ceil((low + high) / 2);
        if (context.measureText(cutTo(middle)).width <= room) low = middle;
        else high = middle - 1;
      }
      found = cutTo(low);
    }
    if (widths.size > 20_000) widths.clear();
    widths.set(key, found);
  }
  return found;
}

/** The page's fonts, as a canvas takes them. */
export const FONT = '12px ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif';
export const SMALL = '11px ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif';
export const SIGNS = '12px "DejaVu Sans", "Segoe UI Symbol", "Apple Symbols", "Noto Sans Symbols2", sans-serif';
