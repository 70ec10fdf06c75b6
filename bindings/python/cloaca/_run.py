"""A run: the coroutine of a task or trigger, and everything that it starts on the event loop.

The coroutine gets a fresh `contextvars` context with a variable that identifies the run. Everything that its code
starts on the loop (tasks, timers, asynchronous generators) inherits the variable, so it belongs to the run and ends
with it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, NamedTuple

from . import _failure, _logging
from .errors import Error

# How long to wait for a cancelled coroutine to end, in seconds.
CANCEL_TIMEOUT = 5.0
# How long to wait after a second cancellation, if the first was ignored.
SECOND_CANCEL_TIMEOUT = 1.0

# The run that the current code belongs to.
OWNER: ContextVar[Run | None] = ContextVar("cloaca_run", default=None)


class Turn(NamedTuple):
    """The place of a run among those with the same key: it begins once the earlier one is over."""

    key: Hashable
    # Called if it has to wait, and when it then begins.
    wait: Callable[[], object]
    begin: Callable[[], object]


class Run:
    """A coroutine and everything it has started on the loop. All methods must be called on the loop's thread."""

    def __init__(
        self,
        name: str,
        function: Callable[[], Awaitable[object]],
        complete: Callable[[object], object],
        fail: Callable[[BaseException], object],
    ) -> None:
        self.name = name
        # The message of the CancelledError that other coroutines get when they await a task of this run.
        self._reason = f"it belongs to {name}, which has ended"
        self._function = function
        self._complete = complete
        self._fail = fail
        self._loop: asyncio.AbstractEventLoop
        self._main: asyncio.Future[object] | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._timers: weakref.WeakSet[asyncio.TimerHandle] = weakref.WeakSet()
        self._generators: weakref.WeakSet[Any] = weakref.WeakSet()
        self._closing: set[asyncio.Future[Any]] = set()
        # Called once, when the run is over.
        self.on_over: Callable[[], object] = lambda: None
        # The run that must be over before this one begins, and what waits for the end of this one.
        self.predecessor: Run | None = None
        self._successors: list[Callable[[], object]] = []
        self._thrown: BaseException | None = None
        self._ending: asyncio.Future[None] | None = None
        self.is_over = False

    @property
    def is_running(self) -> bool:
        """Whether the loop is executing one of its tasks at this moment. Can be read on any thread."""
        return _failure.safely(lambda: asyncio.current_task(self._loop) in self._tasks, False)

    def begin(self, loop: asyncio.AbstractEventLoop, turn: Turn | None = None) -> None:
        """Start the coroutine, once its predecessor on this loop is over."""
        self._loop = loop
        before, self.predecessor = self.predecessor, None
        if before is None or turn is None or before.is_over:
            self._begin_now()
            return
        turn.wait()
        before._successors.append(partial(self._begin_after, turn))

    def _begin_after(self, turn: Turn) -> None:
        if self._ending is None and not self.is_over:
            turn.begin()
            self._begin_now()

    def _begin_now(self) -> None:
        loop = self._loop
        context = Context()
        context.run(OWNER.set, self)
        self._main = _task(loop, self._call(), context)
        self.adopt(self._main)
        self._main.add_done_callback(self._main_ended, context=Context())

    async def _call(self) -> object:
        return await self._function()

    def adopt(self, task: asyncio.Future[Any]) -> None:
        """Add a task that was started in this run."""
        if task.done():
            return
        if self.is_over:
            task.cancel(self._reason)
            return
        self._tasks.add(task)
        task.add_done_callback(self._task_ended, context=Context())

    def adopt_timer(self, timer: asyncio.TimerHandle) -> None:
        """Add a timer that was started in this run."""
        if self.is_over:
            timer.cancel()
        else:
            self._timers.add(timer)

    def adopt_generator(self, generator: Any) -> None:
        """Add an asynchronous generator whose iteration started in this run."""
        self._generators.add(generator)

    def close_generator(self, generator: Any) -> None:
        """Close a generator that is no longer iterated. The run does not end before its cleanup is done."""
        closing = start(self._loop, generator.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _task_ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        # Calling `exception()` would mark the exception as retrieved.
        error = None if task is self._main or task.cancelled() else getattr(task, "_exception", None)
        if error is not None and not issubclass(type(error), Exception):
            self.throw(error)

    def throw(self, error: BaseException) -> None:
        """Fail the run, because one of its tasks or callbacks raised SystemExit or KeyboardInterrupt."""
        if self._thrown is None and not self.is_over:
            self._thrown = error
            self.cancel()

    def cancel(self) -> None:
        """Cancel the coroutine and everything it has started."""
        if self._ending is None and not self.is_over:
            self._ending = start(self._loop, self._end())
            for task in list(self._tasks):
                task.cancel(self._reason)

    def abort(self, error: BaseException) -> None:
        """Fail the run, because its loop has stopped."""
        if not self.is_over:
            self.is_over = True
            fail = self._fail
            self._leave()
            fail(error)

    def _main_ended(self, _: object) -> None:
        if self._ending is not None:
            return
        if self._tasks or self._closing or self._generators:
            self._ending = start(self._loop, self._end())
        else:
            self._report()

    async def _end(self) -> None:
        """Cancel everything that is left, wait for it, and report the outcome."""
        for timer in list(self._timers):
            timer.cancel()
        left = await cancel_all(self._remaining_tasks, CANCEL_TIMEOUT, self._reason)
        if left:
            left = await cancel_all(self._remaining_tasks, SECOND_CANCEL_TIMEOUT, self._reason)
        for generator in list(self._generators):
            if not generator.ag_running:
                self.close_generator(generator)
        if self._closing:
            _, closing = await asyncio.wait(self._closing, timeout=CANCEL_TIMEOUT)
            left |= closing
        if left:
            _logging.warning(
                "%s has ended, but %d of its coroutines ignored their cancellation; their results are discarded: %s",
                self.name,
                len(left),
                ", ".join(sorted(_name_of(task) for task in left)),
            )
        self._report()

    def _remaining_tasks(self) -> set[asyncio.Future[Any]]:
        return set(self._tasks)

    def _report(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        for timer in list(self._timers):
            timer.cancel()
        try:
            self._complete(self._outcome())
        except BaseException as error:
            self._fail(error)
        finally:
            self._main = self._thrown = None
            self._leave()
            for begin in self._successors:
                begin()
            self._successors.clear()

    def _leave(self) -> None:
        on_over = self.on_over
        # A cancelled timer stays in the loop until it is due, and keeps this object alive: drop the references.
        del self.on_over, self._function, self._complete, self._fail
        on_over()

    def _outcome(self) -> object:
        main = self._main
        if main is None or not main.done():
            raise self._thrown or Error(f"{self.name} ignored its cancellation")
        if self._thrown is None:
            return main.result()
        if not main.cancelled():
            # Mark its own exception as retrieved.
            main.exception()
        raise self._thrown


async def cancel_all(
    remaining: Callable[[], set[asyncio.Future[Any]]], timeout: float, reason: str
) -> set[asyncio.Future[Any]]:
    """Cancel tasks, including those started meanwhile, and wait for them. Return those left after the timeout."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    cancelled: set[asyncio.Future[Any]] = set()
    while tasks := remaining():
        for task in tasks - cancelled:
            task.cancel(reason)
        cancelled |= tasks
        left = deadline - loop.time()
        if left <= 0:
            return tasks
        await asyncio.wait(tasks, timeout=left)
    return set()


def start(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
    """Start a task that belongs to no run."""
    return _task(loop, coroutine, Context())


def _task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context
) -> asyncio.Future[Any]:
    # Bypasses the loop's task factory, which the program may have replaced.
    return context.run(partial(asyncio.Task, coroutine, loop=loop))


def _name_of(task: asyncio.Future[Any]) -> str:
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else task
    return str(getattr(coroutine, "__qualname__", type(coroutine).__name__))
