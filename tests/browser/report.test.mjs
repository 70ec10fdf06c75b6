// The report in a real browser: it shows what replay prints, all panels follow the slider, and it works without a mouse.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { textAt, membersOf } from "../../replay/web/raw.js";
import { browse, build, closeQuiet, drawn, IDS, Log, openPage } from "./support.mjs";

let browser;
let log;

before(async () => {
  build();
  log = new Log("report");
  browser = await browse();
});

after(() => browser?.close());

const open = (id, address = "", options = {}) => openPage(browser, `file://${log.report(id)}${address}`, options);

/** Moves the slider as a user does, and waits for the redraw. */
async function slide(page, seq) {
  await page.locator("#slider").evaluate((slider, value) => {
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }, seq);
  await drawn(page);
}

/** Returns what the page shows: its state, its elements, and pixels of its canvases. */
async function shown(page) {
  // As pairs: a task may be called `__proto__`, which is lost when an object is serialized.
  const found = await page.evaluate(() => {
    const { past, moment, graph, timeline } = window.replay;
    const pixel = (picture, x, y) => {
      const ratio = window.devicePixelRatio;
      return [...picture.context.getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data];
    };
    const inGraph = (node) => pixel(graph.picture, (node.x + 6) * graph.scale + graph.x, (node.y + 6) * graph.scale + graph.y);
    return {
      status: moment.status,
      tasks: [...moment.tasks].map(([task, { state, attempts }]) => [task, [state, attempts]]),
      ready: [...moment.tasks].filter(([, { ready }]) => ready).map(([task]) => task).sort(),
      context: [...moment.context.keys()].map((key) => [key, past.value(moment, key)]),
      slider: /** @type {HTMLInputElement} */ (document.getElementById("slider")).value,
      seq: document.getElementById("seq").textContent,
      event: document.querySelector('#events [aria-selected="true"] .seq')?.textContent,
      rows: [...document.querySelectorAll("#context .row .key")].map((cell) => cell.textContent),
      nodes: graph.nodes.map((node) => [node.task, inGraph(node)]),
      // Skip bars under the cursor line: their pixels have its colour.
      bars: timeline.hits.filter(({ x }) => Math.abs(x - timeline.cursor) > 4).map(({ x, y, attempt }) => ({ task: attempt.task, number: attempt.number, pixel: pixel(timeline.picture, x + 1.6, y + 11) })),
    };
  });
  for (const name of ["tasks", "context", "nodes"]) found[name] = new Map(found[name]);
  return found;
}

/** The colours of the theme as numbers. */
function palette(page) {
  return page.evaluate(() => {
    const probe = document.body.appendChild(document.createElement("span"));
    const names = ["surface", "pending", "ready", "running", "retry", "completed", "failed", "skipped", "cancelled", "abandoned"];
    const read = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    };
    const found = Object.fromEntries(names.map((name) => [name, read(name)]));
    probe.remove();
    return found;
  });
}

const COLOUR = { Pending: "pending", Running: "running", WaitingRetry: "retry", Completed: "completed", Failed: "failed", Skipped: "skipped", Cancelled: "cancelled", Abandoned: "abandoned" };

/** The distance of a pixel from a colour that is blended over the surface. */
function distance([r, g, b, a], surface, colour, alpha) {
  const seen = [r, g, b].map((value, at) => (value * a) / 255 + surface[at] * (1 - a / 255));
  return Math.max(...seen.map((value, at) => Math.abs(value - (colour[at] * alpha + surface[at] * (1 - alpha)))));
}

