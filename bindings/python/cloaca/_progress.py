"""The progress bar of ``execute(..., progress=True)``."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from . import _logging

if TYPE_CHECKING:
    from ._cloaca import NativeEngine, RawOutcome

# How often the bar looks, in seconds.
_INTERVAL = 0.1
# How many cells it is wide.
_CELLS = 30
# So many of the tasks that run are named.
_NAMED = 3

_SETTLED = {"Completed", "Failed", "Skipped", "Cancelled"}


class _Standing(NamedTuple):
    """How far an execution is."""

    workflow: str
    settled: int
    tasks: int
    running: list[str]

    @classmethod
    def of(cls, outcome: RawOutcome) -> _Standing:
        states = [(task["task_id"], task["state"]) for task in outcome["tasks"]]
        settled = sum(state in _SETTLED for _, state in states)
        running = [task for task, state in states if state in ("Running", "WaitingRetry")]
        return cls(outcome["workflow_name"], settled, len(states), running)

    @property
    def at_work(self) -> str:
        more = len(self.running) - _NAMED
        return ", ".join(self.running[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class _Bar(NamedTuple):
    """A bar on the terminal. Neither function is called while the other one is at work."""

    draw: Callable[[_Standing], object]
    hide: Callable[[], object]


def is_wanted() -> bool:
    """Whether somebody would see a bar: standard output is a terminal that can write over what it has shown."""
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stdout.isatty()
    except Exception:
        # There is none, it is closed, or it is the program's own.
        return False


@contextlib.contextmanager
def following(engine: NativeEngine, execution_id: str) -> Iterator[None]:
    """Shows how far an execution is, as long as the block lasts. What goes wrong with that goes unsaid: a terminal that
    is gone loses no result."""
    over = threading.Event()
    # Held while the bar is drawn, and while a record is handled that may go to the same terminal.
    terminal = threading.RLock()

    def draw(bar: _Bar) -> None:
        standing = _Standing.of(engine.outcome(execution_id))
        # A handler may hang: then the bar stands still, and the result is not waited for.
        if terminal.acquire(timeout=_INTERVAL):
            try:
                bar.draw(standing)
            finally:
                terminal.release()

    def follow() -> None:
        with contextlib.suppress(Exception), _bar() as bar, _logging.hiding(partial(_hidden, bar, terminal)):
            while not over.wait(_INTERVAL):
                draw(bar)
            draw(bar)

    thread = threading.Thread(target=follow, name="cloaca-progress", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        yield
        return
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _hidden(bar: _Bar, terminal: threading.RLock) -> Iterator[None]:
    """Takes the bar off the terminal, as long as the block lasts. The next call of ``draw`` shows it again."""
    with terminal:
        with contextlib.suppress(Exception):
            bar.hide()
        yield


def _bar() -> contextlib.AbstractContextManager[_Bar]:
    try:
        import rich.progress  # noqa: F401 - it is tried
    except ImportError:
        return _plain_bar()
    return _rich_bar()


@contextlib.contextmanager
def _rich_bar() -> Iterator[_Bar]:
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[at_work]}")) as progress:
        bar = progress.add_task("", total=None, at_work="")

        def draw(standing: _Standing) -> None:
            # It was stopped if it was hidden.
            progress.start()
            progress.update(
                bar,
                description=escape(standing.workflow),
                completed=standing.settled,
                total=standing.tasks,
                at_work=escape(standing.at_work),
            )

        yield _Bar(draw, progress.stop)


@contextlib.contextmanager
def _plain_bar() -> Iterator[_Bar]:
    began = time.monotonic()
    out = sys.stdout

    def draw(standing: _Standing) -> None:
        cells = _CELLS * standing.settled // max(standing.tasks, 1)
        bar = "#" * cells + "-" * (_CELLS - cells)
        seconds = int(time.monotonic() - began)
        line = f"{standing.workflow} [{bar}] {standing.settled}/{standing.tasks} {seconds} s {standing.at_work}"
        # The rest of a longer line before it is cleared.
        out.write(f"\r{_in_one_line(line)}\x1b[K")
        out.flush()

    def hide() -> None:
        out.write("\r\x1b[K")
        out.flush()

    try:
        yield _Bar(draw, hide)
    finally:
        out.write("\n")
        out.flush()


def _in_one_line(text: str) -> str:
    import shutil

    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return printable[: max(shutil.get_terminal_size().columns - 1, 20)]
