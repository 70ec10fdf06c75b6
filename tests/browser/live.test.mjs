// `replay serve` in a real browser, with a real engine that runs while the pages are open.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { get } from "node:http";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, afterEach, before, test } from "node:test";
import { browse, build, built, closeQuiet, drawn, freshDirectory, openPage, ROOT, SCREENSHOTS } from "./support.mjs";

const PYTHON = process.env.CLOACA_PYTHON ?? join(ROOT, ".venv", "bin", "python");

let browser;
const started = [];

before(async () => {
  build();
  mkdirSync(SCREENSHOTS, { recursive: true });
  browser = await browse();
});

afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
});

after(() => browser?.close());

/** A program whose output can be read line by line. */
class Program {
  constructor(command, words) {
    this.child = spawn(command, words, { stdio: ["pipe", "pipe", "inherit"] });
    started.push(this.child);
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async line() {
    const { value, done } = await this.lines.next();
    assert.ok(!done, "the program is still running");
    return value;
  }

  say(words) {
    this.child.stdin.write(`${words}\n`);
  }
}

/** Starts an engine on a log, in its own process. */
async function engine(log) {
  const program = new Program(PYTHON, [join(ROOT, "tests", "browser", "engine.py"), log]);
  assert.equal(await program.line(), "open");
  return program;
}

/** Starts a server on a log; returns its address. */
async function serve(log) {
  const program = new Program(built("replay"), ["serve", "--log", log]);
  return program.line();
}

const open = (address, server) => openPage(browser, address, { allow: (url) => url.startsWith(server) });

/** Waits until the list has `count` rows. */
const rows = (page, count) => page.waitForFunction((count) => document.querySelectorAll("#executions .row").length === count, count);

/** Waits until an element of the page has this text. */
const says = (page, selector, text) => page.locator(selector, { hasText: text }).first().waitFor();

test("an execution that is started while the list is open appears, moves and ends, in every tab", async () => {
  const log = join(freshDirectory("live"), "log");
  const python = await engine(log);
  const server = await serve(log);
  const [list, other] = [await open(server, server), await open(server, server)];
  await says(list, "#live", "● live");
  await rows(list, 0);
  await says(list, "#none", "No execution matches the filter.");
  python.say("start");
  const id = await python.line();
  for (const page of [list, other]) await says(page, "#executions .row .status", "Running");
  await list.locator("#executions .row a").click();
  await list.waitForFunction(() => window.replay?.past?.execution);
  assert.ok(list.url().endsWith(`/x/${id}`) || list.url().includes(`/x/${id}#`), list.url());
  await says(list, "#live", "● live");
  const state = (task) => list.evaluate((task) => window.replay.moment.state(task), task);
  await list.waitForFunction(() => window.replay.moment.state("extract") === "Running");
  python.say("go extract");
  await list.waitForFunction(() => window.replay.moment.state("left") === "Running" && window.replay.moment.state("right") === "Running");
  assert.equal(await state("extract"), "Completed");
  await says(list, "#context .key", "rows");
  await list.screenshot({ path: join(SCREENSHOTS, "live-running.png") });
  // A page that shows an earlier moment stays there.
  await list.keyboard.press("Home");
  python.say("go left");
  await list.waitForFunction(() => window.replay.past.attempts.get("left")?.at(-1).outcome === "Completed");
  assert.equal(await list.locator("#slider").inputValue(), "0");
  await list.keyboard.press("End");
  python.say("go right");
  python.say("go right");
  python.say("go load");
  await says(list, "#status", "Failed after");
  await says(list, "#banner", "</script><b>nobody answers</b>");
  assert.equal(await state("right"), "Failed");
  await says(other, "#executions .row .status", "Failed");
  await list.screenshot({ path: join(SCREENSHOTS, "live-ended.png") });
  await other.locator("#by-status").selectOption("Completed");
  assert.equal(await other.locator("#executions-count").textContent(), "0 of 1 execution");
  await other.locator("#by-status").selectOption("Failed");
  await rows(other, 1);
  await other.locator("#filter").fill("nothing like this");
  await rows(other, 0);
  await other.locator("#filter").fill("steered");
  await rows(other, 1);
  await other.screenshot({ path: join(SCREENSHOTS, "live-list.png") });
  await closeQuiet(list);
  await closeQuiet(other);
});

// Regression: the bars of running tasks did not grow between two events, so a long task looked stuck.
test("the timeline grows while time passes without an event", async () => {
  const log = join(freshDirectory("grows"), "log");
  const python = await engine(log);
  const server = await serve(log);
  python.say("start");
  const page = await open(`${server}x/${await python.line()}`, server);
  await page.waitForFunction(() => window.replay.moment.state("extract") === "Running");
  const before = await page.evaluate(() => window.replay.timeline.until);
  const events = await page.evaluate(() => window.replay.past.events.length);
  await page.waitForFunction((before) => window.replay.timeline.until > before, before);
  await drawn(page);
  const { bar, end, cursor, now } = await page.evaluate(() => {
    const { timeline, past } = window.replay;
    const { x, wide } = timeline.hits[0];
    return { bar: x + wide, end: timeline.gutter + timeline.until * timeline.perMicro, cursor: timeline.cursor, now: past.events.length };
  });
  assert.equal(now, events, "nothing has happened");
  assert.ok(Math.abs(bar - end) < 0.01 && Math.abs(cursor - end) < 0.01, `the bar and the moment are at the end of the axis: ${bar}, ${cursor}, ${end}`);
  await closeQuiet(page);
});

test("the list says at every width which execution it is, when it began, by what, and why it failed", async () => {
  const log = join(freshDirectory("list"), "log");
  const python = await engine(log);
  const server = await serve(log);
  python.say("start");
  const id = await python.line();
  for (const task of ["extract", "left", "right", "right", "load"]) python.say(`go ${task}`);
  python.say("start");
  await python.line();
  for (const { width, dark } of [{ width: 1600 }, { width: 1280 }, { width: 820, dark: true }, { width: 400, dark: true }]) {
    const page = await openPage(browser, server, { width, dark, allow: (url) => url.startsWith(server) });
    await says(page, "#executions .row .status", "Failed");
    await says(page, "#executions .row .error", "task 'right' failed, attempt 2 of 2: ConnectionError: </script><b>nobody answers</b>");
    const row = page.locator("#executions .row", { hasText: "Failed" });
    assert.match(await row.locator(".id").textContent(), new RegExp(`^…${id.slice(-8)}$`));
    assert.match(await row.locator(".started").textContent(), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
    assert.equal(await row.locator(".cause").textContent(), "call");
    const { cut, apart, tinted, plain, beyond } = await page.evaluate(() => {
      const [running, failed] = ["Running", "Failed"].map((status) => [...document.querySelectorAll("#executions .row")].find((row) => row.querySelector(".status").textContent === status));
      const visible = (cell) => cell.getBoundingClientRect().width > 0;
      const cells = ["status", "id", "workflow", "started", "took", "cause"].map((name) => failed.querySelector(`.${name}`));
      const heads = ["status", "id", "workflow", "started", "took", "cause"].map((name) => document.querySelector(`.heads .${name}`));
      const edge = (cell) => (getComputedStyle(cell).textAlign === "end" ? cell.getBoundingClientRect().right : cell.getBoundingClientRect().left);
      return {
        cut: cells.filter((cell) => !visible(cell) || cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.className),
        apart: cells.map((cell, at) => Math.abs(edge(cell) - edge(heads[at]))).filter((far) => far > 6),
        tinted: getComputedStyle(failed).backgroundColor,
        plain: getComputedStyle(running).backgroundColor,
        beyond: document.documentElement.scrollWidth,
      };
    });
    assert.deepEqual(cut, [], `at ${width}`);
    if (width > 780) assert.deepEqual(apart, [], `heads stand over their columns at ${width}`);
    assert.notEqual(tinted, plain);
    assert.ok(beyond <= width);
    await page.screenshot({ path: join(SCREENSHOTS, `list-${width}-${dark ? "dark" : "light"}.png`) });
    await page.locator("#filter").fill("nobody answers");
    await rows(page, 1);
    await closeQuiet(page);
  }
});

test("a page has the same data at the end of an execution as a report", async () => {
  const log = join(freshDirectory("ends"), "log");
  const python = await engine(log);
  const server = await serve(log);
  python.say("start");
  const id = await python.line();
  const page = await open(`${server}x/${id}`, server);
  for (const task of ["extract", "left", "right", "right", "load"]) python.say(`go ${task}`);
  await says(page, "#status", "Failed after");
  const shown = () => page.evaluate(() => {
    const { past, moment } = window.replay;
    return { events: past.events.map(({ seq, event }) => [seq, event]), frames: past.frames.length, tasks: [...moment.tasks].sort(), hints: [...past.rows.keys()].sort() };
  });
  await page.waitForFunction(() => window.replay.past.rows.size === 4);
  const live = await shown();
  await page.reload();
  await page.waitForFunction(() => window.replay?.past);
  assert.deepEqual(await shown(), live);
  await closeQuiet(page);
});

test("pages outlive the engine, report that it is gone, and continue with the next one", async () => {
  const log = join(freshDirectory("outlive"), "log");
  let python = await engine(log);
  const server = await serve(log);
  python.say("start");
  const id = await python.line();
  const list = await open(server, server);
  const page = await open(`${server}x/${id}`, server);
  await says(page, "#live", "● live");
  const gone = new Promise((done) => python.child.once("exit", done));
  python.child.kill("SIGKILL");
  await gone;
  for (const one of [list, page]) await says(one, "#live", "○ not live: no engine has the log open");
  // Both show the status and what to do, in the same words.
  await says(list, "#executions .row .status", "Not running");
  await says(page, "#status", "Not running");
  await says(page, "#banner", "Next: ");
  // Nothing is shown as running.
  await says(page, "#tally", "1 not running");
  const reason = await list.locator("#executions .row .error").textContent();
  assert.ok(reason.length > 10 && (await page.locator("#banner").textContent()).includes(reason), reason);
  await page.screenshot({ path: join(SCREENSHOTS, "live-not-running.png") });
  // The next engine resumes the execution from the log.
  python = await engine(log);
  for (const one of [list, page]) await says(one, "#live", "● live");
  await says(list, "#executions .row .status", "Running");
  await says(page, "#status", "Running");
  await says(page, "#events .words", "recovered by");
  python.say("go extract");
  await page.waitForFunction(() => window.replay.moment.state("extract") === "Completed");
  python.say("start");
  await python.line();
  await rows(list, 2);
  await closeQuiet(page);
  await closeQuiet(list);
});

test("a hidden page does not listen, and has missed nothing when it is visible again", async () => {
  const log = join(freshDirectory("hidden"), "log");
  const python = await engine(log);
  const server = await serve(log);
  python.say("start");
  const id = await python.line();
  const page = await open(`${server}x/${id}`, server);
  await says(page, "#live", "● live");
  const show = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  const events = () => page.evaluate(() => window.replay.past.events.length);
  await show(true);
  const before = await events();
  // Once another page has the event, this one would have it too if it had been sent.
  const other = await open(`${server}x/${id}`, server);
  python.say("go extract");
  await other.waitForFunction(() => window.replay.moment.state("left") === "Running");
  assert.equal(await events(), before);
  await show(false);
  await page.waitForFunction(() => window.replay.moment.state("left") === "Running");
  assert.equal(await events(), await other.evaluate(() => window.replay.past.events.length));
  await closeQuiet(other);
  await closeQuiet(page);
});

test("the page reports a server that goes away", async () => {
  const log = join(freshDirectory("server"), "log");
  await engine(log);
  const program = new Program(built("replay"), ["serve", "--log", log]);
  const server = await program.line();
  const list = await open(server, server);
  await says(list, "#live", "● live");
  program.child.kill("SIGINT");
  assert.equal(await new Promise((done) => program.child.once("exit", done)), 0, "Ctrl-C is how it ends");
  await says(list, "#live", "the server does not answer");
  list.noise = list.noise.filter((line) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE/.test(line));
  await closeQuiet(list);
});

test("a page of another origin can neither read nor embed it", async () => {
  const log = join(freshDirectory("strangers"), "log");
  await engine(log);
  const server = await serve(log);
  const { host, port, origin } = new URL(server);
  const status = (options) => new Promise((done, fail) => get({ host: "127.0.0.1", port, ...options }, (answer) => done(answer.statusCode)).on("error", fail));
  assert.equal(await status({ path: "/", headers: { host } }), 403);
  assert.equal(await status({ path: new URL(server).pathname, headers: { host: `rebound.example:${port}` } }), 421);
  const stranger = await browser.newPage();
  await stranger.setContent(`<iframe src="${server}"></iframe>`);
  const read = await stranger.evaluate((server) => fetch(server).then((answer) => answer.text(), (error) => `refused: ${error.message}`), server);
  assert.match(read, /^refused/);
  const frame = stranger.frames().find((one) => one.url().startsWith(origin));
  assert.ok(!frame || (await frame.evaluate(() => window.replay === undefined).catch(() => true)), "it is not shown in a frame");
  await stranger.close();
});

test("a value that is erased while a page shows it disappears from the page without a reload", async () => {
  const log = join(freshDirectory("erased-live"), "log");
  const python = await engine(log);
  const server = await serve(log);
  python.say("start");
  const id = await python.line();
  for (const task of ["extract", "left", "right", "right", "load"]) python.say(`go ${task}`);
  const page = await open(`${server}x/${id}`, server);
  await says(page, "#status", "Failed after");
  await page.waitForFunction(() => window.replay.past.rows.size === 4);
  await says(page, "#context .key", "day");
  assert.match(await page.locator("#context").textContent(), /2026-11-24/);
  const words = ["log", "erase", id, "--key", "day", "--reason", "case 311", "--yes", "--log", log];
  execFileSync(join(dirname(PYTHON), "cloaca"), words, { stdio: "ignore" });
  await page.waitForFunction(() => window.replay.past.events.some(({ erased }) => erased?.reason === "case 311"));
  await page.waitForFunction(() => !document.querySelector("#context").textContent.includes("2026-11-24"));
  await says(page, "#context", "erased");
  assert.equal(await page.locator("#live").isVisible(), false, "what is over does not move");
  await page.screenshot({ path: join(SCREENSHOTS, "live-erased.png") });
  await closeQuiet(page);
});
