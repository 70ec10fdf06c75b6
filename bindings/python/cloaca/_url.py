"""Parsing of database URLs into the location of a log."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

from . import _logging
from .errors import ConfigurationError

FORMS = (
    'supported: "cloaca:///relative/path", "cloaca:////absolute/path", a plain path, "sqlite:///path" (opens the '
    'event log in a directory of that name), ":memory:"'
)


class Location(NamedTuple):
    """The location of a log, with the facts about its URL that are worth a warning."""

    #: The log's directory; ``None`` for a log in memory.
    path: str | None
    ignored_options: str
    is_sqlite: bool
    #: The absolute path that a URL with three slashes may have been meant to name.
    absolute: str | None = None

    def announce(self) -> None:
        """Log what a user might not expect of the URL."""
        if self.ignored_options:
            _logging.warning("the options '?%s' of the database URL are ignored", self.ignored_options)
        if self.path is None:
            return
        if self.absolute is not None and _probably_absolute(self.path, self.absolute):
            scheme = "sqlite" if self.is_sqlite else "cloaca"
            _logging.warning(
                "three slashes make a path relative to the working directory: this opens %s, not %s; for the absolute "
                "path write four: %s:///%s",
                self.path,
                self.absolute,
                scheme,
                self.absolute,
            )
        if self.is_sqlite:
            _logging.info("SQLite is not used: the embedded event log is opened in the directory %s", self.path)

    def remove_empty_file(self) -> None:
        """Remove an empty file at the log's path, such as one left by ``tempfile.NamedTemporaryFile``.

        Raises:
            ConfigurationError: The file cannot be removed.
        """
        if self.path is not None and _is_empty_file(self.path):
            try:
                os.unlink(self.path)
            except (FileNotFoundError, IsADirectoryError):
                # Another process was faster. Opening the log checks what it created.
                return
            except OSError as error:
                raise ConfigurationError(
                    f"cannot replace the empty file {self.path} by a log: {error.strerror}; remove the file, or use "
                    f"another path",
                    path=self.path,
                ) from error
            _logging.warning("%s was an empty file and is replaced by a directory with the event log", self.path)


def _is_empty_file(path: str) -> bool:
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return stat.S_ISREG(found.st_mode) and found.st_size == 0
    return False


def _probably_absolute(relative: str, absolute: str) -> bool:
    """Return whether a URL with three slashes probably means the absolute path, as in ``f"sqlite://{path}"``."""
    if relative == absolute:
        return False
    parent = os.path.dirname(absolute)
    if not os.path.isdir(parent):
        return False
    if not os.path.isdir(os.path.dirname(relative)):
        return True
    if parent.count(os.sep) > 1:
        # The same directories exist below both: an earlier run that meant the absolute path created the relative ones.
        return True
    # The absolute path has a file or a log, the relative path has nothing.
    exists = os.path.isfile(absolute) or os.path.isfile(os.path.join(absolute, "format"))
    return exists and not os.path.lexists(relative)


def parse(url: object) -> Location:
    """Parse a database URL.

    Raises:
        ConfigurationError: The URL has none of the supported forms.
    """
    if isinstance(url, os.PathLike):
        return Location(_path(os.fspath(url), url), "", False)
    if not isinstance(url, str):
        raise ConfigurationError(f"a database URL must be a str or a path, not {type(url).__name__} ({url!r}); {FORMS}")
    scheme, separator, rest = url.partition("://")
    if not separator:
        if url.startswith("sqlite:"):
            rest = url.removeprefix("sqlite:")
            return Location(_memory_or_path(rest, url), "", True)
        return Location(_memory_or_path(url, url), "", False)
    if scheme in ("postgres", "postgresql"):
        raise ConfigurationError(
            f"{without_password(url)}: PostgreSQL (one log for many machines) is not supported by this version; {FORMS}"
        )
    if scheme not in ("sqlite", "cloaca"):
        raise ConfigurationError(f"{without_password(url)}: unknown scheme '{scheme}'; {FORMS}")
    rest, _, options = rest.partition("?")
    if not rest.startswith("/"):
        # With two slashes the path takes the place of the host. Programs mean a path.
        return Location(_memory_or_path(rest, url), options, scheme == "sqlite")
    path = _memory_or_path(rest[1:], url)
    is_relative = path is not None and not rest.startswith("//")
    return Location(path, options, scheme == "sqlite", _path(rest, url) if is_relative else None)


def _memory_or_path(path: str, url: object) -> str | None:
    return None if path == ":memory:" else _path(path, url)


def _path(path: str | bytes, url: object) -> str:
    text = os.fsdecode(path)
    if not text:
        raise ConfigurationError(f"{url!r} has no path; {FORMS}")
    if "\0" in text:
        raise ConfigurationError(f"{url!r}: a path cannot contain a NUL character; {FORMS}")
    if text.startswith("//"):
        # Extra slashes are ignored; POSIX gives two leading slashes a meaning of their own.
        text = "/" + text.lstrip("/")
    return os.path.abspath(text)


def without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host = rest.rpartition("@")[2]
    return f"{scheme}://{host}"
