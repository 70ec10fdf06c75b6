// Screenshots of the report for people to look at. Each page must log nothing and fit its window.

import assert from "node:assert/strict";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { browse, build, closeQuiet, drawn, IDS, Log, openPage, SCREENSHOTS } from "./support.mjs";

let browser;
let log;

before(async () => {
  build();
  log = new Log("screenshots");
  browser = await browse();
  mkdirSync(SCREENSHOTS, { recursive: true });
});

after(() => browser?.close());

const SHOWN = { retried: "#seq=37&task=score_east", failed: "#task=load", collision: "#key=total", many: "#seq=7000", recovered: "#seq=6", tutorial: "#key=batch_1_result" };

const SIZES = [{ width: 1280, height: 860 }, { width: 400, height: 800 }];

for (const { width, height, dark } of SIZES.flatMap((size) => [false, true].map((dark) => ({ ...size, dark })))) {
  const theme = dark ? "dark" : "light";
  test(`pictures of ${width} pixels in ${theme}`, async () => {
    for (const name of ["completed", "failed", "retried", "recovered", "skipped", "collision", "running", "tutorial", "hostile", "many"]) {
      // The largest report takes as long as all others, so it is not taken in every theme and size.
      if (name === "many" && dark === (width === 400)) continue;
      const page = await openPage(browser, `file://${log.report(IDS[name])}${SHOWN[name] ?? ""}`, { width, height, dark });
      await drawn(page);
      const path = join(SCREENSHOTS, `${name}-${width}-${theme}.png`);
      await page.screenshot({ path });
      assert.ok(statSync(path).size > 5_000, path);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${name} is ${wide} pixels wide in a window of ${width}`);
      await closeQuiet(page);
    }
  });
}

test("printed", async () => {
  const page = await openPage(browser, `file://${log.report(IDS.failed)}#task=load`);
  const path = join(SCREENSHOTS, "failed.pdf");
  await page.pdf({ path, format: "A4" });
  assert.ok(statSync(path).size > 10_000);
  await closeQuiet(page);
});
