"""Runs every test of the repository: the Rust workspace, its documentation, the installed Python package, and the pages of
replay in a browser.

Prints a line for each part, the whole output of a failed part, and the number of tests. With CLOACA_NOTHING_SKIPPED=1
a skipped test is a failure.
"""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from javascript import BROWSER, missing

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Part:
    """A test runner, and the pattern that counts its results."""

    name: str
    command: list[str]
    counts: re.Pattern[str]


CARGO = re.compile(r"test result: \w+\. (?P<passed>\d+) passed; (?P<failed>\d+) failed; (?P<skipped>\d+) ignored")
PYTEST = re.compile(r"^=* ?(?P<summary>.*\d+ (?:passed|failed).*) in [\d.]+s", re.MULTILINE)

NODE = re.compile(r"^# (?P<word>pass|fail|skipped) (?P<count>\d+)$", re.MULTILINE)

PARTS = [
    Part("rust", ["cargo", "test", "--quiet", "--locked", "--no-fail-fast"], CARGO),
    Part("python", [sys.executable, "-m", "pytest", "-q", "-rs", "tests/python"], PYTEST),
    Part("browser", ["node", "--test", "--test-reporter=tap", *map(str, sorted(BROWSER.glob("*.test.mjs")))], NODE),
]


def count(part: Part, output: str) -> tuple[int, int, int]:
    """Returns how many tests passed, failed and were skipped, from the summary lines of the runner."""
    if part.counts is CARGO:
        found = [tuple(int(number) for number in match.groups()) for match in CARGO.finditer(output)]
        passed, failed, skipped = (sum(column) for column in zip(*found, strict=True)) if found else (0, 0, 0)
        return passed, failed, skipped
    if part.counts is NODE:
        found_words = {match["word"]: int(match["count"]) for match in NODE.finditer(output)}
        return found_words.get("pass", 0), found_words.get("fail", 0), found_words.get("skipped", 0)
    summary = (PYTEST.findall(output) or [""])[-1]
    words = ("passed", "failed|errors?", "skipped")
    passed, failed, skipped = (
        sum(int(number) for number in re.findall(rf"(\d+) (?:{word})\b", summary)) for word in words
    )
    return passed, failed, skipped


def main() -> int:
    """Runs the parts one after the other; returns 0 if every test passed."""
    passed = failed = skipped = 0
    broken = False
    for part in PARTS:
        why = missing("chromium") if part.name == "browser" else None
        if why is not None:
            print(f"browser: SKIPPED, the pages of replay are not tested: {why}", flush=True)
            skipped += 1
            continue
        began = time.monotonic()
        run = subprocess.run(part.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        ok, bad, left_out = count(part, run.stdout)
        if run.returncode != 0 or ok == 0:
            sys.stdout.write(run.stdout)
            broken = True
        for line in run.stdout.splitlines():
            if line.startswith("SKIPPED"):
                print(line)
        print(f"{part.name}: {ok} passed, {bad} failed, {left_out} skipped in {time.monotonic() - began:.0f} s", flush=True)
        passed, failed, skipped = passed + ok, failed + bad, skipped + left_out
    if skipped and os.environ.get("CLOACA_NOTHING_SKIPPED"):
        print(f"{skipped} tests were skipped, which CLOACA_NOTHING_SKIPPED forbids")
        broken = True
    print(f"{passed} passed, {max(failed, int(broken and not failed))} failed, {skipped} skipped")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