describe("the slider", () => {
  for (const name of ["tutorial", "failed", "recovered", "skipped", "collision", "cancelled", "running", "hostile", "retried"]) {
    test(`moves everything in ${name} to the state that replay --at tells`, async () => {
      const page = await open(IDS[name]);
      const colours = await palette(page);
      const last = await page.evaluate(() => window.replay.past.last);
      const seqs = [...new Set([Math.floor(last / 3), last, Math.floor(last / 2), 1])];
      for (const seq of seqs) {
        await slide(page, seq);
        const says = log.replay(IDS[name], "--at", String(seq), "--json");
        const { state } = JSON.parse(says);
        const page_ = await shown(page);
        const where = `${name}, seq ${seq}`;
        assert.equal(page_.status, state.status, where);
        assert.deepEqual(page_.tasks, new Map(state.tasks.map((task) => [task.task, [task.state, task.attempts]])), where);
        assert.deepEqual(page_.ready, [...state.ready].sort(), where);
        // Compare each value as its original text.
        // HTML normalizes line breaks.
        const text = (key) => textAt(says, ["state", "context", key]).replaceAll("\r\n", "\n");
        const texts = new Map(Object.keys(state.context).map((key) => [key, text(key)]));
        assert.deepEqual(page_.context, texts, where);
        assert.equal(page_.slider, String(seq), where);
        assert.equal(page_.seq, `${seq} / ${last}`, where);
        assert.equal(page_.event, String(seq), where);
        assert.deepEqual(page_.rows, [...texts.keys()].sort().slice(0, page_.rows.length).map((key) => key), where);
        assert.equal(page_.rows.length > 0, texts.size > 0, where);
        for (const [task, pixel] of page_.nodes) {
          const [name_] = page_.tasks.get(task);
          // At the end of an execution without a process, an unfinished attempt is not shown as running.
          const isLeft = name === "running" && seq === last && name_ === "Running";
          const colour = isLeft ? "abandoned" : name_ === "Pending" && page_.ready.includes(task) ? "ready" : COLOUR[name_];
          const alpha = colour === "failed" || colour === "running" ? 0.2 : 0.1;
          assert.ok(distance(pixel, colours.surface, colours[colour], alpha) < 8, `${where}: ${task} is ${colour}, its pixel ${pixel}`);
        }
      }
      await closeQuiet(page);
    });
  }

  test("moves the timeline: ended, running and future attempts", async () => {
    const page = await open(IDS.retried);
    const colours = await palette(page);
    for (const seq of [20, 31, 37, 53]) {
      await slide(page, seq);
      const { bars } = await shown(page);
      assert.ok(bars.length > 5);
      const events = JSON.parse(log.replay(IDS.retried, "--json")).events;
      for (const { task, number, pixel } of bars) {
        const of = events.filter((event) => event.body?.task === task && event.body.attempt === number);
        const begun = of.find((event) => event.event === "TaskStarted").seq <= seq;
        const ended = of.find((event) => /^Task(Completed|Failed|Abandoned)$/.test(event.event) && event.seq <= seq);
        const outcome = { TaskCompleted: "completed", TaskFailed: "failed" }[(ended ?? of.at(-1)).event];
        const [colour, alpha] = ended ? [outcome, 0.85] : begun ? ["running", 1] : [outcome, 0.16];
        assert.ok(distance(pixel, colours.surface, colours[colour], alpha) < 14, `seq ${seq}: ${task} ${number} is ${colour} at ${alpha}, its pixel ${pixel}`);
      }
    }
    await closeQuiet(page);
  });
});

