"""What the documentation shows runs, as a reader would run it."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT

ROOT = Path(__file__).resolve().parents[2]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in an empty directory, to its good end, without a warning."""
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


MODULES = ["cloaca", *(f"cloaca.{module.name}" for module in pkgutil.iter_modules(cloaca.__path__))]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    # Examples use the names of the package, as its readers would.
    names = {"cloaca": cloaca, **{name: getattr(cloaca, name) for name in cloaca.__all__}, **vars(module)}
    assert doctest.testmod(module, globs=names).failed == 0


def test_no_example_is_skipped() -> None:
    for path in (ROOT / "bindings" / "python" / "cloaca").glob("*.py*"):
        if path.suffix in (".py", ".pyi"):
            assert "doctest: +SKIP" not in path.read_text(encoding="utf-8"), path


def test_everything_public_shows_how_it_is_used() -> None:
    """Errors do not: they are met, not made."""
    public = [name for name in cloaca.__all__ if not name.endswith("Error") and callable(getattr(cloaca, name))]
    assert [name for name in public if ">>> " not in (getattr(cloaca, name).__doc__ or "")] == []


NATIVE = ["BackoffStrategy", "Condition", "Context", "RetryCondition", "RetryPolicy", "RetryPolicyBuilder"]


@pytest.mark.parametrize("name", NATIVE)
def test_the_examples_of_native_classes(name: str) -> None:
    names = {name: getattr(cloaca, name) for name in cloaca.__all__}
    tests = doctest.DocTestFinder(exclude_empty=True).find(getattr(cloaca, name), name, module=False, globs=names)  # type: ignore[arg-type]
    assert any(test.examples for test in tests)
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0
