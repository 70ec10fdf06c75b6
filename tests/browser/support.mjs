// Helpers of the browser tests: a log with executions of every kind, their reports, and a browser that records console
// messages and network requests of a page.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
const WORK = join(TARGET, "browser");
export const SCREENSHOTS = join(ROOT, "target", "screenshots");

/** The executions of the log, by the end of their ids (see replay/examples/histories.rs). */
export const IDS = {
  completed: "9f3ac101",
  tutorial: "9f3ac102",
  failed: "51b00003",
  recovered: "51b00004",
  skipped: "51b00005",
  collision: "51b00006",
  running: "51b00007",
  cancelled: "51b00008",
  undeclared: "51b00009",
  hostile: "bad00010",
  many: "50000011",
  retried: "d1a00012",
  erased: "e7a50013",
};

/** Returns the path of a program that cargo builds. */
export function built(name) {
  return join(TARGET, "debug", name);
}

/** Builds the programs of the tests. */
export function build() {
  const command = ["build", "--quiet", "--locked", "-p", "cloacina-replay", "--bins", "--examples"];
  execFileSync("cargo", command, { cwd: ROOT, stdio: "inherit" });
}

/** Creates an empty directory of this name. */
export function freshDirectory(name) {
  const path = join(WORK, name);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { recursive: true });
  return path;
}

/** A log with an execution of every kind, and the output of replay for it. */
export class Log {
  constructor(name) {
    this.directory = freshDirectory(name);
    this.path = join(this.directory, "log");
    execFileSync(built("examples/histories"), [this.path]);
  }

  /** Runs replay on the log; returns its output. */
  replay(...words) {
    return execFileSync(built("replay"), ["--log", this.path, ...words], { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "ignore"] });
  }

  /** Writes the report of an execution; returns its path. */
  report(id) {
    const path = join(this.directory, `${id}.html`);
    if (!existsSync(path)) this.replay(id, "report", "-o", path);
    return path;
  }
}

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** Starts the browser. */
export function browse() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

/**
 * Opens an address in a new page. `page.noise` collects console messages and requests, which a page must not cause.
 * @param {import("playwright-core").Browser} browser
 * @param {string} address
 * @param {{ width?: number, height?: number, dark?: boolean, allow?: (url: string) => boolean }} [options]
 */
export async function openPage(browser, address, { width = 1280, height = 860, dark = false, allow = () => false } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
  const page = Object.assign(await context.newPage(), { noise: /** @type {string[]} */ ([]) });
  page.on("console", (message) => {
    // Caused by the tests, which read pixels back; the page never does.
    if (message.text().includes("willReadFrequently")) return;
    page.noise.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => page.noise.push(`error: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (url !== address.split("#")[0] && !/^(data|blob):/.test(url) && !allow(url)) page.noise.push(`request: ${url}`);
  });
  await page.goto(address);
  await page.waitForFunction(() => window.replay !== undefined);
  return page;
}

/** Closes a page, and asserts that it caused no noise. */
export async function closeQuiet(page) {
  assert.deepEqual(page.noise, []);
  await page.context().close();
}

/** Waits until all requested redraws are done. */
export function drawn(page) {
  return page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}