describe("why", () => {
  for (const [name, key, seqs] of [["tutorial", "batch_1_result", [16]], ["retried", "ranking", [53, 44]], ["collision", "total", [13, 9, 7]], ["completed", "loaded", [11]], ["retried", "published", [53]]]) {
    test(`tells where ${key} of ${name} came from, as replay why does`, async () => {
      const page = await open(IDS[name]);
      for (const seq of seqs) {
        await slide(page, seq);
        const { steps } = JSON.parse(log.replay(IDS[name], "why", key, "--at", String(seq), "--json"));
        const told = await page.evaluate((key) => window.replay.past.why(window.replay.moment, key).map((step) => [step.depth, step.key, step.how, step.seq ?? null, step.task ?? null, step.attempt ?? null, step.toldBefore ?? false, step.readAll ?? false]), key);
        const said = steps.map((step) => [step.depth, step.key, step.how, step.seq, step.task, step.attempt, step.told_before, step.read_all]);
        assert.deepEqual(told, said, `${name} ${key} at ${seq}`);
        await page.locator("#context .row", { has: page.locator(".key", { hasText: new RegExp(`^${key}$`) }) }).click();
        assert.equal(await page.locator("#inspector-title bdi").textContent(), key);
        const items = page.locator("#inspector .why li");
        assert.equal(await items.count(), steps.length);
        for (const [at, step] of steps.entries()) {
          const text = await items.nth(at).textContent();
          assert.ok(text.startsWith(step.key), text);
          if (step.task) assert.ok(text.includes(`written by ${step.task}, attempt ${step.attempt}`), text);
        }
      }
      await closeQuiet(page);
    });
  }

  test("marks undeclared reads and collisions in words", async () => {
    const tutorial = await open(IDS.tutorial, "#key=batch_1_result");
    await assert.doesNotReject(tutorial.locator("#inspector .undeclared .warn", { hasText: "does not depend on the task that wrote it" }).waitFor());
    await closeQuiet(tutorial);
    const collision = await open(IDS.collision, "#key=total");
    await collision.locator("#inspector .warning", { hasText: "Collision" }).waitFor();
    assert.equal(await collision.locator("#inspector .collided").count(), 2);
    const met = JSON.parse(log.replay(IDS.collision, "--json")).tasks.find(({ task }) => task === "join").collisions[0];
    await collision.evaluate(() => window.replay.choose("join"));
    assert.match(await collision.locator("#inspector .warning").textContent(), new RegExp(`total was written by .*; the value of seq ${met.taken.join(" and ")} was taken`));
    await closeQuiet(collision);
  });
});

describe("a task", () => {
  test("is shown with its attempts, error, hint and source when it is clicked in the graph", async () => {
    const page = await open(IDS.tutorial, "#seq=16");
    await drawn(page);
    const place = await page.evaluate(() => {
      const { graph } = window.replay;
      const node = graph.nodes.find(({ task }) => task === "distribute_workload");
      const box = graph.host.getBoundingClientRect();
      return { x: box.left + graph.x + (node.x + node.wide / 2) * graph.scale, y: box.top + graph.y + (node.y + 17) * graph.scale };
    });
    await page.mouse.click(place.x, place.y);
    const text = await page.locator("#inspector-body").textContent();
    const { tasks } = JSON.parse(log.replay(IDS.tutorial, "--json"));
    const { attempts } = tasks.find(({ task }) => task === "distribute_workload");
    assert.ok(text.includes(attempts[0].error.message) && text.includes(attempts[0].error.kind));
    assert.ok(attempts[0].hint && text.includes(attempts[0].hint), attempts[0].hint);
    assert.ok(text.includes("undeclared: this task does not depend on the one that wrote it"));
    assert.equal(await page.locator("#inspector .attempt").count(), 2);
    await closeQuiet(page);
    const retried = await open(IDS.retried, "#task=score_east");
    assert.ok((await retried.locator("#inspector").textContent()).includes('@task(id="score_east")'));
    await closeQuiet(retried);
  });

  test("shows what it waits for, and why it was skipped", async () => {
    const page = await open(IDS.retried, "#seq=20&task=rank");
    assert.match(await page.locator("#inspector-body").textContent(), /It waits for score_north, score_east, score_south, score_west\./);
    await closeQuiet(page);
    const skipped = await open(IDS.skipped, "#task=large");
    assert.match(await skipped.locator("#inspector-body").textContent(), /rows GreaterThan 1000 does not hold/);
    await closeQuiet(skipped);
  });
});

