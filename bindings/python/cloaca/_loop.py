"""The event loop that coroutines of tasks and triggers run on.

Every coroutine is one `_Run`. It has a fresh context of `contextvars`, and in that a variable that names the run. So
whatever its code starts on the loop (tasks, timers, asynchronous generators) belongs to the run, and ends with it.
The loop is supervised: what is thrown out of it fails the run that threw it, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from functools import partial
from typing import Any

from . import _failure, _logging
from .errors import Error

# So long a coroutine may take to end once it is cancelled, in seconds.
_PATIENCE = 5.0
# The same once it is cancelled for the second time, having ignored the first.
_LAST_PATIENCE = 1.0

# What ends a loop, or what all that runs on it shares.
_ENDS = ("stop", "close", "shutdown_asyncgens", "shutdown_default_executor")

_run: ContextVar[_Run | None] = ContextVar("cloaca_run", default=None)


class _Run:
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
        context.run(_run.set, self)
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
        closing = _start(self._loop, generator.aclose())
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
            self._ending = _start(self._loop, self._end())
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
            self._ending = _start(self._loop, self._end())
        else:
            self._report()

    async def _end(self) -> None:
        """Ends what is left, waits for it, and reports."""
        for timer in list(self._timers):
            timer.cancel()
        left = await _cancelled(self._left, _PATIENCE, self._reason)
        if left:
            left = await _cancelled(self._left, _LAST_PATIENCE, self._reason)
        for generator in list(self._generators):
            if not generator.ag_running:
                self.close_generator(generator)
        if self._closing:
            _, closing = await asyncio.wait(self._closing, timeout=_PATIENCE)
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


async def _cancelled(
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


def _start(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
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


class Loop:
    """The event loop of a runner: on a thread of its own, from the first coroutine on.

    A loop that breaks or is blocked is replaced: the next coroutine starts on a new one.
    """

    def __init__(self, thread_name: Callable[[], str]) -> None:
        self._thread_name = thread_name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # What runs, by the loop that it runs on: the one that is used, and those that were replaced.
        self._runs: dict[asyncio.AbstractEventLoop, set[_Run]] = {}
        self._is_checking = False
        self._closed = False

    def start(
        self,
        name: str,
        function: Callable[[], Awaitable[object]],
        complete: Callable[[object], object],
        fail: Callable[[BaseException], object],
    ) -> Callable[[], None]:
        """Starts a coroutine, and returns what cancels it. Both can be called on any thread.

        Args:
            name: What it is, for messages.
            function: Makes the coroutine; called on the loop's thread.
            complete: Takes what it returned. What this raises is the run's error.
            fail: Takes what it raised.
        """
        while True:
            run = _Run(name, function, complete, fail)
            loop = self._use(run)
            if loop is None:
                fail(Error("the runner is shut down"))
                return lambda: None
            try:
                loop.call_soon_threadsafe(run.begin, loop, context=Context())
            except RuntimeError:
                # It was closed this moment.
                self._replace(loop)
                self._over(loop, run)
                continue
            return partial(self._cancel, loop, run)

    def _use(self, run: _Run) -> asyncio.AbstractEventLoop | None:
        """Counts a run, and returns the loop for it; ``None`` after the end."""
        with self._lock:
            if self._closed:
                return None
            if self._loop is None:
                self._loop = self._new()
            loop = self._loop
            self._runs.setdefault(loop, set()).add(run)
            run.on_over = partial(self._over, loop, run)
            return loop

    def _new(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        _watch(loop)
        try:
            threading.Thread(target=self._work, args=(loop,), name=self._thread_name(), daemon=True).start()
        except BaseException:
            loop.close()
            raise
        return loop

    def _over(self, loop: asyncio.AbstractEventLoop, run: _Run) -> None:
        with self._lock:
            runs = self._runs.get(loop, set())
            runs.discard(run)
            is_last = not runs and self._loop is not loop
        if is_last:
            _tell(loop, partial(_stop, loop))

    def _is_done(self, loop: asyncio.AbstractEventLoop) -> bool:
        with self._lock:
            return self._closed or (self._loop is not loop and not self._runs.get(loop))

    def _replace(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts nothing more on a loop."""
        with self._lock:
            if self._loop is loop:
                self._loop = None

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        error = Error("the runner is shut down")
        broken = _drive(loop, partial(self._is_done, loop))
        self._replace(loop)
        if broken is not None:
            error = Error(
                f"the runner's event loop broke ({_failure.line_of(broken)}), and with it every coroutine on it; "
                f"later ones run on a new loop"
            )
            error.__cause__ = broken
            _logging.warning("%s", error)
        else:
            _close(loop, _PATIENCE)
        with self._lock:
            runs = self._runs.pop(loop, set())
        for run in list(runs):
            run.lose(error)
        with contextlib.suppress(Exception):
            loop.close()

    def _cancel(self, loop: asyncio.AbstractEventLoop, run: _Run) -> None:
        _tell(loop, run.cancel)
        with self._lock:
            if self._is_checking or self._loop is not loop:
                return
            self._is_checking = True
        answered = threading.Event()
        _tell(loop, answered.set)
        check = threading.Thread(target=self._check, args=(loop, answered), name="cloaca-loop-check", daemon=True)
        try:
            check.start()
        except RuntimeError:
            # No more threads are to be had; the next one that is cancelled asks again.
            self._is_checking = False

    def _check(self, loop: asyncio.AbstractEventLoop, answered: threading.Event) -> None:
        """Replaces a loop that does not answer: a coroutine blocks it, which has run out of its time."""
        is_answered = answered.wait(_PATIENCE)
        with self._lock:
            self._is_checking = False
            if is_answered or self._loop is not loop:
                return
            self._loop = None
            runs = list(self._runs.get(loop, ()))
        _tell(loop, partial(_stop, loop))
        _logging.warning(
            "%s blocks the event loop, where it should await; coroutines that start from now on run on another loop",
            next((run.name for run in runs if run.is_running), "a callback"),
        )

    def close(self) -> None:
        """Cancels what runs, and ends the threads."""
        with self._lock:
            self._closed = True
            self._loop = None
            loops = list(self._runs)
        for loop in loops:
            _tell(loop, partial(_stop, loop))


