"""Which attempt the code belongs to that runs just now."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from ._cloaca import Attempt

_attempt: ContextVar[Attempt | None] = ContextVar("cloaca_attempt", default=None)


def call(attempt: Attempt, *arguments: Any) -> Any:
    """Calls an attempt's function, in a context that knows the attempt."""
    _attempt.set(attempt)
    return attempt.function(*arguments)


def attempt() -> Attempt | None:
    """Returns the attempt that the caller belongs to."""
    return _attempt.get()