describe("the keyboard", () => {
  test("moves through the events and to failures, opens why, help and filter, and closes them", async () => {
    const page = await open(IDS.failed, "#seq=5");
    const seq = async () => Number((await page.locator("#seq").textContent()).split(" ")[0]);
    await page.keyboard.press("ArrowRight");
    assert.equal(await seq(), 6);
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("ArrowLeft");
    assert.equal(await seq(), 4);
    await page.keyboard.press("Shift+ArrowRight");
    assert.equal(await seq(), 5, "the next event of another task");
    await page.keyboard.press("n");
    assert.equal(await seq(), 7, "the next failure");
    assert.equal(await page.locator("#inspector-title bdi").textContent(), "load");
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#inspector").isHidden());
    await page.keyboard.press("End");
    assert.equal(await seq(), 16);
    await page.keyboard.press("Home");
    assert.equal(await seq(), 0);
    await page.keyboard.press("End");
    await page.keyboard.press("w");
    assert.equal(await page.locator("#inspector-title bdi").textContent(), "rows");
    await page.keyboard.press("?");
    assert.ok(await page.locator("#help").isVisible());
    await page.keyboard.press("ArrowLeft");
    assert.equal(await seq(), 16, "the help has the keyboard");
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#help").isHidden());
    await page.keyboard.press("/");
    await page.keyboard.type("skipped");
    assert.equal(await page.locator("#events-count").textContent(), "2 of 17 events");
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#events-count").textContent(), "17 events");
    await page.keyboard.press("e");
    await page.keyboard.press("ArrowUp");
    assert.equal(await seq(), 15, "the list of events moves the slider too");
    await page.keyboard.press("g");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.evaluate(() => window.replay.task), "load");
    assert.match(await page.locator("#announcements").textContent(), /^load, failed$/);
    await page.keyboard.press("Enter");
    assert.equal(await page.locator("#inspector-title bdi").textContent(), "load");
    await closeQuiet(page);
  });

  test("reaches every control in an order that can be followed, each with a name", async () => {
    const page = await open(IDS.retried, "#task=join");
    const reached = [];
    for (let at = 0; at < 80; at += 1) {
      await page.keyboard.press("Tab");
      const name = await page.evaluate(() => {
        const at = /** @type {HTMLElement} */ (document.activeElement);
        return at === document.body ? undefined : `${at.id || at.tagName} | ${at.getAttribute("aria-label") ?? at.title ?? ""}${at.textContent.slice(0, 30)}`;
      });
      if (name === undefined) break;
      reached.push(name);
    }
    const ids = reached.map((name) => name.split(" | ")[0]);
    for (const [one, other] of [["filter", "slider"], ["slider", "graph"], ["graph", "timeline"], ["timeline", "events"], ["events", "context"], ["context", "inspector-close"]]) {
      assert.ok(ids.includes(one) && ids.indexOf(one) < ids.indexOf(other), `${one} before ${other}: ${ids}`);
    }
    assert.ok(reached.every((name) => !name.endsWith("| ")), reached.find((name) => name.endsWith("| ")));
    await closeQuiet(page);
  });

  test("plays to the end and stops there", async () => {
    const page = await open(IDS.completed, "#seq=8");
    await page.keyboard.press("Space");
    await page.waitForFunction(() => window.replay.moment.seq === window.replay.past.last);
    assert.equal(await page.locator("#play").getAttribute("aria-pressed"), "false");
    await closeQuiet(page);
  });
});

describe("addresses", () => {
  test("contain the moment, the task and the key, and restore them", async () => {
    const page = await open(IDS.retried, "#seq=41&task=score_east");
    assert.equal(await page.locator("#slider").inputValue(), "41");
    assert.equal(await page.locator("#inspector-title bdi").textContent(), "score_east");
    await page.keyboard.press("ArrowLeft");
    await page.waitForFunction(() => location.hash === "#seq=40&task=score_east");
    await page.evaluate(() => (location.hash = "#seq=12&key=rows"));
    await page.waitForFunction(() => document.querySelector("#inspector-title bdi").textContent === "rows");
    assert.equal(await page.locator("#seq").textContent(), "12 / 53");
    await page.evaluate(() => (location.hash = "#seq=999999"));
    await page.waitForFunction(() => document.getElementById("seq").textContent === "53 / 53");
    await closeQuiet(page);
  });
});

