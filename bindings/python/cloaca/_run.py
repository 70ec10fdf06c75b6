"""One coroutine of a task or a trigger, and what it starts on the event loop.

It has a fresh context of `contextvars`, and in that a variable that names the run. So whatever its code starts on the
loop (tasks, timers, asynchronous generators) belongs to it, and ends with it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from functools import partial
from typing import Any

from . import _failure, _logging
from .errors import Error

# So long a coroutine may take to end once it is cancelled, in seconds.
PATIENCE = 5.0
# The same once it is cancelled for the second time, having ignored the first.
LAST_PATIENCE = 1.0

# The run that the code belongs to which reads this.
OWNER: ContextVar[Run | None] = ContextVar("cloaca_run", default=None)


class Run:
    """One coroutine, and what it has started on the loop. All methods are for the loop's thread."""

    def __init__(
        self,
        name: str,
        function: Callable[[], Awaitable[object]],
        complete: Callable[[object], object],
        fail: Callable[[BaseException], object],
    ) -> None:
        self.name = name
        # For whoever else awaits one of its tasks.
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
        # Called when it is over.
        self.on_over: Callable[[], object] = lambda: None
        self._thrown: BaseException | None = None
        self._ending: asyncio.Future[None] | None = None
        self.is_over = False

    @property
    def is_running(self) -> bool:
        """Whether the loop runs a task of it at this moment. Can be asked on any thread."""
        return _failure.answer(lambda: asyncio.current_task(self._loop) in self._tasks, False)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the coroutine."""
        self._loop = loop
        context = Context()
        context.run(OWNER.set, self)
        self._main = _task(loop, self._call(), context)
        self.adopt(self._main)
        self._main.add_done_callback(self._main_ended, context=Context())

    async def _call(self) -> object:
        return await self._function()

    def adopt(self, task: asyncio.Future[Any]) -> None:
        """Takes a task that was started in this run."""
        if task.done():
            return
        if self.is_over:
            task.cancel(self._reason)
            return
        self._tasks.add(task)
        task.add_done_callback(self._task_ended, context=Context())

    def adopt_timer(self, timer: asyncio.TimerHandle) -> None:
        """Takes a timer that was started in this run."""
        if self.is_over:
            timer.cancel()
        else:
            self._timers.add(timer)

    def adopt_generator(self, generator: Any) -> None:
        """Takes an asynchronous generator whose iteration has begun in this run."""
        self._generators.add(generator)

    def close_generator(self, generator: Any) -> None:
        """Has a generator clean up that nobody iterates over any more. The run does not end before that."""
        closing = start(self._loop, generator.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _task_ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        # Asking for `exception()` would say that somebody has seen it.
        error = None if task is self._main or task.cancelled() else getattr(task, "_exception", None)
        if error is not None and not issubclass(type(error), Exception):
            self.throw(error)

    def throw(self, error: BaseException) -> None:
        """Fails the run: a task or a callback that it started has raised what ends programs."""
        if self._thrown is None and not self.is_over:
            self._thrown = error
            self.cancel()

    def cancel(self) -> None:
        """Cancels the coroutine and all that it has started."""
        if self._ending is None and not self.is_over:
            self._ending = start(self._loop, self._end())
            for task in list(self._tasks):
                task.cancel(self._reason)

    def lose(self, error: BaseException) -> None:
        """Fails the run: its loop runs no more."""
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
        """Ends what is left, waits for it, and reports."""
        for timer in list(self._timers):
            timer.cancel()
        left = await cancelled(self._left, PATIENCE, self._reason)
        if left:
            left = await cancelled(self._left, LAST_PATIENCE, self._reason)
        for generator in list(self._generators):
            if not generator.ag_running:
                self.close_generator(generator)
        if self._closing:
            _, closing = await asyncio.wait(self._closing, timeout=PATIENCE)
            left |= closing
        if left:
            _logging.warning(
                "%s has ended, but %d of its coroutines went on when they were cancelled; what they do is ignored: %s",
                self.name,
                len(left),
                ", ".join(sorted(_shown(task) for task in left)),
            )
        self._report()

    def _left(self) -> set[asyncio.Future[Any]]:
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

    def _leave(self) -> None:
        on_over = self.on_over
        # A timer that was cancelled stays in the loop until its time comes, and with it all that leads from here.
        del self.on_over, self._function, self._complete, self._fail
        on_over()

    def _outcome(self) -> object:
        main = self._main
        if main is None or not main.done():
            raise self._thrown or Error(f"{self.name} did not end when it was cancelled")
        if self._thrown is None:
            return main.result()
        if not main.cancelled():
            # What it raised on its way is known.
            main.exception()
        raise self._thrown


async def cancelled(
    left: Callable[[], set[asyncio.Future[Any]]], patience: float, reason: str
) -> set[asyncio.Future[Any]]:
    """Cancels tasks, and those that they start while they end. Returns those that are left after `patience` seconds."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + patience
    told: set[asyncio.Future[Any]] = set()
    while tasks := left():
        for task in tasks - told:
            task.cancel(reason)
        told |= tasks
        rest = limit - loop.time()
        if rest <= 0:
            return tasks
        await asyncio.wait(tasks, timeout=rest)
    return set()


def start(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
    """A task that belongs to no run."""
    return _task(loop, coroutine, Context())


def _task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context
) -> asyncio.Future[Any]:
    # Not with the loop's task factory: that may be the program's.
    return context.run(partial(asyncio.Task, coroutine, loop=loop))


def _shown(task: asyncio.Future[Any]) -> str:
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else task
    return str(getattr(coroutine, "__qualname__", type(coroutine).__name__))
