"""The source of an execution's history: the engine that holds the log, or else the log's files."""

from __future__ import annotations

import weakref
from typing import Protocol

from ._cloaca import NativeEngine, NativeHistory
from .errors import LogError
from .history import History


class LogHolder(Protocol):
    """The host whose engine holds the log while it is open."""

    is_closed: bool

    @property
    def engine(self) -> NativeEngine: ...


class HistorySource:
    """A log, read through its holder while that is open, and from its files afterwards."""

    __slots__ = ("_holder", "_path")

    def __init__(self, path: str | None, holder: LogHolder | None = None) -> None:
        self._path = path
        self._holder = None if holder is None else weakref.ref(holder)

    def history(self, execution_id: str) -> History:
        """Return the history of an execution.

        Raises:
            LogError: The log cannot be read, or it was in memory and its runner is gone.
        """
        holder = None if self._holder is None else self._holder()
        if holder is not None and (self._path is None or not holder.is_closed):
            return History(holder.engine.history(execution_id))
        if self._path is None:
            raise LogError(
                "the log was in memory and is gone with its runner; call history() while the runner exists",
                execution_id=execution_id,
            )
        return History(NativeHistory.open(self._path, execution_id))

    def __reduce__(self) -> tuple[type[HistorySource], tuple[str | None]]:
        return HistorySource, (self._path,)
