"""The results of executions and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _portable
from ._cloaca import Context, span
from ._failure import name_of
from ._times import optional_rfc3339, rfc3339
from .errors import LogError, TaskTimeoutError, WorkflowFailedError

if TYPE_CHECKING:
    from ._cloaca import RawOutcome, RawTask
    from ._history_source import HistorySource
    from .history import History
    from .literals import ExecutionStatus, TaskStatus

__all__ = ["PipelineResult", "TaskResult", "WorkflowResult"]


class TaskResult(NamedTuple):
    """The outcome of a task, or its state if it has not ended.

    Example:
        >>> import cloaca
        >>> with cloaca.WorkflowBuilder("fails"):
        ...     @cloaca.task(retry_attempts=1)
        ...     def fail():
        ...         raise ValueError("as asked")
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     task = runner.execute("fails").tasks["fail"]
        >>> task.state, task.attempts, task.error
        ('Failed', 1, 'ValueError: as asked')
    """

    state: TaskStatus
    """``Pending``, ``Running``, ``Deferred`` (it waits without a slot), ``WaitingRetry``, ``Completed``, ``Failed``,
    ``Skipped`` or ``Cancelled``."""
    attempts: int
    """The number of attempts started."""
    error: str | None
    """The last error, such as ``ValueError: message``; for a skipped task the reason, which begins with
    ``skipped by failure`` if an upstream failure was not handled."""
    traceback: str | None
    """The traceback of that error."""
    started: str | None
    """When its first attempt started (RFC 3339)."""
    ended: str | None
    """When it completed, failed, was skipped or was cancelled (RFC 3339)."""


class WorkflowResult:
    """The result of an execution. (``PipelineResult`` is the same class.)

    Example:
        >>> import cloaca
        >>> with cloaca.WorkflowBuilder("load_rows"):
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = [7, 0]
        ...     @cloaca.task(dependencies=[extract], retry_attempts=1)
        ...     def divide(context):
        ...         context["shares"] = [100 / row for row in context["rows"]]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     result = runner.execute("load_rows", {"day": "2026-01-31"})
        >>> result.status, result.error_message
        ('Failed', "task 'divide' failed, attempt 1 of 1: ZeroDivisionError: division by zero")
    """

    __slots__ = (
        "_cause",
        "_ended",
        "_error_message",
        "_execution_id",
        "_failed",
        "_failed_type",
        "_final_context",
        "_raw_tasks",
        "_source",
        "_started",
        "_status",
        "_tasks",
        "_workflow_name",
    )

    def __init__(
        self, raw: RawOutcome, cause: BaseException | None = None, source: HistorySource | None = None
    ) -> None:
        self._source = source
        self._execution_id = raw["execution_id"]
        self._workflow_name = raw["workflow_name"]
        self._status = raw["status"]
        self._final_context = raw["context"]
        self._error_message = raw["error"]
        self._raw_tasks = raw["tasks"]
        # Built on first access: that is the most expensive part.
        self._tasks: Mapping[str, TaskResult] | None = None
        self._started = raw["started"]
        self._ended = raw["ended"]
        self._failed = raw["failed"]
        failed = raw["failed"]
        self._failed_type: str | None = None
        if failed is not None:
            types = (task["error_type"] for task in raw["tasks"] if task["task_id"] == failed[0])
            self._failed_type = next(types, None)
        # An attempt that timed out may raise later; that exception is not the cause of the failure.
        self._cause = cause if cause is not None and name_of(type(cause)) == self._failed_type else None

    @property
    def execution_id(self) -> str:
        """The execution's id, a UUID, for ``replay`` and
        [`DefaultRunner.get_execution`][cloaca.DefaultRunner.get_execution].

        Example:
            >>> len(result.execution_id)
            36
        """
        return self._execution_id

    @property
    def workflow_name(self) -> str:
        """The workflow's name.

        Example:
            >>> result.workflow_name
            'load_rows'
        """
        return self._workflow_name

    @property
    def status(self) -> ExecutionStatus:
        """The status: ``Completed``, ``Failed`` or ``Cancelled``, or as in
        [`Execution.status`][cloaca.Execution.status] if the execution has not ended.

        Example:
            >>> result.status
            'Failed'
        """
        return self._status

    @property
    def final_context(self) -> Context:
        """The final context: the input, and the writes of the completed tasks, as a task after all others would see it.

        Example:
            >>> result.final_context
            Context({"day":"2026-01-31","rows":[7,0]})
        """
        return self._final_context

    @property
    def error_message(self) -> str | None:
        """The error: the task, the attempt, the exception and what to do; ``None`` if the execution did not fail.

        Example:
            >>> result.error_message
            "task 'divide' failed, attempt 1 of 1: ZeroDivisionError: division by zero"
        """
        return self._error_message

    @property
    def tasks(self) -> Mapping[str, TaskResult]:
        """Each task's [`TaskResult`][cloaca.TaskResult], by id, in the order of the definition.

        Example:
            >>> {task_id: task.state for task_id, task in result.tasks.items()}
            {'extract': 'Completed', 'divide': 'Failed'}
            >>> "in divide" in result.tasks["divide"].traceback
            True
        """
        if self._tasks is None:
            self._tasks = {task["task_id"]: _task_result(task) for task in self._raw_tasks}
        return self._tasks

    @property
    def start_time(self) -> str:
        """When the execution started (RFC 3339, UTC).

        Example:
            >>> import datetime
            >>> datetime.datetime.fromisoformat(result.start_time).tzinfo
            datetime.timezone.utc
        """
        return rfc3339(self._started)

    @property
    def end_time(self) -> str | None:
        """When the execution ended (RFC 3339, UTC); ``None`` while it is running.

        Example:
            >>> result.end_time > result.start_time
            True
        """
        return optional_rfc3339(self._ended)

    @property
    def duration(self) -> timedelta | None:
        """The time from start to end, including delays between attempts; ``None`` while it is running.

        Example:
            >>> 0 < result.duration.total_seconds() < 60
            True
        """
        return None if self._ended is None else timedelta(microseconds=self._ended - self._started)

    @property
    def error(self) -> str | None:
        """The same as ``error_message``.

        Example:
            >>> result.error == result.error_message
            True
        """
        return self.error_message

    def raise_for_status(self) -> WorkflowResult:
        """Return the result itself if the execution completed; raise otherwise.

        Raises:
            WorkflowFailedError: The execution did not complete. The cause is the exception that the task raised, with
                its traceback, if it is still in this process. The local variables of its frames are freed when the
                attempt ends.

        Example:
            >>> try:
            ...     result.raise_for_status()
            ... except cloaca.WorkflowFailedError as error:
            ...     error.task_id, error.attempt, error.__cause__
            ('divide', 1, ZeroDivisionError('division by zero'))
        """
        if self.status == "Completed":
            return self
        task_id, attempt = self._failed if self._failed is not None else (None, None)
        message = self.error_message or f"execution {self.execution_id} of '{self.workflow_name}' is {self.status}"
        cause = self._cause
        if cause is None and self._failed_type == "TaskTimeoutError":
            cause = TaskTimeoutError(message, execution_id=self.execution_id, task_id=task_id, attempt=attempt)
        raise WorkflowFailedError(
            message,
            execution_id=self.execution_id,
            workflow=self.workflow_name,
            task_id=task_id,
            attempt=attempt,
        ) from cause

    def history(self) -> History:
        """Return the history: every event, what each task read, and where each value came from.

        Raises:
            LogError: The log cannot be read, or it was in memory and its runner is gone.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     history = runner.execute("load_rows").history()
            >>> history.tasks["divide"].attempts[0].error.kind
            'ZeroDivisionError'
        """
        if self._source is None:
            raise LogError("this result has no runner, and so no history", execution_id=self.execution_id)
        return self._source.history(self.execution_id)

    def _repr_html_(self) -> str:
        import html

        took = "" if self.duration is None else f", {_format(self.duration)}"
        cells = [(name, task.state, str(task.attempts), task.error or "") for name, task in self.tasks.items()]
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        error = "" if self.error_message is None else f"<p>{html.escape(self.error_message)}</p>"
        return (
            f"<p><b>{html.escape(self.workflow_name)}</b> {self.status}{took}<br><small>{self.execution_id}</small></p>"
            f"{error}<table><thead><tr><th>task</th><th>state</th><th>attempts</th><th>error</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    def __getstate__(self) -> dict[str, Any]:
        # The result can always be pickled; a cause that cannot be is dropped.
        return {**self._slot_values(), "_cause": _portable.pickled(self._cause)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for slot, value in state.items():
            setattr(self, slot, value)
        self._cause = _portable.unpickled(state["_cause"])

    def __copy__(self) -> WorkflowResult:
        # Within the process, keep the same cause object.
        copied = type(self).__new__(type(self))
        for slot, value in self._slot_values().items():
            setattr(copied, slot, value)
        return copied

    def __deepcopy__(self, _: object) -> WorkflowResult:
        copied = self.__copy__()
        copied._final_context = self._final_context.copy()
        return copied

    def _slot_values(self) -> dict[str, Any]:
        return {slot: getattr(self, slot) for slot in self.__slots__}

    def __repr__(self) -> str:
        parts = [
            f"status={self.status!r}",
            f"workflow_name={self.workflow_name!r}",
            f"execution_id={self.execution_id!r}",
        ]
        if self.duration is not None:
            parts.append(f"duration={_format(self.duration)}")
        if self.error_message is not None:
            parts.append(f"error_message={self.error_message!r}")
        return f"WorkflowResult({', '.join(parts)})"


def _format(duration: timedelta) -> str:
    return span(duration // timedelta(microseconds=1))


def _task_result(task: RawTask) -> TaskResult:
    return TaskResult(
        state=task["state"],
        attempts=task["attempts"],
        error=task["error"] if task["error"] is not None else task["skipped"],
        traceback=task["traceback"],
        started=optional_rfc3339(task["started"]),
        ended=optional_rfc3339(task["ended"]),
    )


PipelineResult = WorkflowResult
