"""The allocator of Rust values: the program ``replay`` uses mimalloc, an application keeps its own.

With ``MIMALLOC_SHOW_STATS=1`` mimalloc prints the number of its pages when the process ends.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="replay has mimalloc on Linux only")

SHOWN = {"MIMALLOC_SHOW_STATS": "1"}


def pages(statistics: str) -> float:
    """Returns the peak number of pages in mimalloc's statistics, which have no such line if it was not used."""
    assert "subproc 0" in statistics, f"mimalloc printed nothing:\n{statistics}"
    found = re.search(r"^ *pages *: *([\d.]+)", statistics, re.MULTILINE)
    return float(found[1]) if found else 0


@pytest.fixture
def log(tmp_path: Path) -> str:
    with cloaca.WorkflowBuilder("greeting"):

        @cloaca.task
        def greet(context: cloaca.Context) -> None:
            context.set("letters", len(context.get("name")))

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        runner.execute("greeting", {"name": "Ada"})
    return str(tmp_path / "log")


@pytest.mark.parametrize("question", [["--version"], ["list"], ["latest", "why", "letters"], ["latest", "verify"]])
def test_the_program_replay_has_mimalloc(log: str, question: list[str]) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("replay"), *question, "--log", log],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, **SHOWN},
    )
    assert done.returncode == 0, done.stderr
    assert pages(done.stderr) > 0


def test_an_application_keeps_its_allocator(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_python(
        """
        import cloaca

        with cloaca.WorkflowBuilder("greeting"):

            @cloaca.task
            def greet(context):
                context.set("letters", len(context.get("name")))

        with cloaca.DefaultRunner("log") as runner:
            result = runner.execute("greeting", {"name": "Ada"})
            print(result.final_context["letters"], len(result.history().events) > 3)
        """,
        env=SHOWN,
    )
    assert done.stdout == "3 True\n"
    assert "subproc 0" not in done.stderr, "there is no mimalloc in this process that could say anything"


def test_importing_changes_nothing_that_child_processes_inherit(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    # mimalloc can be built to turn huge pages off for the whole process and its children.
    done = run_python(
        """
        import os
        from pathlib import Path

        def of_the_process():
            status = Path("/proc/self/status").read_text()
            return dict(os.environ), [line for line in status.splitlines() if line.startswith("THP_enabled")]

        before = of_the_process()
        import cloaca
        print(of_the_process() == before)
        """
    )
    assert done.stdout == "True\n"
