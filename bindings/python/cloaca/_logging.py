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
_started = False


def start() -> None:
    """From the first runner on."""
    global _started
    with _lock:
        if _started:
            return
        _started = True
    _cloaca.start_logging()
    threading.Thread(target=_forward, name="cloaca-log", daemon=True).start()


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


def _forward() -> None:
    while True:
        _cloaca.wait_logs()
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
