"""The progress bar, on a real terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conftest import LIMIT

PROGRAM = """
    import sys, threading
    from pathlib import Path
    if "plain" in sys.argv:
        sys.modules["rich"] = None
        sys.modules["rich.progress"] = None
    import cloaca

    with cloaca.WorkflowBuilder("[b]steps") as builder:
        @cloaca.task
        def first(context): ...
        @cloaca.task(dependencies=[first], retry_attempts=1)
        def second(context):
            # Wait until the test has seen the bar.
            while not Path("seen").exists():
                threading.Event().wait(0.01)
            if "fail" in sys.argv or "warn" in sys.argv:
                raise cloaca.Error("no")
        if "warn" in sys.argv:
            @cloaca.task(dependencies=[second], trigger_rule="all_done")
            def third(context):
                # The bar is drawn again after the warning of the failure.
                threading.Event().wait(0.5)

    with cloaca.DefaultRunner(":memory:") as runner:
        print(runner.execute("[b]steps", progress=True, timeout=20).status)
"""


def on_terminal(tmp_path: Path, *arguments: str) -> str:
    """Returns the output of a program on a terminal."""
    own, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"},
    )
    os.close(its)
    shown = b""
    try:
        while True:
            try:
                part = os.read(own, 4096)
            except OSError:
                # The other end is closed.
                break
            if not part:
                break
            shown += part
            if re.search(rb"1/[23]", shown) and b"second" in shown:
                (tmp_path / "seen").touch()
        assert process.wait(LIMIT) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(own)
    return shown.decode()


@pytest.mark.parametrize("how", ["plain", "rich"])
def test_a_terminal_shows_the_progress(tmp_path: Path, how: str) -> None:
    shown = on_terminal(tmp_path, how)
    assert "[b]steps" in shown
    assert re.search(r"1/2", shown)
    assert re.search(r"2/2", shown)
    assert "second" in shown
    assert shown.rstrip().endswith("Completed")


@pytest.mark.parametrize("how", ["plain", "rich"])
def test_a_failure_ends_the_bar_too(tmp_path: Path, how: str) -> None:
    shown = on_terminal(tmp_path, how, "fail")
    assert shown.rstrip().endswith("Failed")


@pytest.mark.parametrize("how", ["plain", "rich"])
def test_a_warning_begins_a_new_line(tmp_path: Path, how: str) -> None:
    """Regression: a warning was printed behind the bar: `steps [##--] 1/2 0 s secondtask 'second' ... failed`."""
    shown = on_terminal(tmp_path, how, "warn")
    lines = shown.replace("\r\n", "\n").split("\n")
    [warning] = [line for line in lines if "failed in attempt 1: Error: no" in line]
    # A terminal shows of a line what follows the last carriage return.
    shown_of_it = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", warning).split("\r")[-1]
    assert shown_of_it.startswith("task 'second' of workflow")
    assert shown.rstrip().endswith("Completed")


def test_without_a_terminal_nothing_is_shown(tmp_path: Path) -> None:
    (tmp_path / "seen").touch()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Completed\n", "")


def test_a_program_without_standard_output(tmp_path: Path) -> None:
    (tmp_path / "seen").touch()
    program = textwrap.dedent(PROGRAM).replace("print(", "sys.exit(").replace(".status)", '.status != "Completed")')
    program = program.replace("import cloaca\n", "import cloaca\nsys.stdout = None\n", 1)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["plain", "rich"])
@pytest.mark.parametrize("method", ["isatty", "write", "flush"])
def test_a_terminal_that_is_gone_loses_no_result(tmp_path: Path, how: str, method: str) -> None:
    """Regression: the bar is drawn on the program's own `sys.stdout`; if that raised, `execute` raised, too."""
    (tmp_path / "seen").touch()
    odd = f"""
    class Odd:
        encoding = "utf-8"
        def isatty(self): return True
        def write(self, text): return len(text)
        def flush(self): ...
    def gone(*_):
        raise OSError(5, "Input/output error")
    Odd.{method} = gone
    """
    program = textwrap.dedent(PROGRAM).replace("print(", "sys.exit(").replace(".status)", '.status != "Completed")')
    program = program.replace("import cloaca\n", f"import cloaca\n{textwrap.dedent(odd)}\nsys.stdout = Odd()\n", 1)
    done = subprocess.run(
        [sys.executable, "-c", program, how], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode in (0, 120), done.stderr