describe("themes", () => {
  const dark = (page) => page.evaluate(() => {
    const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).map(Number);
    return r + g + b < 200;
  });

  test("follow the system, and can be switched", async () => {
    const page = await open(IDS.failed, "", { dark: true });
    assert.equal(await dark(page), true);
    await drawn(page);
    const before = await page.evaluate(() => window.replay.graph.picture.canvas.toDataURL());
    await page.keyboard.press("t");
    await drawn(page);
    assert.equal(await dark(page), false, "light");
    assert.notEqual(await page.evaluate(() => window.replay.graph.picture.canvas.toDataURL()), before, "the graph is drawn anew");
    await page.keyboard.press("t");
    assert.equal(await dark(page), true, "dark");
    await page.emulateMedia({ colorScheme: "light" });
    assert.equal(await dark(page), true, "it was asked for");
    await page.keyboard.press("t");
    assert.equal(await dark(page), false, "as the system has it");
    await closeQuiet(page);
  });

  test("keep words readable: 4.5 to 1 at least", async () => {
    for (const theme of [false, true]) {
      const page = await open(IDS.failed, "", { dark: theme });
      const ratios = await page.evaluate(() => {
        const light = (colour) => colour.slice(0, 3).map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)).reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
        const probe = document.body.appendChild(document.createElement("span"));
        const read = (name) => {
          probe.style.color = `var(--${name})`;
          return light(getComputedStyle(probe).color.match(/[\d.]+/g).map(Number));
        };
        const surface = read("surface");
        return ["text", "muted", "accent", "running", "retry", "completed", "failed", "cancelled", "abandoned", "waiting", "value"].map((name) => {
          const colour = read(name);
          return { name, ratio: (Math.max(colour, surface) + 0.05) / (Math.min(colour, surface) + 0.05) };
        });
      });
      for (const { name, ratio } of ratios) assert.ok(ratio >= 4.5, `${theme ? "dark" : "light"}: ${name} has ${ratio}`);
      await closeQuiet(page);
    }
  });
});

describe("the graph", () => {
  // Regression: names were shortened in the middle: a box showed `anal…mers`.
  test("shows whole names, in as many lines as they need", async () => {
    for (const width of [1600, 400]) {
      const page = await open(IDS.tutorial, "", { width });
      await page.evaluate(() => {
        const { context } = window.replay.graph.picture;
        window.texts = [];
        const { fillText } = context;
        context.fillText = function noted(text, ...place) {
          window.texts.push(text);
          return fillText.call(this, text, ...place);
        };
        window.replay.graph.redraw();
      });
      await drawn(page);
      const { texts, names } = await page.evaluate(() => ({ texts: window.texts, names: window.replay.graph.nodes.map(({ name }) => name) }));
      const all = texts.join("");
      for (const name of names) {
        const lines = texts.filter((text) => text.length > 2 && name.includes(text));
        assert.ok(lines.length > 0 && all.replace(/[^a-z0-9_]/g, "").includes(name), `${name} in ${texts} at ${width}`);
      }
      await closeQuiet(page);
    }
  });

  test("is completely visible after Fit, from any position and zoom", async () => {
    for (const [id, width] of [[IDS.tutorial, 400], [IDS.many, 1280], [IDS.retried, 1280]]) {
      const page = await open(id, "", { width });
      await drawn(page);
      await page.evaluate(() => document.getElementById("graph").focus());
      for (let at = 0; at < 4; at += 1) await page.locator("#graph-panel").getByLabel("Zoom in").click();
      await page.locator("#graph-panel").getByText("Fit", { exact: true }).click();
      await drawn(page);
      const { seen, all } = await page.evaluate(() => {
        const { graph } = window.replay;
        const { width, height } = graph.picture;
        const inside = ({ x, y, wide }) => graph.x + x * graph.scale >= -0.01 && graph.y + y * graph.scale >= -0.01 && graph.x + (x + wide) * graph.scale <= width + 0.01 && graph.y + (y + 40) * graph.scale <= height + 0.01;
        return { seen: graph.nodes.filter(inside).length, all: graph.nodes.length };
      });
      assert.equal(seen, all);
      await closeQuiet(page);
    }
  });
});

