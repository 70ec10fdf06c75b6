"""What a task can ask about its own attempt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

from .errors import AttemptOverError

if TYPE_CHECKING:
    from ._cloaca import Attempt

__all__ = ["TaskHandle"]


class TaskHandle:
    """What a task can ask about its own attempt; a parameter ``handle`` or ``task_handle`` of a task gets one.

    A unit test can make one of its own: it belongs to no runner, and has a slot as long as it does not wait.

    Example:
        >>> import cloaca
        >>> @cloaca.task
        ... def fetch(context, handle):
        ...     context["fetched in attempt"] = handle.attempt
        >>> context = cloaca.Context()
        >>> fetch(context, cloaca.TaskHandle("fetch", attempt=2))
        >>> context
        Context({"fetched in attempt":2})
    """

    __slots__ = ("_attempt", "_execution_id", "_held", "_native", "_task_id")

    def __init__(self, task_id: str, attempt: int = 1, execution_id: str = "") -> None:
        self._task_id = task_id
        self._attempt = attempt
        self._execution_id = execution_id
        self._native: Attempt | None = None
        self._held = True

    @classmethod
    def _of(cls, attempt: Attempt) -> TaskHandle:
        """The handle of an attempt."""
        handle = cls(attempt.task_id, attempt.attempt, attempt.execution_id)
        handle._native = attempt
        return handle

    @property
    def task_id(self) -> str:
        """The task.

        Example:
            >>> cloaca.TaskHandle("fetch").task_id
            'fetch'
        """
        return self._task_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1.

        Example:
            >>> with cloaca.WorkflowBuilder("careful"):
            ...     @cloaca.task(retry_delay_ms=1)
            ...     def fetch(context, handle):
            ...         if handle.attempt == 1:
            ...             raise ConnectionError("refused")
            ...         context["attempt"] = handle.attempt
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.execute("careful").final_context["attempt"]
            2
        """
        return self._attempt

    @property
    def execution_id(self) -> str:
        """The execution: with the task's id, a key under which another system knows a request again that is repeated.

        Example:
            >>> with cloaca.WorkflowBuilder("payment"):
            ...     @cloaca.task
            ...     def pay(context, handle):
            ...         context["key"] = f"{handle.execution_id}/{handle.task_id}"
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     result = runner.execute("payment")
            >>> result.final_context["key"] == f"{result.execution_id}/pay"
            True
        """
        return self._execution_id

    @property
    def is_over(self) -> bool:
        """Whether the attempt counts no more: it timed out, its execution was cancelled, or the runner was shut down.

        A thread cannot be stopped from outside. A plain task that may outlive its timeout asks this between its steps
        and returns; until it does, it runs beside the next attempt. (An ``async def`` task is cancelled, and a worker
        process killed.)

        Example:
            >>> import time
            >>> with cloaca.WorkflowBuilder("long"):
            ...     @cloaca.task(timeout_seconds=0.01, retry_attempts=1)
            ...     def load(context, handle):
            ...         while not handle.is_over:  # one row after another
            ...             time.sleep(0.001)
            ...         ended.append(handle.attempt)
            >>> ended = []
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.execute("long").error_message
            "task 'load' failed, attempt 1 of 1: TaskTimeoutError: the attempt ran longer than 0.01 s"
            >>> while not ended:
            ...     time.sleep(0.001)
        """
        return False if self._native is None else self._native.is_over

    def is_slot_held(self) -> bool:
        """Whether the attempt holds one of the runner's ``max_concurrent_tasks`` slots. It does not while it waits in
        [`defer_until`][cloaca.TaskHandle.defer_until].

        Example:
            >>> handle = cloaca.TaskHandle("fetch")
            >>> held = []
            >>> def condition():
            ...     held.append(handle.is_slot_held())
            ...     return True
            >>> _ = handle.defer_until(condition)
            >>> held, handle.is_slot_held()
            ([False], True)
        """
        return self._held if self._native is None else self._native.is_slot_held

    def defer_until(self, condition: Callable[[], object], poll_interval_ms: int = 1000) -> Awaitable[None]:
        """Waits until ``condition()`` is true, without holding a slot: other tasks run meanwhile.

        The slot goes back before the condition is asked for the first time, and the attempt has one again before this
        returns (or raises what the condition raised). The wait counts towards no timeout, and if the process dies
        meanwhile, not towards ``max_recoveries``: the next runner starts another attempt. In an ``async def`` task it
        is awaited, and the condition may be a coroutine function; in a plain task it just waits.

        Args:
            condition: Asked at once, and then every ``poll_interval_ms``.
            poll_interval_ms: The time between two questions, in milliseconds.

        Raises:
            AttemptOverError: The attempt timed out, its execution was cancelled, or the runner was shut down. What the
                attempt does from now on is ignored: let the error pass. (An ``async def`` task is cancelled instead.)
            TypeError, ValueError: An argument is not what it has to be.

        Example:
            >>> import pathlib
            >>> with cloaca.WorkflowBuilder("uploads"):
            ...     @cloaca.task
            ...     def wait_for_upload(context, handle):
            ...         upload = pathlib.Path(context["upload"])
            ...         handle.defer_until(upload.exists, poll_interval_ms=10)
            ...         context["lines"] = upload.read_text().splitlines()
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution = runner.submit("uploads", {"upload": "rows.csv"})
            ...     _ = pathlib.Path("rows.csv").write_text("7")
            ...     execution.result().status
            'Completed'
        """
        if not callable(condition):
            raise TypeError(f"condition must be a function without parameters, not {condition!r}")
        if isinstance(poll_interval_ms, bool) or not isinstance(poll_interval_ms, (int, float)):
            raise TypeError(f"poll_interval_ms must be a number of milliseconds, not {poll_interval_ms!r}")
        if not 0 < poll_interval_ms < 1e12:
            raise ValueError(f"poll_interval_ms must be greater than 0, not {poll_interval_ms!r}")
        seconds = poll_interval_ms / 1000
        if self._native is not None and self._native.is_async:
            return self._defer_async(condition, seconds)
        self._defer(condition, seconds)
        return _DONE

    def _defer(self, condition: Callable[[], object], seconds: float) -> None:
        self._give_slot_back()
        try:
            while not _truth(condition()):
                self._sleep(seconds)
        except AttemptOverError:
            raise
        except BaseException:
            # The task may go on from here, and then as one that has a slot.
            with contextlib.suppress(AttemptOverError):
                self._take_slot()
            raise
        self._take_slot()

    async def _defer_async(self, condition: Callable[[], object], seconds: float) -> None:
        import asyncio

        self._give_slot_back()
        try:
            while True:
                holds = condition()
                if hasattr(holds, "__await__"):
                    holds = await holds
                if holds:
                    break
                await asyncio.sleep(seconds)
        except BaseException:
            # Cancelled from inside (`asyncio.wait_for`), the task goes on from here.
            with contextlib.suppress(AttemptOverError):
                await self._take_slot_async()
            raise
        await self._take_slot_async()

    def _give_slot_back(self) -> None:
        self._held = False
        if self._native is not None:
            self._native.give_slot_back()

    def _take_slot(self) -> None:
        if self._native is not None:
            self._native.take_slot()
        self._held = True

    async def _take_slot_async(self) -> None:
        import asyncio

        attempt = self._native
        if attempt is None:
            self._held = True
            return
        if not attempt.is_over:
            loop = asyncio.get_running_loop()
            answered = loop.create_future()

            def wake() -> None:
                if not answered.done():
                    answered.set_result(None)

            def answer() -> None:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(wake)

            attempt.take_slot_then(answer)
            await answered
        if not attempt.is_slot_held:
            raise attempt.over()

    def _sleep(self, seconds: float) -> None:
        if self._native is None:
            time.sleep(seconds)
        else:
            self._native.sleep(seconds)

    def __repr__(self) -> str:
        return f"TaskHandle(task_id={self.task_id!r}, attempt={self.attempt}, execution_id={self.execution_id!r})"


def _truth(answer: object) -> bool:
    if hasattr(answer, "__await__"):
        close: Any = getattr(answer, "close", None)
        if close is not None:
            close()
        raise TypeError("the condition is a coroutine function; only an async def task can await it")
    return bool(answer)


class _Done:
    """What there is left to await after a plain task has waited: nothing."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield

    def __repr__(self) -> str:
        return "<waited>"


_DONE = _Done()
