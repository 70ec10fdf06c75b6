"""What the engine says, in ``logging.getLogger("cloaca…")``.

The engine's threads never wait for Python: their records go through a queue, and a thread takes them from there.

Loggers, filters, handlers and formatters are the program's own code. What they raise ends no thread of ours and loses
no result: it goes to standard error, as what a handler of `logging` raises does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from . import _cloaca, _failure

# Loggers whose level may be set on purpose; those below them inherit it.
_LOGGERS = tuple(logging.getLogger(name) for name in ("cloaca", "cloaca.engine", "cloaca.store"))

_lock = threading.RLock()
_thread: threading.Thread | None = None
_stopped = False
# So long the end of the thread is waited for: a handler may hang.
_ENDING = 1.0
# What is drawn on the terminal just now: each is hidden while a record is handled, which may go to the same terminal.
_drawings: list[Callable[[], contextlib.AbstractContextManager[None]]] = []


@contextlib.contextmanager
def hiding(hidden: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """Handles records inside ``hidden()``, as long as the block lasts."""
    _drawings.append(hidden)
    try:
        yield
    finally:
        _drawings.remove(hidden)


def start() -> None:
    """From the first runner on."""
    global _thread
    with _lock:
        if _thread is not None:
            return
        _cloaca.start_logging()
        thread = threading.Thread(target=_forward, name="cloaca-log", daemon=True)
        # Without it nobody would hand over what is said while nobody waits; the next runner tries again.
        thread.start()
        _thread = thread


def refresh_level() -> None:
    """Tells the engine what is wanted: what nobody listens to is not even written down."""
    _guarded(_refresh_level)


def _refresh_level() -> None:
    lowest = min(logger.getEffectiveLevel() for logger in _LOGGERS)
    _cloaca.log_level(max(1, min(lowest, 255)))


def flush() -> None:
    """Hands over what was said up to now, also what the other thread is about to."""
    # A handler may wait for somebody who flushes: then the records come a little later.
    if not _lock.acquire(timeout=1.0):
        return
    interrupt = None
    try:
        for record in _cloaca.take_logs():
            try:
                _guarded(_emit, *record)
            except KeyboardInterrupt as error:
                interrupt = error
    finally:
        _lock.release()
    if interrupt is not None:
        raise interrupt


def info(message: str, *arguments: object) -> None:
    """Says something that the program may want to know, to ``cloaca.runner``."""
    _guarded(_say, logging.INFO, message, arguments, None)


def warning(message: str, *arguments: object, error: BaseException | None = None) -> None:
    """Says what the program should know, to ``cloaca.runner``."""
    _guarded(_say, logging.WARNING, message, arguments, error)


def failure(message: str, error: BaseException) -> None:
    """Says that something failed, and why, to ``cloaca.runner``."""
    _guarded(_say, logging.ERROR, message, (), error)


def _say(level: int, message: str, arguments: tuple[object, ...], error: BaseException | None) -> None:
    logger = logging.getLogger("cloaca.runner")
    if logger.isEnabledFor(level):
        with _nothing_drawn():
            logger.log(level, message, *arguments, exc_info=error)


@contextlib.contextmanager
def _nothing_drawn() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for hidden in list(_drawings):
            stack.enter_context(hidden())
        yield


def _guarded(say: Callable[..., object], *arguments: Any) -> None:
    """Runs the program's logging code.

    Raises:
        KeyboardInterrupt: On the main thread, since it may be Ctrl-C.
    """
    try:
        say(*arguments)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        if logging.raiseExceptions:
            # Standard error may be closed, or be the program's own code, too.
            with contextlib.suppress(BaseException):
                text = _failure.describe(error)[2]
                sys.stderr.write(f"--- Logging error ---\n{text}")


def _forget_thread() -> None:
    """In a fork, which does not have it."""
    global _thread, _lock
    _thread, _lock = None, threading.RLock()


os.register_at_fork(after_in_child=_forget_thread)


def stop() -> None:
    """At the end of the interpreter: hands over what is left, and ends the thread."""
    global _stopped
    _stopped = True
    _cloaca.ring_logs()
    if _thread is not None:
        _thread.join(_ENDING)
    flush()


def _forward() -> None:
    while True:
        _cloaca.wait_logs()
        if _stopped:
            return
        flush()
        refresh_level()


def _emit(level: int, name: str, message: str, fields: list[tuple[str, str]]) -> None:
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(level):
        return
    # A message that says its fields is a whole sentence; the others are short, and their fields follow them.
    if not any(value and value in message for _, value in fields):
        message += "".join(f" {field}={value}" for field, value in fields)
    record = logger.makeRecord(name, level, "cloaca", 0, message, (), None)
    for field, value in fields:
        # `execution`, `task`, `key` … for handlers; what a record has itself stays as it is.
        record.__dict__.setdefault(field, value)
    with _nothing_drawn():
        logger.handle(record)
