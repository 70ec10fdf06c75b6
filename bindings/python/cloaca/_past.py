"""Where the past of an execution can be read: from the engine that has its log, or, when that is gone, from the log."""

from __future__ import annotations

import weakref
from typing import Protocol

from ._cloaca import NativeEngine, NativeHistory
from .errors import LogError
from .history import History


class LogHolder(Protocol):
    """What holds a log while it is open."""

    is_closed: bool

    @property
    def engine(self) -> NativeEngine: ...


class Past:
    """A log, and what holds it as long as it is open."""

    __slots__ = ("_holder", "_path")

    def __init__(self, path: str | None, holder: LogHolder | None = None) -> None:
        self._path = path
        self._holder = None if holder is None else weakref.ref(holder)

    def history(self, execution_id: str) -> History:
        """The past of an execution.

        Raises:
            LogError: The log cannot be read, or was one in memory and is gone.
        """
        holder = None if self._holder is None else self._holder()
        if holder is not None and (self._path is None or not holder.is_closed):
            return History(holder.engine.history(execution_id))
        if self._path is None:
            raise LogError(
                "the log was kept in memory, and went with its runner; ask for the history before that",
                execution_id=execution_id,
            )
        return History(NativeHistory.open(self._path, execution_id))

    def __reduce__(self) -> tuple[type[Past], tuple[str | None]]:
        return Past, (self._path,)
