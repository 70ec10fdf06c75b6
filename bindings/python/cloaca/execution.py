"""Executions that a runner was given, and as it lists them."""

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

# The states of what is unfinished and not run by the runner that was asked.
HELD = ("Blocked", "Damaged")


class ExecutionInfo(NamedTuple):
    """An execution in a listing.

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
    """Its id."""
    workflow_name: str
    """The workflow's name."""
    status: ExecutionStatus
    """As in [`Execution.status`][cloaca.Execution.status]."""
    start_time: str
    """When it started (RFC 3339, UTC)."""
    end_time: str | None
    """When it ended, or ``None``."""
    events: int
    """How many events it has."""
    reason: str | None
    """Why it is blocked, damaged, deferred or waiting; otherwise ``None``."""
    until: str | None
    """Until when it waits (RFC 3339, UTC), where that is known."""
    next_step: str | None
    """What makes it go on, if somebody has to do something."""

    @property
    def blocked(self) -> str | None:
        """The ``reason``, if it is blocked or damaged: it is unfinished, and this runner does not run it.

        Example:
            >>> info.blocked is None
            True
        """
        return self.reason if self.status in HELD else None


class Execution:
    """An execution that was submitted. It can be awaited: ``result = await execution``.

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
        """Its id, a UUID. Ids sort by the time at which they were made.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     first, second = runner.submit("etl"), runner.submit("etl")
            ...     runner.get_execution(first.id) == first, first.id < second.id
            (True, True)
        """
        return self._id

    @property
    def status(self) -> ExecutionStatus:
        """How it stands, in the words of ``replay``:

        | status | meaning |
        |---|---|
        | ``Running`` | An attempt runs, or one is ready to. |
        | ``Waiting`` | Nothing runs until the next attempt is due, or while no slot comes free. |
        | ``Deferred`` | Its tasks wait in ``defer_until``, and hold no slot. |
        | ``Blocked`` | This runner does not run it: its workflow has another graph, or is not registered. |
        | ``Damaged`` | Its history in the log is not what was written: it cannot be resumed. |
        | ``Paused`` | No further attempt starts until ``resume``. |
        | ``Completed``, ``Failed``, ``Cancelled`` | It is over. |

        (``replay`` has one more: ``NotRunning``, unfinished in a log that no process has.)

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
        """Why this runner does not run it although it is unfinished, and what to do; ``None`` if that is not so.

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
        """Whether it has ended: Completed, Failed or Cancelled.

        A task that waits for another execution gives its slot back with this, so that the other can run:

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
        """Waits for its end. Ctrl-C leaves the wait, and the execution running.

        Args:
            timeout: How many seconds to wait at most; ``None``: for ever.

        Raises:
            WaitTimeoutError: It was still running then. (A ``TimeoutError``.)

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
        """Cancels it: what has not started never does, an ``async def`` task is cancelled, and what a thread still does
        counts no more. One that is blocked can be cancelled, too.

        Args:
            reason: Kept in the log.

        Raises:
            Error: It has ended.

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
        """Lets no further attempt start. What runs ends as usual.

        Raises:
            Error: It has ended, is paused already, or is blocked.

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
        """Lets attempts start again after [`pause`][cloaca.Execution.pause]. (What is blocked:
        [`DefaultRunner.resume`][cloaca.DefaultRunner.resume].)

        Raises:
            Error: It is not paused.

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

    def history(self) -> History:
        """What has happened up to now: every event, what each task saw, and where each value came from.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("etl")
            ...     _ = execution.result()
            ...     [event.kind for event in execution.history().events]
            ['ExecutionStarted', 'TaskStarted', 'ContextWritten', 'TaskCompleted', 'ExecutionCompleted']
        """
        return self._host.past.history(self._id)

    def __await__(self) -> Generator[Any, None, WorkflowResult]:
        return self._host.wait_async(self._id).__await__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Execution) and (self._id, self._host) == (other._id, other._host)

    def __hash__(self) -> int:
        return hash(self._id)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an Execution belongs to its runner; pickle its id, and ask a runner: get_execution(id)")

    def __repr__(self) -> str:
        try:
            standing = self._host.engine.standing(self._id)
        except Error:
            # It belongs to another process, or its log cannot be read: what it is called can still be said.
            return f"Execution(id={self._id!r})"
        reason = "" if standing["reason"] is None else f", reason={standing['reason']!r}"
        return f"Execution(id={self._id!r}, status={standing['status']!r}{reason})"


def check_timeout(timeout: object) -> None:
    """Before anything is started: a wrong timeout starts nothing."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if timeout != timeout:
        raise ValueError("timeout must be a number of seconds or None, not nan")
