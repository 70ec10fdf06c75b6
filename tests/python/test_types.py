"""Type checkers accept correct programs that use the package, and report each wrong line of others."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import LIMIT

TYPED = Path(__file__).parent / "typed"


def wrong_lines(path: Path) -> set[int]:
    """Returns the lines that are marked as wrong."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return {number for number, line in lines if line.endswith("# wrong")}


def mypy(path: Path, cache: Path) -> set[int]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(cache), str(path)]
    done = subprocess.run(command, cwd=TYPED, capture_output=True, text=True, timeout=6 * LIMIT, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    errors = {int(number) for number in re.findall(rf"^{path.name}:(\d+): error:", done.stdout, re.MULTILINE)}
    errors |= {int(number) for number in re.findall(rf"/{path.name}:(\d+): error:", done.stdout)}
    assert bool(errors) == (done.returncode == 1), done.stdout
    return errors


def pyright(path: Path, directory: Path) -> set[int]:
    """Runs pyright from the package basedpyright, in `strict` mode and without a download."""
    config = {"typeCheckingMode": "strict", "include": [str(path)], "pythonVersion": "3.10"}
    # The negative tests have statements without effect.
    config |= {"reportUnusedExpression": False, "reportUnusedCallResult": False}
    (directory / "pyrightconfig.json").write_text(json.dumps(config))
    options = ["--outputjson", "-p", str(directory), "--pythonpath", sys.executable]
    command = [sys.executable, "-m", "basedpyright", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=6 * LIMIT, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {entry["range"]["start"]["line"] + 1 for entry in found if entry["severity"] == "error"}


needs_pyright = pytest.mark.skipif(
    importlib.util.find_spec("basedpyright") is None, reason="basedpyright is not installed"
)


def test_mypy_accepts_a_right_program_and_reports_each_wrong_line(tmp_path: Path) -> None:
    assert mypy(TYPED / "right.py", tmp_path) == set()
    assert mypy(TYPED / "wrong.py", tmp_path) == wrong_lines(TYPED / "wrong.py")


@needs_pyright
def test_pyright_accepts_a_right_program_and_reports_each_wrong_line(tmp_path: Path) -> None:
    assert pyright(TYPED / "right.py", tmp_path) == set()
    assert pyright(TYPED / "wrong.py", tmp_path) == wrong_lines(TYPED / "wrong.py")
