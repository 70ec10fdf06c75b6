"""The handle through which a task accesses its own attempt."""

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
    """A handle of the current attempt. A task with a parameter ``handle`` or ``task_handle`` receives one.

    A unit test can create its own. It belongs to no runner, and holds a slot except while it waits.

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

    __slots__ = ("_attempt", "_execution_id", "_holds_slot", "_native", "_task_id")

    def __init__(self, task_id: str, attempt: int = 1, execution_id: str = "") -> None:
        self._task_id = task_id
        self._attempt = attempt
        self._execution_id = execution_id
        self._native: Attempt | None = None
        self._holds_slot = True

    @classmethod
    def _of(cls, attempt: Attempt) -> TaskHandle:
        """Return the handle of an attempt."""
        handle = cls(attempt.task_id, attempt.attempt, attempt.execution_id)
        handle._native = attempt
        return handle

    @property
    def task_id(self) -> str:
        """The task's id.

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
        """The execution's id. Together with the task's id it makes an idempotency key for requests to other systems.

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
        """Whether the attempt is over: it timed out, its execution was cancelled, or the runner was shut down.

        A thread cannot be stopped from outside. A plain task that may exceed its timeout should check this between
        steps and return; until it does, it runs beside the next attempt. (An ``async def`` task is cancelled, and a
        worker process killed.)

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
        """Return whether the attempt holds one of the runner's ``max_concurrent_tasks`` slots.

        It holds none while it waits in [`defer_until`][cloaca.TaskHandle.defer_until].

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
        return self._holds_slot if self._native is None else self._native.is_slot_held

    def defer_until(self, condition: Callable[[], object], poll_interval_ms: int = 1000) -> Awaitable[None]:
        """Wait until ``condition()`` is true, without holding a slot, so that other tasks can run.

        The slot is released before the first call of the condition, and acquired again before this method returns (or
        raises the condition's exception). The wait does not count towards any timeout. If the process dies during the
        wait, that does not count towards ``max_recoveries``; the next runner starts another attempt. In an
        ``async def`` task, await the result; the condition may be a coroutine function. In a plain task, the call
        blocks.

        Args:
            condition: Called immediately, and then every ``poll_interval_ms``.
            poll_interval_ms: The time between two calls, in milliseconds.

        Raises:
            AttemptOverError: The attempt timed out, its execution was cancelled, or the runner was shut down. The rest
                of the attempt is ignored: let the error propagate. (An ``async def`` task is cancelled instead.)
            TypeError, ValueError: An argument has the wrong type or value.

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
        self._release_slot()
        try:
            while not _is_true(condition()):
                self._sleep(seconds)
        except AttemptOverError:
            raise
        except BaseException:
            # The task may handle the exception and go on; it must hold a slot then.
            with contextlib.suppress(AttemptOverError):
                self._acquire_slot()
            raise
        self._acquire_slot()

    async def _defer_async(self, condition: Callable[[], object], seconds: float) -> None:
        import asyncio

        self._release_slot()
        try:
            while True:
                holds = condition()
                if hasattr(holds, "__await__"):
                    holds = await holds
                if holds:
                    break
                await asyncio.sleep(seconds)
        except BaseException:
            # The task goes on from here if only the wait was cancelled (`asyncio.wait_for`).
            with contextlib.suppress(AttemptOverError):
                await self._acquire_slot_async()
            raise
        await self._acquire_slot_async()

    def _release_slot(self) -> None:
        self._holds_slot = False
        if self._native is not None:
            self._native.release_slot()

    def _acquire_slot(self) -> None:
        if self._native is not None:
            self._native.take_slot()
        self._holds_slot = True

    async def _acquire_slot_async(self) -> None:
        import asyncio

        attempt = self._native
        if attempt is None:
            self._holds_slot = True
            return
        if not attempt.is_over:
            loop = asyncio.get_running_loop()
            taken = loop.create_future()

            def set_taken() -> None:
                if not taken.done():
                    taken.set_result(None)

            def notify() -> None:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(set_taken)

            attempt.take_slot_then(notify)
            await taken
        if not attempt.is_slot_held:
            raise attempt.over()

    def _sleep(self, seconds: float) -> None:
        if self._native is None:
            time.sleep(seconds)
        else:
            self._native.sleep(seconds)

    def __repr__(self) -> str:
        return f"TaskHandle(task_id={self.task_id!r}, attempt={self.attempt}, execution_id={self.execution_id!r})"


def _is_true(result: object) -> bool:
    if hasattr(result, "__await__"):
        close: Any = getattr(result, "close", None)
        if close is not None:
            close()
        raise TypeError("the condition is a coroutine function; only an async def task can await it")
    return bool(result)


class _Done:
    """The awaitable that `defer_until` returns to a plain task, whose wait is over by then."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield

    def __repr__(self) -> str:
        return "<waited>"


_DONE = _Done()
