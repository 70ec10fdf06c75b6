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

# The time between updates of the bar, in seconds.
_INTERVAL = 0.1
# The width of the bar, in characters.
_WIDTH = 30
# The maximum number of running tasks to name.
_MAX_NAMED = 3

_SETTLED = {"Completed", "Failed", "Skipped", "Cancelled"}


class _State(NamedTuple):
    """The progress of an execution."""

    workflow: str
    settled: int
    tasks: int
    running: list[str]

    @classmethod
    def of(cls, outcome: RawOutcome) -> _State:
        states = [(task["task_id"], task["state"]) for task in outcome["tasks"]]
        settled = sum(state in _SETTLED for _, state in states)
        running = [task for task, state in states if state in ("Running", "WaitingRetry")]
        return cls(outcome["workflow_name"], settled, len(states), running)

    @property
    def running_text(self) -> str:
        more = len(self.running) - _MAX_NAMED
        return ", ".join(self.running[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


class _Bar(NamedTuple):
    """A bar on the terminal. The two functions are never called concurrently."""

    draw: Callable[[_State], object]
    hide: Callable[[], object]


def is_supported() -> bool:
    """Return whether standard output can show a bar: it is a terminal that can overwrite a line."""
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stdout.isatty()
    except Exception:
        # Standard output is None, closed, or replaced by the program.
        return False


@contextlib.contextmanager
def following(engine: NativeEngine, execution_id: str) -> Iterator[None]:
    """Show the progress of an execution for the duration of the block.

    Errors are ignored: a lost terminal must not lose a result.
    """
    over = threading.Event()
    # Held while the bar is drawn, and while a log record that may go to the same terminal is handled.
    terminal = threading.RLock()

    def draw(bar: _Bar) -> None:
        state = _State.of(engine.outcome(execution_id))
        # If a log handler hangs, the bar is not updated, so that the result is still returned.
        if terminal.acquire(timeout=_INTERVAL):
            try:
                bar.draw(state)
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
    """Hide the bar for the duration of the block. The next call of ``draw`` shows it again."""
    with terminal:
        with contextlib.suppress(Exception):
            bar.hide()
        yield


def _bar() -> contextlib.AbstractContextManager[_Bar]:
    try:
        import rich.progress  # noqa: F401 - checks that it is installed
    except ImportError:
        return _plain_bar()
    return _rich_bar()


@contextlib.contextmanager
def _rich_bar() -> Iterator[_Bar]:
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[running]}")) as progress:
        bar = progress.add_task("", total=None, running="")

        def draw(state: _State) -> None:
            # Hiding the bar stopped it.
            progress.start()
            progress.update(
                bar,
                description=escape(state.workflow),
                completed=state.settled,
                total=state.tasks,
                running=escape(state.running_text),
            )

        yield _Bar(draw, progress.stop)


@contextlib.contextmanager
def _plain_bar() -> Iterator[_Bar]:
    began = time.monotonic()
    out = sys.stdout

    def draw(state: _State) -> None:
        filled = _WIDTH * state.settled // max(state.tasks, 1)
        bar = "#" * filled + "-" * (_WIDTH - filled)
        seconds = int(time.monotonic() - began)
        line = f"{state.workflow} [{bar}] {state.settled}/{state.tasks} {seconds} s {state.running_text}"
        # The escape sequence clears the rest of a longer previous line.
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
