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
from concurrent.futures import ThreadPoolExecutor
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

#: Parts that run at the same time. Those of Python and of the browser mostly wait; the Rust tests use every processor.
GROUPS = [
    [Part("rust", ["cargo", "test", "--quiet", "--locked", "--no-fail-fast"], CARGO)],
    [
        Part("python", [sys.executable, "-m", "pytest", "-q", "-rs", "tests/python"], PYTEST),
        Part("browser", ["node", "--test", "--test-reporter=tap", *map(str, sorted(BROWSER.glob("*.test.mjs")))], NODE),
    ],
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


def run(part: Part) -> tuple[int, int, int, bool]:
    """Runs a part and prints its result. Returns how many tests passed, failed and were skipped, and whether it is all right."""
    why = missing("chromium") if part.name == "browser" else None
    if why is not None:
        print(f"browser: SKIPPED, the pages of replay are not tested: {why}", flush=True)
        return 0, 0, 1, True
    began = time.monotonic()
    ended = subprocess.run(
        part.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    passed, failed, skipped = count(part, ended.stdout)
    is_right = ended.returncode == 0 and passed > 0
    lines = [line for line in ended.stdout.splitlines() if line.startswith("SKIPPED")] if is_right else [ended.stdout]
    lines.append(
        f"{part.name}: {passed} passed, {failed} failed, {skipped} skipped in {time.monotonic() - began:.0f} s"
    )
    print("\n".join(lines), flush=True)
    return passed, failed, skipped, is_right


def main() -> int:
    """Runs every group; returns 0 if every test passed."""
    results = []
    with ThreadPoolExecutor() as pool:
        for group in GROUPS:
            results.extend(pool.map(run, group))
    passed, failed, skipped = (sum(column) for column in list(zip(*results, strict=True))[:3])
    broken = not all(is_right for *_, is_right in results)
    if skipped and os.environ.get("CLOACA_NOTHING_SKIPPED"):
        print(f"{skipped} tests were skipped, which CLOACA_NOTHING_SKIPPED forbids")
        broken = True
    print(f"{passed} passed, {max(failed, int(broken and not failed))} failed, {skipped} skipped")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
