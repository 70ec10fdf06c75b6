// The graph: tasks in layers, coloured by their state at the moment. The report contains the layers and rows.

import { colours, FONT, inLines, Picture, SIGNS, SMALL } from "./canvas.js";
import { announce, clean, cleanLine, element } from "./dom.js";
import { BOX_HEIGHT, layOut } from "./layout.js";
import { appearance } from "./words.js";

/** Below this scale names are not legible, and a task is a coloured block. */
const READABLE = 0.5;
/** The maximum height of the graph if panels are stacked, as a fraction of the window's height. */
const HIGHEST = 0.46;
/** The font and the number of lines for a name in its box: the first that fits is used. */
const NAME_SIZES = [{ font: FONT, most: 2 }, { font: SMALL, most: 2 }, { font: SMALL, most: 3 }];

/** The graph in an element. `page` has the moment and the selection, and handles the choice of a task. */
export class GraphView {
  /**
   * The tasks with their places, once they are laid out.
   * @type {any[]}
   */
  nodes;

  constructor(host, page) {
    this.page = page;
    this.host = host;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.moved = false;
    /** How many tasks and edges were drawn last. */
    this.drawn = { tasks: 0, edges: 0 };
    this.layout = undefined;
    /** The total size of the last layout. */
    this.all = { wide: 0, high: 0, scale: 1, folded: false };
    this.fitted = "";
    this.edges = new Picture(host, (context) => this.#drawEdges(context));
    this.picture = new Picture(host, (context, width, height, resized) => this.#drawTasks(context, resized));
    host.tabIndex = 0;
    host.setAttribute("role", "application");
    host.setAttribute("aria-label", "Graph of the workflow. Arrow keys move from task to task, Enter shows one.");
    host.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    host.addEventListener("pointerdown", (event) => this.#press(event));
    host.addEventListener("pointermove", (event) => this.#hover(event));
    host.addEventListener("keydown", (event) => this.#key(event));
    host.parentElement.querySelector(".tools").append(
      element("button", { title: "Smaller", "aria-label": "Zoom out", onclick: () => this.#zoom(1 / 1.4) }, "−"),
      element("button", { title: "Larger", "aria-label": "Zoom in", onclick: () => this.#zoom(1.4) }, "+"),
      element("button", { title: "Show the whole graph", onclick: () => this.fit() }, "Fit"),
    );
  }

  /** Shows the present moment. */
  update() {
    const layout = this.page.past.layouts.get(this.page.moment.definition);
    if (layout && layout !== this.layout) this.#setLayout(layout);
    this.picture.redraw();
  }

  /** Shows the present selection. */
  selectionChanged() {
    this.#reveal(this.page.task);
    this.edges.redraw();
    this.picture.redraw();
  }

  /** Redraws everything, after a change of the theme or the filter. */
  redraw() {
    this.edges.redraw();
    this.picture.redraw();
  }

  /** Shows the whole graph. */
  fit() {
    this.moved = false;
    this.redraw();
  }

  #setLayout(layout) {
    this.layout = layout;
    this.fitted = "";
    this.fit();
  }

  /** Lays the graph out for a panel of this size, and shows all of it. */
  #fitTo(width, height) {
    const size = `${width}×${height} ${innerHeight}`;
    if (this.fitted !== size) {
      this.fitted = size;
      // The height that the panel takes if the style lets it grow with its content.
      const { wide: most, high: tall, scale: by } = layOut(this.layout, width, innerHeight * HIGHEST);
      this.host.style.setProperty("--wanted", `${Math.ceil(tall * Math.min(by, width / most))}px`);
      const { nodes, lines, wide, high, scale, folded } = layOut(this.layout, width, height);
      this.nodes = nodes.map((node) => ({ ...node, name: cleanLine(node.task.slice(0, 200)) }));
      this.places = new Map(this.nodes.map((node) => [node.task, node]));
      this.lines = lines;
      this.all = { wide, high, scale, folded };
    }
    const { wide, high, scale } = this.all;
    this.scale = scale;
    this.x = (width - wide * scale) / 2;
    this.y = (height - high * scale) / 2;
  }

  #drawEdges(context) {
    if (!this.layout) return;
    const { width, height } = this.edges;
    if (!this.moved) this.#fitTo(width, height);
    const palette = colours();
    context.translate(this.x, this.y);
    context.scale(this.scale, this.scale);
    const [left, top] = [-this.x / this.scale, -this.y / this.scale];
    const [right, bottom] = [left + width / this.scale, top + height / this.scale];
    const seen = this.lines.filter((line) => line.right > left && line.left < right && line.bottom > top && line.top < bottom);
    this.drawn.edges = seen.length;
    const chosen = this.page.task;
    const lit = (line) => chosen !== undefined && (line.from === chosen || line.to === chosen);
    context.lineWidth = 1.25 / Math.max(this.scale, 0.5);
    context.strokeStyle = palette.line;
    // With folded layers, edges pass behind unrelated tasks.
    context.globalAlpha = seen.length > 2_000 || this.all.folded ? 0.6 : 1;
    stroke(context, seen.filter((line) => !lit(line)));
    context.globalAlpha = 1;
    context.strokeStyle = palette.accent;
    context.lineWidth *= 1.6;
    stroke(context, seen.filter(lit));
  }

  #drawTasks(context, resized) {
    if (!this.layout) return;
    if (resized && !this.moved) this.#fitTo(this.picture.width, this.picture.height);
    const palette = colours();
    const { moment, task: chosen, lineage, filter } = this.page;
    const now = this.page.past.events[moment.seq]?.body?.task;
    context.translate(this.x, this.y);
    context.scale(this.scale, this.scale);
    const [left, top] = [-this.x / this.scale, -this.y / this.scale];
    const [right, bottom] = [left + this.picture.width / this.scale, top + this.picture.height / this.scale];
    let drawn = 0;
    context.textBaseline = "middle";
    for (const node of this.nodes) {
      if (node.x > right || node.x + node.wide < left || node.y > bottom || node.y + BOX_HEIGHT < top) continue;
      drawn += 1;
      const known = moment.tasks.get(node.task);
      const state = appearance(moment.state(node.task));
      context.globalAlpha = filter && !filter(node.task) ? 0.25 : 1;
      if (this.scale < READABLE) block(context, node, palette[state.colour], state);
      else box(context, node, palette, state, known?.attempts ?? 0);
      if (node.task === chosen || node.task === now || lineage?.has(node.task)) {
        context.strokeStyle = node.task === chosen ? palette.accent : lineage?.has(node.task) ? palette.value : palette.text;
        context.lineWidth = (node.task === chosen ? 2.5 : 1.5) / Math.min(1, this.scale);
        outline(context, node, 3);
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    this.drawn.tasks = drawn;
  }

  #zoom(factor, x = this.picture.width / 2, y = this.picture.height / 2) {
    const scale = Math.min(2.5, Math.max(0.01, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.moved = true;
    this.redraw();
  }

  #wheel(event) {
    event.preventDefault();
    const box = this.host.getBoundingClientRect();
    if (event.ctrlKey || event.metaKey || Math.abs(event.deltaY) >= Math.abs(event.deltaX)) {
      this.#zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
    } else {
      this.x -= event.deltaX;
      this.moved = true;
      this.redraw();
    }
  }

  #at(event) {
    const box = this.host.getBoundingClientRect();
    const x = (event.clientX - box.left - this.x) / this.scale;
    const y = (event.clientY - box.top - this.y) / this.scale;
    return this.nodes?.find((node) => x >= node.x && x <= node.x + node.wide && y >= node.y && y <= node.y + BOX_HEIGHT)?.task;
  }

  #press(event) {
    if (event.button !== 0) return;
    const begin = { x: event.clientX - this.x, y: event.clientY - this.y };
    const from = { x: event.clientX, y: event.clientY };
    this.host.setPointerCapture(event.pointerId);
    const move = (to) => {
      this.x = to.clientX - begin.x;
      this.y = to.clientY - begin.y;
      this.moved = true;
      this.redraw();
    };
    const release = (to) => {
      this.host.removeEventListener("pointermove", move);
      if (Math.hypot(to.clientX - from.x, to.clientY - from.y) < 4) this.page.choose(this.#at(to));
    };
    this.host.addEventListener("pointermove", move);
    this.host.addEventListener("pointerup", release, { once: true });
  }

  #hover(event) {
    const task = event.buttons ? undefined : this.#at(event);
    this.host.classList.toggle("over", task !== undefined);
    this.host.title = task === undefined ? "" : `${clean(task)}: ${appearance(this.page.moment.state(task)).word}`;
  }

  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || !this.nodes || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const here = this.nodes.find((node) => node.task === this.page.task);
    const next = here ? nearestTowards(this.nodes, here, step) : this.nodes[0];
    if (!next) return;
    this.page.choose(next.task, { quietly: true });
    announce(`${cleanLine(next.task)}, ${appearance(this.page.moment.state(next.task)).word}`);
  }

  /** Scrolls a task into view. */
  #reveal(task) {
    const place = this.places?.get(task);
    if (!place || this.picture.width === 0) return;
    const wide = place.wide * this.scale;
    const x = place.x * this.scale + this.x;
    const y = place.y * this.scale + this.y;
    const { width, height } = this.picture;
    if (x >= 0 && y >= 0 && x + wide <= width && y + BOX_HEIGHT * this.scale <= height) return;
    this.x += width / 2 - x - wide / 2;
    this.y += height / 2 - y - (BOX_HEIGHT * this.scale) / 2;
    this.moved = true;
  }
}

/** The nearest node in a direction, preferring nodes close to the axis. */
function nearestTowards(nodes, here, [right, down]) {
  let best;
  let bestCost = Infinity;
  for (const node of nodes) {
    const [x, y] = [node.x - here.x, node.y - here.y];
    const along = x * right + y * down;
    if (along <= 0) continue;
    const across = Math.abs(right ? y : x);
    const cost = along + across * (right ? 1 : 4);
    if (cost < bestCost) [best, bestCost] = [node, cost];
  }
  return best;
}

/** Draws lines: curves from left to right, with round corners where a line leads to another band. */
function stroke(context, lines) {
  context.beginPath();
  for (const { points } of lines) {
    context.moveTo(...points[0]);
    for (let at = 1; at < points.length; at += 1) {
      const [[x1, y1], [x2, y2], next] = [points[at - 1], points[at], points[at + 1]];
      const turns = next && ((x1 === x2 && y2 === next[1]) || (y1 === y2 && x2 === next[0]));
      if (turns) context.arcTo(x2, y2, ...next, 6);
      else if (x1 === x2 || y1 === y2) context.lineTo(x2, y2);
      else {
        const middle = (x2 - x1) / 2;
        context.bezierCurveTo(x1 + middle, y1, x2 - middle, y2, x2, y2);
      }
    }
  }
  context.stroke();
}

function outline(context, { x, y, wide }, by) {
  context.beginPath();
  context.roundRect(x - by, y - by, wide + 2 * by, BOX_HEIGHT + 2 * by, 6 + by);
}

/** Draws a task that is too small for its name: its colour, and a pattern of its state for those who cannot see colours. */
function block(context, { x, y, wide }, colour, state) {
  context.fillStyle = colour;
  context.strokeStyle = colour;
  context.lineWidth = 8;
  if (state.colour === "pending" || state.colour === "skipped" || state.colour === "cancelled") {
    context.strokeRect(x + 4, y + 4, wide - 8, BOX_HEIGHT - 8);
    if (state.colour !== "pending") context.fillRect(x, y + BOX_HEIGHT / 2 - 4, wide, 8);
  } else {
    context.fillRect(x, y, wide, BOX_HEIGHT);
    if (state.colour === "failed") context.fillRect(x - 10, y - 6, wide + 20, BOX_HEIGHT + 12);
  }
}

function box(context, node, palette, state, attempts) {
  const { x, y, wide } = node;
  const alpha = context.globalAlpha;
  outline(context, node, 0);
  context.fillStyle = palette.surface;
  context.fill();
  const colour = palette[state.colour];
  context.fillStyle = colour;
  context.globalAlpha = alpha * (state.colour === "failed" || state.colour === "running" ? 0.2 : 0.1);
  context.fill();
  context.globalAlpha = alpha;
  context.strokeStyle = colour;
  context.lineWidth = state.colour === "failed" ? 1.75 : 1.1;
  context.setLineDash(state.colour === "skipped" || state.colour === "cancelled" ? [4, 3] : []);
  context.stroke();
  context.setLineDash([]);
  context.fillStyle = colour;
  context.font = SIGNS;
  context.textAlign = "center";
  context.fillText(state.sign, x + 13, y + BOX_HEIGHT / 2 + 0.5);
  let room = wide - 30;
  if (attempts > 1) {
    context.font = SMALL;
    context.textAlign = "right";
    context.fillText(`×${attempts}`, x + wide - 9, y + BOX_HEIGHT / 2 + 0.5);
    room -= 22;
  }
  context.textAlign = "left";
  context.fillStyle = state.colour === "pending" || state.colour === "skipped" ? palette.muted : palette.text;
  const { lines, font } = inLines(context, node.name, room, NAME_SIZES);
  context.font = font;
  const [high, middle] = [font === FONT ? 15 : 13, y + BOX_HEIGHT / 2 + 0.5];
  lines.forEach((words, at) => context.fillText(words, x + 24, middle + (at - (lines.length - 1) / 2) * high));
}
