"""Where a log is, from the URLs that programs have."""

from __future__ import annotations

import os
from typing import NamedTuple

from .errors import ConfigurationError

FORMS = (
    'these work: "cloaca:///relative/path", "cloaca:////absolute/path", a plain path, "sqlite:///path" (opens the '
    'event log in a directory of that name), ":memory:"'
)


class Location(NamedTuple):
    """A log's directory, ``None`` for one in memory; and what has to be said about its URL."""

    path: str | None
    ignored_options: str
    is_sqlite: bool


def parse(url: object) -> Location:
    """What a database URL means.

    Raises:
        ConfigurationError: It is none of the forms that work.
    """
    if isinstance(url, os.PathLike):
        return Location(_path(os.fspath(url), url), "", False)
    if not isinstance(url, str):
        raise ConfigurationError(f"a database URL is a str or a path, not {type(url).__name__} ({url!r}); {FORMS}")
    scheme, separator, rest = url.partition("://")
    if not separator:
        if url.startswith("sqlite:"):
            rest = url.removeprefix("sqlite:")
            return Location(_memory_or_path(rest, url), "", True)
        return Location(_memory_or_path(url, url), "", False)
    if scheme in ("postgres", "postgresql"):
        raise ConfigurationError(
            f"{_without_password(url)}: PostgreSQL (one log for many machines) is not supported by this version; "
            f"{FORMS}"
        )
    if scheme not in ("sqlite", "cloaca"):
        raise ConfigurationError(f"{_without_password(url)}: unknown scheme '{scheme}'; {FORMS}")
    rest, _, options = rest.partition("?")
    if not rest.startswith("/"):
        # Two slashes: where a host would stand. Programs mean the path.
        return Location(_memory_or_path(rest, url), options, scheme == "sqlite")
    return Location(_memory_or_path(rest[1:], url), options, scheme == "sqlite")


def _memory_or_path(path: str, url: object) -> str | None:
    return None if path == ":memory:" else _path(path, url)


def _path(path: str | bytes, url: object) -> str:
    text = os.fsdecode(path)
    if not text:
        raise ConfigurationError(f"{url!r} names no log; {FORMS}")
    if "\0" in text:
        raise ConfigurationError(f"{url!r}: a path has no NUL character; {FORMS}")
    if text.startswith("//"):
        # More slashes than four mean the same path; POSIX would keep two apart from one.
        text = "/" + text.lstrip("/")
    return os.path.abspath(text)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    place = rest.rpartition("@")[2]
    return f"{scheme}://{place}"
