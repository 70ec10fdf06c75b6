"""What type checkers say to programs that use the package: nothing to right ones, and the line of what is wrong."""

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
    """The lines that say of themselves that they are wrong."""
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
    """Pyright as basedpyright has it: with its rules in `strict`, and without a download."""
    config = {"typeCheckingMode": "strict", "include": [str(path)], "pythonVersion": "3.10"}
    # A checked program of a user's has statements that do nothing: those of the negative tests.
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


def test_mypy_takes_a_right_program_and_the_lines_of_a_wrong_one(tmp_path: Path) -> None:
    assert mypy(TYPED / "right.py", tmp_path) == set()
    assert mypy(TYPED / "wrong.py", tmp_path) == wrong_lines(TYPED / "wrong.py")


@needs_pyright
def test_pyright_takes_a_right_program_and_the_lines_of_a_wrong_one(tmp_path: Path) -> None:
    assert pyright(TYPED / "right.py", tmp_path) == set()
    assert pyright(TYPED / "wrong.py", tmp_path) == wrong_lines(TYPED / "wrong.py")