def run(name: str, function: Callable[[], Awaitable[object]]) -> object:
    """Runs a coroutine on this thread, on a loop of its own, and returns what it returns.

    As `asyncio.run`, but a task that ignores its cancellation does not hold it up for ever.
    """
    loop = asyncio.new_event_loop()
    _watch(loop)
    returned: list[object] = []
    raised: list[BaseException] = []

    def over(outcome: list[Any], it: object) -> None:
        outcome.append(it)
        _stop(loop)

    loop.call_soon(_Run(name, function, partial(over, returned), partial(over, raised)).begin, loop, context=Context())
    broken = _drive(loop, lambda: bool(returned or raised))
    # What is left has ignored its cancellation already.
    _close(loop, patience=0.0)
    if raised or broken is not None:
        raise raised[0] if raised else Error(f"the event loop of {name} broke") from broken
    return returned[0]


def _drive(loop: asyncio.AbstractEventLoop, is_done: Callable[[], bool]) -> BaseException | None:
    """Runs a loop until `is_done`, whatever is thrown out of it and whoever stops it. Returns what broke it, if any."""
    while not is_done():
        turned = threading.Event()
        try:
            loop.call_soon(_first_turn, turned, context=Context())
            loop.run_forever()
        except BaseException as error:
            handle = _handle_behind(error)
            if not turned.is_set() or (handle is None and issubclass(type(error), Exception)):
                # No callback raised it, but the loop itself.
                return error
            _blame(error, handle)
    return None


