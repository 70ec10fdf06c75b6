"""The examples of the documentation run as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import LIMIT

ROOT = Path(__file__).resolve().parents[2]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in an empty directory; it must succeed without a warning."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done


def test_the_example_of_the_meters(tmp_path: Path) -> None:
    lines = run(tmp_path, str(ROOT / "bindings" / "examples" / "meters.py")).stdout.splitlines()
    assert lines[0] == "monthly_billing: Completed, 15 tasks"
    assert re.fullmatch(r"\d+ flats used \d+ kWh and pay [\d.]+ €", lines[1])
    assert lines[2].startswith("dearest flats: ")
    assert (tmp_path / "meters").is_dir()


def test_the_example_of_the_readme(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert found is not None
    program = tmp_path / "etl.py"
    program.write_text(found.group(1), encoding="utf-8")
    assert run(tmp_path, str(program)).stdout == "Completed 2240\n"
