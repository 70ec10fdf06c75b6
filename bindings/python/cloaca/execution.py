"""Executions: the handle that `submit` returns, and entries of listings."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import Error

if TYPE_CHECKING:
    from ._host import Host
    from .history import History
    from .literals import ExecutionStatus
    from .result import WorkflowResult

__all__ = ["Execution", "ExecutionInfo"]

# The statuses of unfinished executions that the runner does not run.
HELD = ("Blocked", "Damaged")


class ExecutionInfo(NamedTuple):
    """An execution as ``list_executions`` returns it.

    Example:
        >>> import cloaca
        >>> with cloaca.WorkflowBuilder("etl"):
        ...     @cloaca.task
        ...     def extract(): ...
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     result = runner.execute("etl")
        ...     [info] = runner.list_executions("Completed", "etl", limit=1)
        >>> info.workflow_name, info.reason, info.id == result.execution_id
        ('etl', None, True)
    """

    id: str
    """The execution's id."""
    workflow_name: str
    """The workflow's name."""
    status: ExecutionStatus
    """The status; see [`Execution.status`][cloaca.Execution.status]."""
    start_time: str
    """When it started (RFC 3339, UTC)."""
    end_time: str | None
    """When it ended (RFC 3339, UTC); ``None`` if it has not ended."""
    events: int
    """The number of its events."""
    reason: str | None
    """Why it is blocked, damaged, deferred or waiting; otherwise ``None``."""
    until: str | None
    """When its wait ends (RFC 3339, UTC), if known."""
    next_step: str | None
    """What to do to continue it; ``None`` if no action is needed."""

    @property
    def blocked(self) -> str | None:
        """The ``reason`` if the execution is blocked or damaged, and so not run by this runner; otherwise ``None``.

        Example:
            >>> info.blocked is None
            True
        """
        return self.reason if self.status in HELD else None