def _first_turn(turned: threading.Event) -> None:
    """Called first whenever the loop starts to run."""
    turned.set()
    hooks = sys.get_asyncgen_hooks()

    def firstiter(generator: Any) -> None:
        if (owner := _run.get()) is not None:
            owner.adopt_generator(generator)
        if hooks.firstiter is not None:
            hooks.firstiter(generator)

    loop = asyncio.get_running_loop()

    def finalizer(generator: Any) -> None:
        owner = _run.get()
        if owner is not None:
            _tell(loop, partial(owner.close_generator, generator))
        elif hooks.finalizer is not None:
            hooks.finalizer(generator)

    sys.set_asyncgen_hooks(firstiter, finalizer)


def _handle_behind(error: BaseException) -> asyncio.Handle | None:
    """The callback that threw something out of the loop. Takes the frames before it, asyncio's and ours, off."""
    at = _failure.traceback_of(error)
    while at is not None and at.tb_frame.f_code is not asyncio.Handle._run.__code__:
        at = at.tb_next
    if at is None:
        return None
    _failure.set_traceback(error, at.tb_next)
    handle: asyncio.Handle = at.tb_frame.f_locals["self"]
    return handle


def _blame(error: BaseException, handle: asyncio.Handle | None) -> None:
    """Fails the run that has thrown something out of the loop."""
    owner = None if handle is None else handle._context.get(_run)  # type: ignore[attr-defined]
    if owner is not None and not issubclass(type(error), Exception):
        owner.throw(error)
    else:
        _logging.warning("a callback on the runner's event loop raised; the loop goes on", error=error)


def _watch(loop: asyncio.AbstractEventLoop) -> None:
    """Has a loop say what belongs to which run, and lets no run end it."""
    create_task = loop.create_task

    def owner_in(context: Context | None) -> _Run | None:
        return _run.get() if context is None else context.get(_run)

    def owned_task(coroutine: Any, **keywords: Any) -> asyncio.Future[Any]:
        task = create_task(coroutine, **keywords)
        owner = owner_in(keywords.get("context"))
        if owner is not None:
            owner.adopt(task)
        return task

    def owned_timer(
        start: Callable[..., asyncio.TimerHandle], when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = start(when, callback, *args, context=context)
        owner = owner_in(context)
        if owner is not None:
            owner.adopt_timer(timer)
        return timer

    def refused(act: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        owner = _run.get()
        if owner is None:
            return act(*args, **keywords)
        what = getattr(act, "__name__", repr(act))
        error = RuntimeError(f"{owner.name} called {what}() on the event loop, which it shares with other coroutines")
        owner.throw(error)
        raise error

    changed: dict[str, Any] = {
        "create_task": owned_task,
        "call_at": partial(owned_timer, loop.call_at),
        **{name: partial(refused, getattr(loop, name)) for name in _ENDS},
    }
    if not isinstance(loop, asyncio.BaseEventLoop):
        # There, it is made of `call_at`.
        changed["call_later"] = partial(owned_timer, loop.call_later)
    for name, function in changed.items():
        setattr(loop, name, function)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    """Stops a loop in the name of its owner."""
    Context().run(loop.stop)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    """Has the loop call something, if it still runs."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what, context=Context())


def _close(loop: asyncio.AbstractEventLoop, patience: float) -> None:
    """Cancels what is left on a loop, gives it a few seconds, and closes the loop."""
    ended: list[object] = []
    reason = "the runner is shut down"
    # The program may have set its own.
    loop.set_task_factory(None)
    loop.set_exception_handler(None)

    async def end() -> None:
        own = asyncio.current_task()
        await _cancelled(lambda: {task for task in asyncio.all_tasks(loop) if task is not own}, patience, reason)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(loop.shutdown_asyncgens(), patience)

    def over(_: object) -> None:
        ended.append(None)
        _stop(loop)

    try:
        _start(loop, end()).add_done_callback(over, context=Context())
        _drive(loop, lambda: bool(ended))
    finally:
        with contextlib.suppress(Exception):
            loop.close()
