// The layout of a graph in a panel. It shows the whole graph as large as possible: columns and rows take the available
// space, a layer that is too high is folded into a block of columns, and a row of layers that is too long is broken into
// bands, like words into lines. The report contains the layer and order of each task. This code draws nothing and needs no
// browser.

/** The height of a task's box in pixels: two lines of its name, or three small ones. */
export const BOX_HEIGHT = 44;
/** The distance of columns and of rows, in pixels. */
const COLUMN = { least: 112, most: 250 };
const LINE = { least: 58, most: 96 };
/** The width of a column for its names: per letter (in three lines), plus a fixed part, up to `most`. */
const NAME = { letter: 2.3, beside: 80, most: 172 };
/** The fraction of a column that stays free for edges, and its minimum in pixels. */
const FREE = { part: 0.16, least: 24 };
const MARGIN = 14;
/** The space between two bands and beside them, where edges lead from one to the next. */
const BAND = 26;
const BESIDE = 14;
/** The maximum scale of a small graph. */
const LARGEST = 1.3;
const MOST_BANDS = 16;
const MOST_FOLDS = 40;
/** Bands and folded layers are harder to read, so they must gain in scale: factors for comparing layouts. */
const PRICE = { band: 0.8, more: 0.99, fold: 0.95 };

/**
 * Lays a graph out: `{ nodes, lines, wide, high, scale, folded }`, in pixels of a picture of `wide` × `high` to be shown at this
 * scale. A line is a list of points.
 */
export function layOut(layout, width, height) {
  const layers = layersOf(layout);
  const longest = layout.tasks.reduce((most, { task }) => Math.max(most, task.length), 0);
  const least = Math.max(COLUMN.least, Math.min(NAME.most, NAME.beside + longest * NAME.letter));
  let best;
  for (const most of folds(layers)) {
    const { columns, folded } = columnsOf(layers, most);
    for (let bands = 1; bands <= Math.min(MOST_BANDS, columns.length); bands += 1) {
      const per = Math.ceil(columns.length / bands);
      if (bands > 1 && Math.ceil(columns.length / per) !== bands) continue;
      const plan = planOf(columns, per, folded);
      plan.scale = Math.min(1, width / plan.wide(least), height / plan.high(LINE.least));
      const worth = plan.scale * (folded ? PRICE.fold : 1) * (bands > 1 ? PRICE.band * PRICE.more ** (bands - 2) : 1);
      if (best === undefined || worth > best.worth) best = { ...plan, least, worth };
    }
  }
  return spread(layout, best, width, height);
}

/** The tasks of each layer, as indices into `tasks`, from top to bottom; and in `bends` the rows where edges pass. */
function layersOf({ tasks, edges, columns }) {
  /** @type {(Array<{ at: number, y: number }> & { bends: number[] })[]} */
  const layers = Array.from({ length: Math.max(1, columns) }, () => Object.assign([], { bends: [] }));
  tasks.forEach(({ x, y }, at) => layers[x].push({ at, y }));
  for (const layer of layers) layer.sort((one, other) => one.y - other.y);
  for (const [x, y] of edges.flatMap(({ via = [] }) => via)) layers[x].bends.push(y);
  return layers;
}

/** The candidates for the maximum number of rows in a column. */
function folds(layers) {
  const highest = layers.reduce((most, layer) => Math.max(most, layer.length), 1);
  const found = [Infinity];
  for (let parts = 2; parts <= MOST_FOLDS && highest / parts >= 3; parts += 1) found.push(Math.ceil(highest / parts));
  return found;
}

/** The columns for layers of at most `most` rows, each with its tasks and their rows. */
function columnsOf(layers, most) {
  const extent = (layer) => (layer.length === 0 ? 1 : layer.at(-1).y - layer[0].y + 1);
  const folded = layers.some((layer) => extent(layer) > most);
  const columns = layers.flatMap((layer) => {
    if (!folded) return [columnOf(layer.map(({ at, y }) => ({ at, row: y })), layer.bends)];
    if (extent(layer) <= most) {
      const middle = layer.length === 0 ? 0 : (layer[0].y + layer.at(-1).y) / 2;
      return [columnOf(layer.map(({ at, y }) => ({ at, row: y - middle })))];
    }
    // Columns of equal height, with the tasks in consecutive rows.
    const rows = Math.ceil(layer.length / Math.ceil(layer.length / most));
    const parts = [];
    for (let from = 0; from < layer.length; from += rows) {
      parts.push(columnOf(layer.slice(from, from + rows).map(({ at }, row) => ({ at, row: row - (rows - 1) / 2 }))));
    }
    return parts;
  });
  return { columns, folded };
}

