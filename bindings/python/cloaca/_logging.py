"""Forwarding of the engine's log records to ``logging.getLogger("cloaca…")``.

The engine's threads never wait for Python: they put records into a queue, and a Python thread takes them from there.

Loggers, filters, handlers and formatters are the program's own code. Their exceptions must not end a thread of the
package or lose a result: they are printed to standard error, as `logging` does for exceptions in handlers.
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

# The loggers whose level programs set; loggers below them inherit it.
_LOGGERS = tuple(logging.getLogger(name) for name in ("cloaca", "cloaca.engine", "cloaca.store"))

_lock = threading.RLock()
_thread: threading.Thread | None = None
_stopped = False
# How long to wait for the thread at interpreter exit, in seconds: a handler may hang.
_STOP_TIMEOUT = 1.0
# Progress bars on the terminal. Each is hidden while a record is handled, which may go to the same terminal.
_drawings: list[Callable[[], contextlib.AbstractContextManager[None]]] = []


@contextlib.contextmanager
def hiding(hidden: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """Handle records inside ``hidden()`` for the duration of the block."""
    _drawings.append(hidden)
    try:
        yield
    finally:
        _drawings.remove(hidden)


def start() -> None:
    """Start forwarding. Called when a runner is opened; only the first call has an effect."""
    global _thread
    with _lock:
        if _thread is not None:
            return
        _cloaca.start_logging()
        thread = threading.Thread(target=_forward, name="cloaca-log", daemon=True)
        # If the start fails, the next runner tries again.
        thread.start()
        _thread = thread


def refresh_level() -> None:
    """Pass the lowest enabled log level to the engine, which then skips records below it."""
    _guarded(_refresh_level)


def _refresh_level() -> None:
    lowest = min(logger.getEffectiveLevel() for logger in _LOGGERS)
    _cloaca.log_level(max(1, min(lowest, 255)))


def flush() -> None:
    """Forward all records up to now, including those that the thread is about to forward."""
    # A handler may wait for a thread that flushes; the records are then forwarded later.
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
    """Log at level INFO to ``cloaca.runner``."""
    _guarded(_log, logging.INFO, message, arguments, None)


def warning(message: str, *arguments: object, error: BaseException | None = None) -> None:
    """Log at level WARNING to ``cloaca.runner``."""
    _guarded(_log, logging.WARNING, message, arguments, error)


def failure(message: str, error: BaseException) -> None:
    """Log a failure with its exception at level ERROR to ``cloaca.runner``."""
    _guarded(_log, logging.ERROR, message, (), error)


def _log(level: int, message: str, arguments: tuple[object, ...], error: BaseException | None) -> None:
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


def _guarded(call: Callable[..., object], *arguments: Any) -> None:
    """Run the program's logging code, and print its exceptions to standard error.

    Raises:
        KeyboardInterrupt: On the main thread, because it may be Ctrl-C.
    """
    try:
        call(*arguments)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        if logging.raiseExceptions:
            # Standard error may be closed, or replaced by the program.
            with contextlib.suppress(BaseException):
                text = _failure.describe(error)[2]
                sys.stderr.write(f"--- Logging error ---\n{text}")


def _forget_thread() -> None:
    """Reset the state in a fork, where the thread does not exist."""
    global _thread, _lock
    _thread, _lock = None, threading.RLock()


os.register_at_fork(after_in_child=_forget_thread)


def stop() -> None:
    """Forward the remaining records and end the thread. Called at interpreter exit."""
    global _stopped
    _stopped = True
    _cloaca.wake_logs()
    if _thread is not None:
        _thread.join(_STOP_TIMEOUT)
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
    # Append the fields to the message, unless it already contains them.
    if not any(value and value in message for _, value in fields):
        message += "".join(f" {field}={value}" for field, value in fields)
    record = logger.makeRecord(name, level, "cloaca", 0, message, (), None)
    for field, value in fields:
        # `execution`, `task`, `key` and so on, for handlers. The record's own attributes are not overwritten.
        record.__dict__.setdefault(field, value)
    with _nothing_drawn():
        logger.handle(record)
