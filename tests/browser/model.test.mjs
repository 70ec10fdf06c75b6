// The parts of the pages that need no browser: the layout of a graph in its panel, the first failure, and the names of
// states.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Past } from "../../replay/web/model.js";
import { BOX_HEIGHT, layOut } from "../../replay/web/layout.js";
import { causeWords, appearance, describeEvent, span, statusWord } from "../../replay/web/words.js";

/**
 * The layout of a report with layers of the given sizes; each task depends on all of the previous layer, or on some.
 * @param {number[]} sizes
 * @param {{ name?: (layer: number, at: number) => string, upstream?: (from: number, to: number) => boolean }} [options]
 */
function layered(sizes, { name = (layer, at) => `task_${layer}_${at}`, upstream = () => true } = {}) {
  const tasks = [];
  const edges = [];
  const layers = sizes.map((size, layer) => Array.from({ length: size }, (_, at) => {
    tasks.push({ task: name(layer, at), x: layer, y: at + (Math.max(...sizes) - size) / 2 });
    return tasks.length - 1;
  }));
  layers.slice(1).forEach((layer, at) => layer.forEach((to) => layers[at].filter((from) => upstream(from, to)).forEach((from) => edges.push({ from, to }))));
  return { columns: sizes.length, rows: Math.max(...sizes), tasks, edges };
}

const GRAPHS = {
  "one task": layered([1]),
  "two tasks": layered([1, 1]),
  "a chain of 50": layered(Array(50).fill(1)),
  "a fan-out of 100": layered([1, 100, 1]),
  "two fan-outs after each other": layered([1, 60, 1, 60, 1]),
  "long names": layered([3, 3, 3, 3, 1, 2, 1], { name: (layer, at) => `aggregate_revenue_by_region_and_product_line_${layer}${at}` }),
  "5,000 tasks": layered(Array(100).fill(50), { upstream: (from, to) => to - from === 50 }),
  "a layer of 5,000": layered([1, 5_000]),
  "no edges": layered([30], { upstream: () => false }),
};
const PANELS = [[378, 300], [820, 330], [1_600, 900], [200, 90], [300, 1_000]];

describe("a graph in its panel", () => {
  // Regression: "Fit" showed only a part of the graph, because boxes that were too small to read were enlarged beyond the panel.
  test("fits, and no two boxes overlap", () => {
    for (const [name, layout] of Object.entries(GRAPHS)) {
      for (const [width, height] of PANELS) {
        const { nodes, wide, high, scale } = layOut(layout, width, height);
        const where = `${name} in ${width} × ${height}`;
        assert.ok(wide * scale <= width + 0.01 && high * scale <= height + 0.01, `${where}: ${wide * scale} × ${high * scale}`);
        assert.equal(nodes.length, layout.tasks.length, where);
        const sorted = [...nodes].sort((one, other) => one.x - other.x || one.y - other.y);
        for (const [at, { x, y, wide: box }] of sorted.entries()) {
          assert.ok(x >= 0 && y >= 0 && x + box <= wide + 0.01 && y + BOX_HEIGHT <= high + 0.01, `${where}: ${x}, ${y}`);
          const next = sorted[at + 1];
          if (next?.x === x) assert.ok(next.y - y >= BOX_HEIGHT, `${where}: ${next.task} lies on ${sorted[at].task}`);
          else if (next) assert.ok(next.x - x > box, `${where}: no room for edges`);
        }
      }
    }
  });

  test("has lines that begin and end at their tasks, and stay in it", () => {
    for (const [name, layout] of Object.entries(GRAPHS)) {
      const { nodes, lines, wide, high } = layOut(layout, 820, 330);
      const at = new Map(nodes.map((node) => [node.task, node]));
      assert.equal(lines.length, layout.edges.length);
      for (const { from, to, points } of lines) {
        const [a, b] = [at.get(from), at.get(to)];
        assert.deepEqual(points[0], [a.x + a.wide, a.y + BOX_HEIGHT / 2], name);
        assert.deepEqual(points.at(-1), [b.x, b.y + BOX_HEIGHT / 2], name);
        for (const [x, y] of points) assert.ok(x >= 0 && x <= wide && y >= 0 && y <= high, `${name}: ${x}, ${y} of ${wide} × ${high}`);
      }
    }
  });

  // Regression: a chain of 50 was a thin line through an empty panel, and a fan-out of 100 a column of dashes.
  test("is large enough to be read if the panel has space for it", () => {
    for (const name of ["a chain of 50", "a fan-out of 100", "long names"]) {
      const { wide, high, scale } = layOut(GRAPHS[name], 820, 330);
      assert.ok(scale >= 0.5, `${name}: ${scale}`);
      assert.ok(wide * scale >= 0.7 * 820 && high * scale >= 0.6 * 330, `${name}: ${wide * scale} × ${high * scale}`);
    }
    const few = layOut(layered([2, 2, 2, 2, 2]), 820, 330).nodes;
    assert.equal(new Set(few.map(({ x }) => x)).size, 5, "what fits in one band is one");
  });

  test("bends an edge around the boxes between, also into the next band", () => {
    const layout = layered(Array(12).fill(1));
    layout.edges.push({ from: 0, to: 11, via: Array.from({ length: 10 }, (_, at) => [at + 1, 1]) });
    layout.rows = 2;
    const { nodes, lines, wide, high } = layOut(layout, 400, 400);
    const { points } = lines.at(-1);
    for (const [x, y] of points) assert.ok(x >= 0 && x <= wide && y >= 0 && y <= high);
    for (const node of nodes.slice(1, 11)) {
      const inside = points.some(([x, y]) => x > node.x && x < node.x + node.wide && y > node.y && y < node.y + BOX_HEIGHT);
      assert.ok(!inside, `it runs through ${node.task}`);
    }
  });
});