describe("the timeline", () => {
  // Regression: the bars of unfinished attempts, and very short bars with their minimum width, extended beyond the axis.
  test("has no bar beyond its axis", async () => {
    for (const id of [IDS.completed, IDS.failed, IDS.running, IDS.cancelled, IDS.recovered, IDS.retried, IDS.many]) {
      const page = await open(id);
      for (const zoom of [false, true]) {
        if (zoom) await page.locator("#timeline-panel").getByLabel("Zoom in").click();
        await drawn(page);
        const out = await page.evaluate(() => {
          const { timeline } = window.replay;
          const end = timeline.gutter + timeline.until * timeline.perMicro - timeline.host.scrollLeft;
          return timeline.hits.filter(({ x, wide }) => x + wide > end + 0.01 || wide < 3).length;
        });
        assert.equal(out, 0, `${id}${zoom ? ", zoomed" : ""}`);
      }
      await closeQuiet(page);
    }
  });

  // Regression: a failed execution opened at its first tasks, and users had to scroll to the failed one.
  test("opens at the failure", async () => {
    const page = await open(IDS.failed, "", { height: 400 });
    await page.evaluate(() => {
      // Pretend that a hundred tasks ran before the failed one.
      const { timeline } = window.replay;
      const { rebuild } = timeline;
      timeline.rebuild = function with_more() {
        rebuild.call(this);
        this.lanes = [...Array.from({ length: 100 }, (_, at) => ({ name: `before ${at}`, title: `before ${at}`, attempts: [] })), ...this.lanes];
        this.laneOf = new Map(this.lanes.map((lane, at) => [lane.name, at]));
      };
      timeline.rebuild();
      timeline.grow();
      timeline.update();
    });
    await drawn(page);
    const { y, height } = await page.evaluate(() => {
      const { timeline } = window.replay;
      return { y: timeline.hits.find(({ attempt }) => attempt.task === "load")?.y, height: timeline.host.clientHeight };
    });
    assert.ok(y >= 0 && y < height, `the lane of what failed lies at ${y} of ${height}`);
    await closeQuiet(page);
  });
});

// Regression: the badge of a new key was as wide as the column, with an empty frame.
test("the badge of a new context key is as wide as its word", async () => {
  const page = await open(IDS.completed);
  const written = JSON.parse(log.replay(IDS.completed, "--json")).events.find(({ event, body }) => event === "ContextWritten" && body.task === null);
  await slide(page, written.seq);
  const { box, word } = await page.locator("#context .note").first().evaluate((note) => {
    const range = document.createRange();
    range.selectNodeContents(note);
    return { box: note.getBoundingClientRect().width, word: range.getBoundingClientRect().width };
  });
  assert.ok(box - word < 14, `${box} for ${word}`);
  await closeQuiet(page);
});

describe("hostile values", () => {
  test("are shown as text and never run", async () => {
    const page = await open(IDS.hostile, "#key=huge");
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.equal(await page.evaluate(() => ({}).polluted), undefined);
    assert.equal(await page.locator("img, svg, b, main script").count(), 0);
    assert.ok((await page.locator("#workflow").textContent()).startsWith("<b>hostile</b> ‹U+2028› & co"));
    assert.equal(await page.locator("#inspector pre.value").evaluate((block) => block.textContent.length < 3_000), true, "a huge value is cut");
    assert.match(await page.locator("#inspector .below").textContent(), /1.5 KB of 1.0 MB shown/);
    await page.locator("#inspector .more").click();
    assert.equal(await page.locator("#inspector pre.value").evaluate((block) => block.textContent.length > 50_000), true);
    for (const key of ["__proto__", "numbers", "lines", "<img src=x onerror=window.pwned=1>", "javascript:window.pwned=1", "constructor"]) {
      await page.evaluate((key) => window.replay.chooseKey(key), key);
      assert.equal(await page.locator("#inspector-title bdi").textContent(), key);
    }
    await page.evaluate(() => window.replay.chooseKey("numbers"));
    assert.match(await page.locator("#inspector pre.value").textContent(), /12345678901234567890,\s+1\.10,\s+1e2,\s+-0\.0/);
    for (const task of await page.evaluate(() => [...window.replay.moment.tasks.keys()])) await page.evaluate((task) => window.replay.choose(task), task);
    const shown = await page.evaluate(() => document.body.innerText);
    assert.doesNotMatch(shown, /[\u0000-\u0008\u000b-\u001f\u202a-\u202e\u2066-\u2069]/, "no control characters reach the screen");
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    await closeQuiet(page);
  });

  test("cannot do anything that the page may not do", async () => {
    const page = await open(IDS.hostile);
    const ran = await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.pwned = 2";
      document.body.append(script);
      return window.pwned;
    });
    assert.equal(ran, undefined);
    assert.match(page.noise.pop(), /Content Security Policy/);
    await closeQuiet(page);
  });
});

