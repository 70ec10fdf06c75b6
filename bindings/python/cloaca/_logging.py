"""What the engine says, in ``logging.getLogger("cloaca…")``.

The engine's threads never wait for Python: their records go through a queue, and a thread takes them from there.
"""

from __future__ import annotations

import logging
import threading

from . import _cloaca

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
    _cloaca.log_level(max(1, min(logging.getLogger("cloaca").getEffectiveLevel(), 255)))


def flush() -> None:
    """Hands over what was said up to now."""
    if _cloaca.logs_pending():
        with _lock:
            for record in _cloaca.take_logs():
                _emit(*record)


def _forward() -> None:
    while (record := _cloaca.wait_logs()) is not None:
        with _lock:
            _emit(*record)
        refresh_level()


def _emit(level: int, name: str, message: str) -> None:
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        logger.handle(logger.makeRecord(name, level, "cloaca", 0, message, (), None))