/** A column with its top and bottom rows. */
function columnOf(tasks, bends = []) {
  let [top, bottom] = [Infinity, -Infinity];
  for (const { row } of tasks) [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
  for (const row of bends) [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
  return { tasks, top, bottom };
}

/** Splits columns into bands of `per` columns. Returns the rows of each band, and functions for the total size. */
function planOf(columns, per, folded) {
  const bands = [];
  for (let from = 0; from < columns.length; from += per) {
    const part = columns.slice(from, from + per);
    const top = Math.min(...part.map((column) => column.top));
    const bottom = Math.max(...part.map((column) => column.bottom));
    bands.push(top === Infinity ? { columns: part, top: 0, rows: 1 } : { columns: part, top, rows: bottom - top + 1 });
  }
  const rows = bands.reduce((sum, band) => sum + band.rows, 0);
  const beside = bands.length > 1 ? 2 * BESIDE : 0;
  const between = (bands.length - 1) * BAND + 2 * MARGIN;
  return {
    bands, per, folded, rows, beside, between,
    wide: (column) => per * column - free(column) + 2 * MARGIN + beside,
    high: (line) => rows * line - bands.length * (line - BOX_HEIGHT) + between,
  };
}

function free(column) {
  return Math.max(FREE.least, column * FREE.part);
}

/** Distributes the rest of the panel among columns and rows, and computes all positions. */
function spread(layout, plan, width, height) {
  const { bands, per, folded, rows, beside, between, least } = plan;
  let { scale } = plan;
  const within = ({ least, most }, wanted) => Math.max(least, Math.min(most, wanted));
  // The free part of the last column is not drawn.
  const column = within({ ...COLUMN, least }, Math.min((width / scale - 2 * MARGIN - beside) / (per - FREE.part), (width / scale - 2 * MARGIN - beside + FREE.least) / per));
  const gaps = Math.max(1, rows - bands.length);
  const line = within(LINE, (height / scale - between - bands.length * BOX_HEIGHT) / gaps);
  const [wide, high] = [plan.wide(column), plan.high(line)];
  if (scale === 1) scale = Math.max(1, Math.min(LARGEST, width / wide, height / high));
  const box = column - free(column);
  const [left, right] = [MARGIN + beside / 2, wide - MARGIN - beside / 2];
  const nodes = [];
  const bandAt = [];
  let top = MARGIN;
  bands.forEach((band, number) => {
    band.columns.forEach(({ tasks }, at) => {
      for (const { at: task, row } of tasks) {
        nodes[task] = { task: layout.tasks[task].task, x: left + at * column, y: top + (row - band.top) * line, wide: box };
        bandAt[task] = number;
      }
    });
    band.y = top;
    top += (band.rows - 1) * line + BOX_HEIGHT + BAND;
  });
  // The bends of an edge are in the layers between its ends. Folded layers have no room for them.
  const bend = ([x, y]) => {
    const [number, at] = [Math.floor(x / per), x % per];
    return { band: number, x: left + at * column, y: bands[number].y + (y - bands[number].top) * line + BOX_HEIGHT / 2 };
  };
  const lines = layout.edges.map(({ from, to, via = [] }) => {
    const [a, b] = [nodes[from], nodes[to]];
    const stops = [{ band: bandAt[from], x: a.x, y: a.y + BOX_HEIGHT / 2 }, ...(folded ? [] : via.map(bend)), { band: bandAt[to], x: b.x, y: b.y + BOX_HEIGHT / 2 }];
    const points = [[a.x + box, stops[0].y]];
    for (let at = 1; at < stops.length; at += 1) {
      const [last, next] = [stops[at - 1], stops[at]];
      if (next.band !== last.band) {
        const gap = bands[next.band].y - BAND / 2;
        points.push([right + BESIDE, last.y], [right + BESIDE, gap], [left - BESIDE, gap], [left - BESIDE, next.y]);
      }
      points.push([next.x, next.y]);
      if (at < stops.length - 1) points.push([next.x + box, next.y]);
    }
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    return { from: a.task, to: b.task, points, top: Math.min(...ys), bottom: Math.max(...ys), left: Math.min(...xs), right: Math.max(...xs) };
  });
  return { nodes, lines, wide, high, scale, folded };
}
