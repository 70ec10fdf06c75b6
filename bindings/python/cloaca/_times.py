"""Times as the log has them, in microseconds since 1970, and as RFC 3339 texts in UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def rfc3339(micros: int) -> str:
    """Returns a time as text."""
    return (_EPOCH + micros * _MICROSECOND).isoformat(timespec="microseconds")


def optional_rfc3339(micros: int | None) -> str | None:
    """Returns a time as text, ``None`` for none."""
    return None if micros is None else rfc3339(micros)


def micros(time: datetime) -> int:
    """Returns the microseconds of a time that has a time zone."""
    return (time - _EPOCH) // _MICROSECOND
