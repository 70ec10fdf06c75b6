"""Conversion of times between the log's microseconds since 1970 and RFC 3339 strings in UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def rfc3339(micros: int) -> str:
    """Return a time as an RFC 3339 string."""
    return (_EPOCH + micros * _MICROSECOND).isoformat(timespec="microseconds")


def optional_rfc3339(micros: int | None) -> str | None:
    """Return a time as an RFC 3339 string; ``None`` for ``None``."""
    return None if micros is None else rfc3339(micros)


def micros(time: datetime) -> int:
    """Return the microseconds since 1970 of a time that has a time zone."""
    return (time - _EPOCH) // _MICROSECOND
