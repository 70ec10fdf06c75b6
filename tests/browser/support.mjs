// What the tests need: a log with executions of every kind, the reports of them, and a browser that notices when a page
// says something to its console or asks the network.

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

/** The executions of the log, by the end of their ids: see replay/examples/histories.rs. */
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

/** A program that cargo builds. */
export function built(name) {
  return join(TARGET, "debug", name);
}

/** Builds what the tests run; cargo knows what is there already. */
export function build() {
  const command = ["build", "--quiet", "--locked", "-p", "cloacina-replay", "--bins", "--examples"];
  execFileSync("cargo", command, { cwd: ROOT, stdio: "inherit" });
}

/** Makes a directory of this name that is empty. */
export function freshDirectory(name) {
  const path = join(WORK, name);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { recursive: true });
  return path;
}

/** The log with an execution of every kind, and what replay says of it. */
export class Log {
  constructor(name) {
    this.directory = freshDirectory(name);
    this.path = join(this.directory, "log");
    execFileSync(built("examples/histories"), [this.path]);
  }

  /** Runs replay on the log, and gives what it prints. */
  replay(...words) {
    return execFileSync(built("replay"), ["--log", this.path, ...words], { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "ignore"] });
  }

  /** The report of an execution, as a file. */
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
 * Opens an address in a page of its own. `page.noise` gathers what it should not do.
 * @param {import("playwright-core").Browser} browser
 * @param {string} address
 * @param {{ width?: number, height?: number, dark?: boolean, allow?: (url: string) => boolean }} [options]
 */
export async function openPage(browser, address, { width = 1280, height = 860, dark = false, allow = () => false } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
  const page = Object.assign(await context.newPage(), { noise: /** @type {string[]} */ ([]) });
  page.on("console", (message) => {
    // The tests read pixels back, which the page itself never does.
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

/** Closes a page, which must have been quiet. */
export async function closeQuiet(page) {
  assert.deepEqual(page.noise, []);
  await page.context().close();
}

/** Waits until the pictures are drawn that were asked for. */
export function drawn(page) {
  return page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}