/** The documents of an execution with these events, each with what its frame says. */
function pastOf(...events) {
  const entries = events.map(([event, body], seq) => ({ seq, event, body, time: `2026-12-01T00:00:0${seq}.000000Z` }));
  const history = { execution: { status: "Failed" }, tasks: [], collisions: [], definitions: [], events: entries };
  const frames = events.map(([, , frame], seq) => ({ seq, ...frame }));
  return new Past(JSON.stringify(history), JSON.stringify({ layouts: [], frames }));
}

// Regression: the page named the failure of the task that started first, though another task had failed long before.
test("the first failure is the earliest one that was not retried", () => {
  const started = (task, attempt = 1) => ["TaskStarted", { task, attempt, worker: 0 }];
  const failed = (task, attempt, retry_at) => ["TaskFailed", { task, attempt, retry_at, error: {} }];
  const past = pastOf(["ExecutionStarted", {}], started("slow"), started("quick"), started("flaky"), failed("flaky", 1, "2026-12-01T00:00:05.000000Z"), failed("quick", 1), started("flaky", 2), failed("slow", 1));
  assert.deepEqual(past.failures.map(({ task }) => task), ["quick", "slow"]);
});

test("a task that a retry put back has not failed, and one whose failure was handled has", () => {
  const started = (task, attempt = 1) => ["TaskStarted", { task, attempt, worker: 0 }];
  const failed = (task, attempt = 1) => ["TaskFailed", { task, attempt, retry_at: null, error: {} }];
  const before = [["ExecutionStarted", {}], started("load"), started("fetch"), failed("load"), failed("fetch"), ["ExecutionFailed", { reason: "" }]];
  const put = { tasks: { load: ["Pending", 1, true], fetch: ["Failed", 1, false] } };
  const past = pastOf(...before, ["ExecutionRetried", { by: "ann", reason: null }, put]);
  assert.deepEqual(past.failures.map(({ task }) => task), ["fetch"]);
  assert.deepEqual(past.failuresAt(5).map(({ task }) => task), ["load", "fetch"]);
  assert.deepEqual(past.marks.map(({ seq, event }) => [seq, event]), [[6, "ExecutionRetried"]]);
  assert.equal(describeEvent(past.events[6]).words, "retried by ann");
  const again = pastOf(...before, ["ExecutionRetried", { by: "ann", reason: "up" }, put], started("load", 2), [...failed("load", 2), { tasks: { load: ["Failed", 2, false] } }]);
  assert.deepEqual(again.failures.map(({ task, number }) => [task, number]), [["fetch", 1], ["load", 2]]);
});

test("every state has its own sign and word, even an unknown one", () => {
  const known = ["Running", "Waiting", "Deferred", "Blocked", "Damaged", "NotRunning", "Paused", "Completed", "Failed", "Cancelled"];
  for (const status of known) assert.notEqual(appearance(status).sign, "?", status);
  assert.equal(new Set(known.map((status) => appearance(status).word)).size, known.length);
  assert.deepEqual([appearance("SomethingNew").sign, appearance("SomethingNew").word], ["?", "something new"]);
  assert.equal(appearance(undefined).word, "unknown");
  assert.deepEqual(["NotRunning", "Failed", "held_back"].map(statusWord), ["Not running", "Failed", "Held back"]);
});

test("every cause has its words, even an unknown one", () => {
  const schedule = { kind: "schedule", schedule: "01a2301c-5736-7639-981a-ab9fca14ff8c" };
  const causes = [undefined, { kind: "call" }, schedule, { kind: "trigger", name: "new_files" }, { kind: "started_by_hand" }];
  assert.deepEqual(causes.map(causeWords), ["", "call", "schedule …ca14ff8c", "trigger new_files", "started by hand"]);
});

describe("spans of time", () => {
  // The same values as in the test of `words::span`. Regression: pages showed 99 ms where the terminal showed 0.099 s.
  test("are written as in the terminal", () => {
    const shown = [0, 2_000, 99_499, 410_000, 3_420_000, 125_000_000, 3_720_000_000, 200_000_000_000].map(span);
    assert.deepEqual(shown, ["0.000 s", "0.002 s", "0.099 s", "0.41 s", "3.42 s", "2 min 05 s", "1 h 02 min", "2 d 8 h"]);
    const rounded = [499, 500, 99_500, 99_994_999, 99_995_000, 3_599_500_000, 172_770_000_000].map(span);
    assert.deepEqual(rounded, ["0.000 s", "0.001 s", "0.10 s", "99.99 s", "1 min 40 s", "1 h 00 min", "2 d 0 h"]);
  });
});
