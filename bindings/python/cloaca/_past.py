"""Where the past of an execution can be read: from its runner, or, when that is gone, from the log."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ._cloaca import NativeHistory
from .errors import LogError

if TYPE_CHECKING:
    from .history import History
    from .runner import DefaultRunner


class Past:
    """A log, and the runner that holds it as long as it lives."""

    __slots__ = ("_path", "_runner")

    def __init__(self, path: str | None, runner: DefaultRunner | None = None) -> None:
        self._path = path
        self._runner = None if runner is None else weakref.ref(runner)

    def history(self, execution_id: str) -> History:
        """The past of an execution.

        Raises:
            LogError: The log cannot be read, or was one in memory and is gone.
        """
        from .history import History

        runner = None if self._runner is None else self._runner()
        if runner is not None and (self._path is None or not runner.is_shut_down):
            return History(runner._engine.history(execution_id))
        if self._path is None:
            raise LogError(
                "the log was kept in memory, and went with its runner; ask for the history before that",
                execution_id=execution_id,
            )
        return History(NativeHistory.open(self._path, execution_id))

    def __reduce__(self) -> tuple[type[Past], tuple[str | None]]:
        return Past, (self._path,)
