"""Every public name has a docstring with an example, and the examples are correct."""

from __future__ import annotations

import doctest
import functools
import importlib
import re
import types
from pathlib import Path

import cloaca
import pytest
from cloaca.testing import clean_registry

import public

PACKAGE = Path(__file__).resolve().parents[2] / "bindings" / "python" / "cloaca"

#: The operators and statements that the example of a class has to show.
OPERATORS = {
    "cloaca.Context": ["len(", " in ", "del ", "list(", "==", '["rows"]'],
    "cloaca.runner.DefaultRunner": ["with "],
    "cloaca.execution.Execution": ["await "],
    "cloaca.workflow.WorkflowBuilder": ["with "],
    "cloaca.history.History": ["len("],
    "cloaca.answers.Verification": ["bool("],
    "cloaca.answers.Why": ["print("],
    "cloaca.namespace.TaskNamespace": ["str(", "=="],
}


def test_everything_public_has_a_docstring() -> None:
    assert [one.name for one in public.public() if not one.doc.strip()] == []


def test_everything_public_has_an_example() -> None:
    assert [one.name for one in public.public() if not one.has_example and one.exempt is None] == []


@pytest.mark.parametrize("name", OPERATORS)
def test_a_class_shows_its_operators(name: str) -> None:
    [doc] = [one.doc for one in public.public() if one.name == name]
    code = "".join(example.source for example in doctest.DocTestParser().get_examples(doc))
    assert [operator for operator in OPERATORS[name] if operator not in code] == []


def test_no_example_is_skipped() -> None:
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("*.pyi")]:
        assert "doctest: +SKIP" not in path.read_text(encoding="utf-8"), path
    assert [one.name for one in public.public() if "+SKIP" in one.doc] == []


@pytest.mark.parametrize("name", public.MODULES)
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(importlib.import_module(name)) == ""


def run(module: types.ModuleType) -> str:
    """Runs the examples of a module; returns a report of the failures.

    The example of a member continues that of its class, and the example of a class that of its module, so that a method
    need not repeat the setup of its class. Definitions of a member are not visible to other members, nor those of a
    class to other classes."""
    report: list[str] = []
    [[introduction], *groups] = public.documented(module)
    with clean_registry():
        known = public.names_of(module)
        _run(introduction, known, report)
        for itself, *members in groups:
            with clean_registry():
                names = dict(known)
                _run(itself, names, report)
                for member in members:
                    with clean_registry():
                        _run(member, dict(names), report)
    return "".join(report)


def _run(one: public.Named, names: dict[str, object], report: list[str]) -> None:
    test = doctest.DocTestParser().get_doctest(one.doc, names, one.name, None, None)
    # The parser has copied the names; later examples may need the definitions of this one.
    test.globs = names
    doctest.DocTestRunner().run(test, out=report.append, clear_globs=False)


class Shown:
    """A class for the tests of this module's own helpers.

    >>> start = 2
    """

    @property
    def attribute(self) -> int:
        """
        >>> start + 2
        4
        """
        return 0

    @functools.cached_property
    def cached(self) -> int:
        """
        >>> start + 1
        4
        """
        return 0

    @staticmethod
    def static() -> None:
        """
        >>> start = 3
        """


def test_an_example_that_is_wrong_is_found_in_each_kind_of_member() -> None:
    """doctest's own finder skips `cached_property` and everything native, so those examples would never run."""
    module = types.ModuleType("shown")
    module.Shown = Shown  # type: ignore[attr-defined]
    shown = Shown.__module__
    try:
        Shown.__module__ = "shown"
        report = run(module)
    finally:
        Shown.__module__ = shown
    assert re.findall(r"in shown\.(\S+)", report) == ["Shown.cached"]
    names = {one.name for group in public.documented(cloaca) for one in group if one.has_example}
    assert {"cloaca.Context.get", "cloaca.Context.from_json", "cloaca.RetryPolicy.max_attempts"} <= names


def test_a_name_without_a_docstring_is_found() -> None:
    class Bare:
        def method(self) -> None: ...

    found = {one.name.rpartition(".")[2]: one for one in public._with_members(Bare)}
    assert not found["Bare"].doc
    assert not found["method"].doc
    assert not found["method"].has_example
