"""What the engine says, in ``logging.getLogger("cloaca…")``.

The engine's threads never wait for Python: their records go through a queue, and a thread takes them from there.
"""

from __future__ import annotations

import logging
import threading

from . import _cloaca

# Loggers whose level may be set on purpose; those below them inherit it.
_NAMES = ("cloaca", "cloaca.engine", "cloaca.store")

_lock = threading.RLock()
_thread: threading.Thread | None = None
_stopped = False
# So long the end of the thread is waited for: a handler may hang.
_ENDING = 1.0


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
    lowest = min(logging.getLogger(name).getEffectiveLevel() for name in _NAMES)
    _cloaca.log_level(max(1, min(lowest, 255)))


def flush() -> None:
    """Hands over what was said up to now, also what the other thread is about to."""
    # A handler may wait for somebody who flushes: then the records come a little later.
    if not _lock.acquire(timeout=1.0):
        return
    try:
        for record in _cloaca.take_logs():
            _emit(*record)
    finally:
        _lock.release()


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
    logger.handle(record)