class Execution:
    """A handle of a submitted execution. It can be awaited: ``result = await execution``.

    Example:
        >>> import cloaca
        >>> with cloaca.WorkflowBuilder("etl"):
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = 3
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     execution = runner.submit("etl")
        ...     execution.result(timeout=30).final_context["rows"]
        3
        >>> import asyncio
        >>> async def submit_and_wait(runner):
        ...     execution = runner.submit("etl")
        ...     return await execution
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     asyncio.run(submit_and_wait(runner)).status
        'Completed'
    """

    __slots__ = ("_host", "_id")

    def __init__(self, host: Host, execution_id: str) -> None:
        self._host = host
        self._id = execution_id

    @property
    def id(self) -> str:
        """The execution's id, a UUID. Generated ids sort by creation time.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     first, second = runner.submit("etl"), runner.submit("etl")
            ...     runner.get_execution(first.id) == first, first.id < second.id
            (True, True)
        """
        return self._id

    @property
    def status(self) -> ExecutionStatus:
        """The current status, as ``replay`` shows it:

        | status | meaning |
        |---|---|
        | ``Running`` | An attempt is running or ready to run. |
        | ``Waiting`` | No attempt is running: the next one is not due yet, or no slot is free. |
        | ``Deferred`` | Its tasks wait in ``defer_until`` and hold no slot. |
        | ``Blocked`` | This runner does not run it: its workflow has another graph, or is not registered. |
        | ``Damaged`` | Its history in the log is damaged: it cannot be resumed. |
        | ``Paused`` | No further attempt starts until ``resume``. |
        | ``Completed``, ``Failed``, ``Cancelled`` | It has ended. |

        (``replay`` has one more: ``NotRunning``, for an unfinished execution in a log that no process holds.)

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("etl")
            ...     _ = execution.result()
            ...     execution.status
            'Completed'
        """
        return self._host.engine.standing(self._id)["status"]

    @property
    def blocked(self) -> str | None:
        """The reason and the next step if the execution is blocked or damaged; otherwise ``None``.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("etl")
            ...     print(execution.blocked)
            None
        """
        standing = self._host.engine.standing(self._id)
        if standing["status"] not in HELD:
            return None
        return f"{standing['reason']}; {standing['next_step']}"

    @property
    def done(self) -> bool:
        """Whether the execution has ended: Completed, Failed or Cancelled.

        A task can wait for another execution without holding a slot:

        Example:
            >>> with cloaca.WorkflowBuilder("nightly"):
            ...     @cloaca.task
            ...     def whole(context, handle):
            ...         execution = runner.submit("etl")
            ...         handle.defer_until(lambda: execution.done, poll_interval_ms=10)
            ...         context["etl"] = execution.result().status
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.execute("nightly").final_context["etl"]
            'Completed'
        """
        return self.status in ("Completed", "Failed", "Cancelled")

    def result(self, timeout: float | None = None) -> WorkflowResult:
        """Wait for the end of the execution and return its result.

        Ctrl-C ends the wait; the execution continues.

        Args:
            timeout: The maximum wait in seconds; ``None`` waits without a limit.

        Raises:
            WaitTimeoutError: The execution was still running after ``timeout`` seconds. (A ``TimeoutError``.)

        Example:
            >>> with cloaca.WorkflowBuilder("waits"):
            ...     @cloaca.task
            ...     def wait(context, handle):
            ...         handle.defer_until(lambda: ready, poll_interval_ms=10)
            >>> ready = False
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("waits")
            ...     try:
            ...         execution.result(timeout=0.01)
            ...     except TimeoutError:
            ...         print("not yet")
            ...     ready = True
            ...     execution.result().status
            not yet
            'Completed'
        """
        check_timeout(timeout)
        return self._host.wait(self._id, timeout)

    def cancel(self, reason: str | None = None) -> None:
        """Cancel the execution.

        No further attempt starts and running ``async def`` tasks are cancelled. A task on a thread cannot be stopped;
        its outcome is ignored. Blocked executions can be cancelled too.

        Args:
            reason: The reason to record in the log.

        Raises:
            Error: The execution has ended.

        Example:
            >>> with cloaca.WorkflowBuilder("waits"):
            ...     @cloaca.task
            ...     def wait(context, handle):
            ...         handle.defer_until(lambda: False)
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("waits")
            ...     execution.cancel("the input was wrong")
            ...     execution.result().error_message
            'cancelled by user: the input was wrong'
        """
        self._host.engine.cancel(self._id, reason)

    def pause(self) -> None:
        """Pause the execution: no further attempt starts. Running attempts finish as usual.

        Raises:
            Error: The execution has ended, is already paused, or is blocked.

        Example:
            >>> with cloaca.WorkflowBuilder("steps"):
            ...     @cloaca.task
            ...     def first(context, handle):
            ...         handle.defer_until(lambda: paused, poll_interval_ms=10)
            ...     @cloaca.task(dependencies=[first])
            ...     def second(): ...
            >>> paused = False
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("steps")
            ...     execution.pause()
            ...     paused = True
            ...     execution.status
            ...     execution.resume()
            ...     execution.result().status
            'Paused'
            'Completed'
        """
        self._host.engine.pause(self._id)

    def resume(self) -> None:
        """Resume the execution after [`pause`][cloaca.Execution.pause].

        To resume a blocked execution, use [`DefaultRunner.resume`][cloaca.DefaultRunner.resume].

        Raises:
            Error: The execution is not paused.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("etl")
            ...     _ = execution.result()
            ...     try:
            ...         execution.resume()
            ...     except cloaca.Error as error:
            ...         print(str(error).replace(execution.id, "…"))
            execution …: the execution has ended (Completed)
        """
        self._host.engine.unpause(self._id)

    def retry(self, *, by: str | None = None, reason: str | None = None) -> None:
        """Continue the execution from what failed, if it has failed or was cancelled.

        Arguments, errors and details are those of [`DefaultRunner.retry`][cloaca.DefaultRunner.retry].

        Example:
            >>> with cloaca.WorkflowBuilder("waits"):
            ...     @cloaca.task
            ...     def wait(context, handle):
            ...         handle.defer_until(lambda: ready, poll_interval_ms=10)
            >>> ready = False
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("waits")
            ...     execution.cancel("takes too long")
            ...     execution.result().status
            ...     ready = True
            ...     execution.retry()
            ...     execution.result().status
            'Cancelled'
            'Completed'
        """
        self._host.engine.retry(self._id, by, reason)

    def history(self) -> History:
        """Return the history up to now: every event, what each task read, and where each value came from.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("etl")
            ...     _ = execution.result()
            ...     [event.kind for event in execution.history().events]
            ['ExecutionStarted', 'TaskStarted', 'ContextWritten', 'TaskCompleted', 'ExecutionCompleted']
        """
        return self._host.history_source.history(self._id)

    def __await__(self) -> Generator[Any, None, WorkflowResult]:
        return self._host.wait_async(self._id).__await__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Execution) and (self._id, self._host) == (other._id, other._host)

    def __hash__(self) -> int:
        return hash(self._id)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an Execution cannot be pickled; pickle its id, and call get_execution(id) on a runner")

    def __repr__(self) -> str:
        try:
            standing = self._host.engine.standing(self._id)
        except Error:
            # The runner belongs to another process, or its log cannot be read.
            return f"Execution(id={self._id!r})"
        reason = "" if standing["reason"] is None else f", reason={standing['reason']!r}"
        return f"Execution(id={self._id!r}, status={standing['status']!r}{reason})"


def check_timeout(timeout: object) -> None:
    """Check a timeout argument. Called before anything starts, so that an invalid timeout has no effect."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if timeout != timeout:
        raise ValueError("timeout must be a number of seconds or None, not nan")
