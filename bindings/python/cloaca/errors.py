"""Everything that cloaca raises by itself.

All of it is an [`Error`][cloaca.errors.Error]; where Python has a word for the kind of mistake (``ValueError``,
``KeyError``, ``TimeoutError``), it is that too. The attributes say what the message says, for programs. Errors can be
pickled.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AttemptOverError",
    "ConfigurationError",
    "ContextError",
    "Error",
    "ExecutionNotFoundError",
    "LogCorruptedError",
    "LogError",
    "LogLockedError",
    "LogVersionError",
    "MomentNotFoundError",
    "TaskTimeoutError",
    "UndeclaredReadError",
    "UnknownKeyError",
    "WaitTimeoutError",
    "WorkerDiedError",
    "WorkflowFailedError",
    "WorkflowNotFoundError",
    "WorkflowValidationError",
]


def _rebuild(cls: type[Error], message: str, attributes: dict[str, Any]) -> Error:
    return cls(message, **attributes)


class Error(Exception):
    """What every error of cloaca is. An attribute is ``None`` where it does not apply.

    Attributes:
        execution_id: The execution that it is about.
        task_id: The task that it is about.
        attempt: The attempt at that task, from 1.
        seq: The event in the execution's stream.
        path: The log's directory.
        key: The context key.
        workflow: The workflow's name.
    """

    _attributes: ClassVar[tuple[str, ...]] = (
        "execution_id",
        "task_id",
        "attempt",
        "seq",
        "path",
        "key",
        "workflow",
    )

    def __init__(
        self,
        message: str = "",
        *,
        execution_id: str | None = None,
        task_id: str | None = None,
        attempt: int | None = None,
        seq: int | None = None,
        path: str | None = None,
        key: str | None = None,
        workflow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.execution_id = execution_id
        self.task_id = task_id
        self.attempt = attempt
        self.seq = seq
        self.path = path
        self.key = key
        self.workflow = workflow

    def __str__(self) -> str:
        # KeyError would show the message as a repr.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        attributes = {name: getattr(self, name) for name in self._attributes}
        return _rebuild, (type(self), self.message, attributes)


class WorkflowValidationError(Error, ValueError):
    """A workflow that cannot be: every problem that it has is in the message."""


class WorkflowNotFoundError(Error, ValueError):
    """No workflow of this name is registered."""


class ConfigurationError(Error, ValueError):
    """A database URL or path that cannot be used."""


class ContextError(Error):
    """A context value that cannot be stored."""


class LogError(Error):
    """The log could not be opened, read or written."""


class LogLockedError(LogError):
    """Another process has the log."""


class LogCorruptedError(LogError):
    """The log is not what was written."""


class LogVersionError(LogError):
    """A newer version wrote the log."""


class WorkflowFailedError(Error):
    """An execution that did not complete. Raised by ``raise_for_status()`` only; its ``__cause__`` is what the task
    raised, the same object where that is still in this process."""


class TaskTimeoutError(Error, TimeoutError):
    """An attempt that took longer than its timeout."""


class AttemptOverError(Error):
    """The attempt that a task makes counts no more: it timed out, its execution was cancelled, or its runner was shut
    down. Raised in [`TaskHandle.defer_until`][cloaca.TaskHandle.defer_until]; let it pass, and the task ends."""


class WorkerDiedError(Error):
    """The worker process of a task with ``isolation="process"`` died while the task ran; the message has the signal."""


class WaitTimeoutError(Error, TimeoutError):
    """The time for a wait ran out. The execution goes on."""


class ExecutionNotFoundError(Error, LookupError):
    """No execution in this log has that id."""


class MomentNotFoundError(Error, LookupError):
    """The history has no such moment: no such event, time, task or attempt."""


class UnknownKeyError(Error, KeyError):
    """The context of that execution never had the key."""


class UndeclaredReadError(Error, KeyError):
    """With ``strict_context``: a task read a key that only a task wrote which it does not depend on."""
