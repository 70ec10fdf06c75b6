// Where the tasks of a graph lie in a panel, so that all of it is seen as large as it can be: columns and rows take the
// room that there is, a layer that is too high is folded into a block of columns, and a row of layers that is too long is
// broken into bands, as words are into lines. The report says which layer a task is in and in which order; this draws
// nothing and needs no browser.

/** How high the box of a task is, in pixels: two lines of its name, or three small ones. */
export const HIGH = 44;
/** How far columns and rows lie from each other, in pixels, at least and at most. */
const COLUMN = { least: 112, most: 250 };
const LINE = { least: 58, most: 96 };
/** What a name needs of its column: so much for each of its letters in three lines, and so much beside. But not more than `most`. */
const NAME = { letter: 2.3, beside: 80, most: 172 };
/** The part of a column that is left free for edges, and how much that is at least. */
const FREE = { part: 0.16, least: 24 };
const MARGIN = 14;
/** Between two bands, and beside them, where edges go from one to the next. */
const BAND = 26;
const BESIDE = 14;
/** A small graph is drawn larger than its natural size, up to this. */
const LARGEST = 1.3;
const MOST_BANDS = 16;
const MOST_FOLDS = 40;
/** Reading on in the next band, or in the next column of a block, costs the reader something: so much must it gain. */
const PRICE = { band: 0.8, more: 0.99, fold: 0.95 };

/**
 * Where tasks and edges lie: `{ nodes, lines, wide, high, scale, folded }`, in pixels of a picture of `wide` × `high` that is shown
 * at this scale. A line is a list of points.
 */
export function placed(layout, width, height) {
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

/** The tasks of each layer, by their places in `tasks`, from top to bottom; and in `bends` how high edges pass. */
function layersOf({ tasks, edges, columns }) {
  /** @type {(Array<{ at: number, y: number }> & { bends: number[] })[]} */
  const layers = Array.from({ length: Math.max(1, columns) }, () => Object.assign([], { bends: [] }));
  tasks.forEach(({ x, y }, at) => layers[x].push({ at, y }));
  for (const layer of layers) layer.sort((one, other) => one.y - other.y);
  for (const [x, y] of edges.flatMap(({ via = [] }) => via)) layers[x].bends.push(y);
  return layers;
}

/** How many rows a column may have at most: the numbers that are worth trying. */
function folds(layers) {
  const highest = layers.reduce((most, layer) => Math.max(most, layer.length), 1);
  const found = [Infinity];
  for (let parts = 2; parts <= MOST_FOLDS && highest / parts >= 3; parts += 1) found.push(Math.ceil(highest / parts));
  return found;
}

/** The columns that layers make if none may have more than `most` rows: in each its tasks with their rows. */
function columnsOf(layers, most) {
  const extent = (layer) => (layer.length === 0 ? 1 : layer.at(-1).y - layer[0].y + 1);
  const folded = layers.some((layer) => extent(layer) > most);
  const columns = layers.flatMap((layer) => {
    if (!folded) return [columnOf(layer.map(({ at, y }) => ({ at, row: y })), layer.bends)];
    if (extent(layer) <= most) {
      const middle = layer.length === 0 ? 0 : (layer[0].y + layer.at(-1).y) / 2;
      return [columnOf(layer.map(({ at, y }) => ({ at, row: y - middle })))];
    }
    // Columns of the same height, and in each the tasks below each other.
    const rows = Math.ceil(layer.length / Math.ceil(layer.length / most));
    const parts = [];
    for (let from = 0; from < layer.length; from += rows) {
      parts.push(columnOf(layer.slice(from, from + rows).map(({ at }, row) => ({ at, row: row - (rows - 1) / 2 }))));
    }
    return parts;
  });
  return { columns, folded };
}

/** A column, with its highest row and its lowest. */
function columnOf(tasks, bends = []) {
  let [top, bottom] = [Infinity, -Infinity];
  for (const { row } of tasks) [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
  for (const row of bends) [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
  return { tasks, top, bottom };
}

/** Columns in bands of so many: where each band's rows begin and end, and how large it all is at some distances. */
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
    high: (line) => rows * line - bands.length * (line - HIGH) + between,
  };
}

function free(column) {
  return Math.max(FREE.least, column * FREE.part);
}

/** Gives the rest of the panel to columns and rows, and says where everything lies. */
function spread(layout, plan, width, height) {
  const { bands, per, folded, rows, beside, between, least } = plan;
  let { scale } = plan;
  const within = ({ least, most }, wanted) => Math.max(least, Math.min(most, wanted));
  // The free part of the last column is not drawn.
  const column = within({ ...COLUMN, least }, Math.min((width / scale - 2 * MARGIN - beside) / (per - FREE.part), (width / scale - 2 * MARGIN - beside + FREE.least) / per));
  const gaps = Math.max(1, rows - bands.length);
  const line = within(LINE, (height / scale - between - bands.length * HIGH) / gaps);
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
    top += (band.rows - 1) * line + HIGH + BAND;
  });
  // The bends of an edge lie in the layers between; where layers are folded there is no room for them.
  const bend = ([x, y]) => {
    const [number, at] = [Math.floor(x / per), x % per];
    return { band: number, x: left + at * column, y: bands[number].y + (y - bands[number].top) * line + HIGH / 2 };
  };
  const lines = layout.edges.map(({ from, to, via = [] }) => {
    const [a, b] = [nodes[from], nodes[to]];
    const stops = [{ band: bandAt[from], x: a.x, y: a.y + HIGH / 2 }, ...(folded ? [] : via.map(bend)), { band: bandAt[to], x: b.x, y: b.y + HIGH / 2 }];
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