test("an erased value is shown as erased, with who and why, and not as a value", async () => {
  const page = await open(IDS.erased, "#key=person");
  const row = page.locator("#context .row", { hasText: "person" });
  assert.match(await row.textContent(), /\(erased\).*erased/);
  assert.match(await page.locator("#inspector .warning").textContent(), /was erased by ann on .*: Art\. 17, case 311 <\/script>/);
  assert.equal(await page.locator("#inspector pre.value").count(), 0);
  assert.match(await page.locator("#facts").textContent(), /chain ok, 2 bodies erased/);
  assert.match(await page.locator("#events").textContent(), /input person \(erased by ann\)/);
  await closeQuiet(page);
});

describe("5,000 tasks", () => {
  test("a step updates only what it changes, and only visible rows are elements", async () => {
    const page = await open(IDS.many);
    const last = await page.evaluate(() => window.replay.past.last);
    assert.ok(last > 10_000);
    const elements = () => page.evaluate(() => document.querySelectorAll("*").length);
    const at = await elements();
    assert.ok(at < 1_200, `${at} elements`);
    for (const seq of [0, 1, 2, 5_000, 5_001, 5_000, last]) {
      const from = await page.evaluate(() => window.replay.moment.seq);
      await slide(page, seq);
      const { cost, tasks, bars } = await page.evaluate(() => ({ cost: window.replay.moment.cost, tasks: window.replay.graph.drawn.tasks, bars: window.replay.timeline.drawn }));
      assert.equal(cost, Math.abs(seq - from), "frames added up for this step");
      assert.ok(tasks <= 5_000 && bars < 100, `${tasks} tasks, ${bars} bars drawn`);
    }
    assert.ok((await elements()) < 1_200, `${await elements()} elements after sliding`);
    await page.evaluate(() => window.replay.choose("split_25"));
    for (let at = 0; at < 8; at += 1) await page.locator("#graph-panel").getByLabel("Zoom in").click();
    await drawn(page);
    const drawnTasks = await page.evaluate(() => window.replay.graph.drawn.tasks);
    assert.ok(drawnTasks < 1_500, `${drawnTasks} tasks are drawn where few can be seen`);
    const { state } = JSON.parse(log.replay(IDS.many, "--at", "5000", "--json"));
    await slide(page, 5_000);
    const page_ = await page.evaluate(() => Object.fromEntries([...window.replay.moment.tasks].map(([task, { state, attempts }]) => [task, [state, attempts]])));
    assert.deepEqual(page_, Object.fromEntries(state.tasks.map((task) => [task.task, [task.state, task.attempts]])));
    assert.equal(await page.evaluate(() => window.replay.moment.context.size), Object.keys(state.context).length);
    await closeQuiet(page);
  });

  test("sliding draws once per frame, however often the slider moves", async () => {
    const page = await open(IDS.many);
    const pictures = await page.evaluate(async () => {
      const { graph } = window.replay;
      let count = 0;
      const { clearRect } = CanvasRenderingContext2D.prototype;
      graph.picture.context.clearRect = function count_(x, y, width, height) {
        count += 1;
        return clearRect.call(this, x, y, width, height);
      };
      for (let seq = 0; seq < 200; seq += 1) window.replay.go(seq);
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      return count;
    });
    assert.ok(pictures <= 3, `${pictures} pictures for 200 moves`);
    await closeQuiet(page);
  });
});

test("the page contains the JSON that replay prints", async () => {
  const page = await open(IDS.retried);
  const held = await page.evaluate(() => document.getElementById("history").textContent);
  assert.equal(held.replaceAll("\\u003c", "<"), log.replay(IDS.retried, "--json"));
  assert.ok(membersOf(held, 0).has("events"));
  await closeQuiet(page);
});
