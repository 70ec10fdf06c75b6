"""The supervised event loop for the coroutines of tasks and triggers. Each coroutine is a `Run`.

An exception that escapes from the loop fails the run that raised it, and the loop continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Hashable
from contextvars import Context
from functools import partial
from typing import Any

from . import _failure, _logging, _run
from ._run import OWNER, Run, Turn, cancel_all, start
from .errors import Error

# The loop's methods that would end it, or a resource that all its coroutines share.
_FORBIDDEN = ("stop", "close", "shutdown_asyncgens", "shutdown_default_executor")

# Two loops that are made at once would leave the logger of asyncio disabled.
_new_loop_lock = threading.RLock()


class Loop:
    """The event loop of a runner, on a thread of its own, started for the first coroutine.

    A loop that breaks or is blocked is replaced: the next coroutine starts on a new one.
    """

    def __init__(self, thread_name: Callable[[], str]) -> None:
        self._thread_name = thread_name
        # Re-entrant: a signal handler may shut the runner down while its thread holds the lock.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # The live runs by loop: of the current loop, and of replaced ones.
        self._runs: dict[asyncio.AbstractEventLoop, set[Run]] = {}
        # The latest live run of each key, and its loop.
        self._latest: dict[Hashable, tuple[asyncio.AbstractEventLoop, Run]] = {}
        self._is_checking = False
        self._closed = False

    def start(
        self,
        name: str,
        function: Callable[[], Awaitable[object]],
        complete: Callable[[object], object],
        fail: Callable[[BaseException], object],
        turn: Turn | None = None,
    ) -> Callable[[], None]:
        """Start a coroutine, and return a function that cancels it. Both can be called on any thread.

        Args:
            name: The name of the run, for messages.
            function: Creates the coroutine; called on the loop's thread.
            complete: Called with the coroutine's result. An exception in it fails the run.
            fail: Called with the coroutine's exception.
            turn: If given, the coroutine begins after the previous one with the same key, and all that it started.
        """
        while True:
            run = Run(name, function, complete, fail)
            loop = self._use(run, turn)
            if loop is None:
                fail(Error("the runner is shut down"))
                return lambda: None
            try:
                loop.call_soon_threadsafe(run.begin, loop, turn, context=Context())
            except RuntimeError:
                # The loop was closed in the meantime.
                self._retire(loop)
                run.on_over()
                continue
            return partial(self._cancel, loop, run)

    def current(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop on which coroutines currently start."""
        return self._loop

    def _use(self, run: Run, turn: Turn | None) -> asyncio.AbstractEventLoop | None:
        """Register a run, and return the loop for it; ``None`` after `close`."""
        with self._lock:
            if self._closed:
                return None
            if self._loop is None:
                self._loop = self._new()
            loop = self._loop
            self._runs.setdefault(loop, set()).add(run)
            key = None if turn is None else turn.key
            run.on_over = partial(self._over, loop, run, key)
            if key is not None:
                before = self._latest.get(key)
                # One on a loop that was replaced may never end.
                run.predecessor = before[1] if before is not None and before[0] is loop else None
                self._latest[key] = loop, run
            return loop

    def _new(self) -> asyncio.AbstractEventLoop:
        loop = _new_loop()
        _instrument(loop)
        try:
            threading.Thread(target=self._work, args=(loop,), name=self._thread_name(), daemon=True).start()
        except BaseException:
            loop.close()
            raise
        return loop

    def _over(self, loop: asyncio.AbstractEventLoop, run: Run, key: Hashable) -> None:
        with self._lock:
            if self._latest.get(key) == (loop, run):
                del self._latest[key]
            runs = self._runs.get(loop, set())
            runs.discard(run)
            is_last = not runs and self._loop is not loop
        if is_last:
            _call_soon(loop, partial(_stop, loop))

    def _is_done(self, loop: asyncio.AbstractEventLoop) -> bool:
        with self._lock:
            return self._closed or (self._loop is not loop and not self._runs.get(loop))

    def _retire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start no further coroutines on a loop."""
        with self._lock:
            if self._loop is loop:
                self._loop = None

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        error = Error("the runner is shut down")
        broken = _drive(loop, partial(self._is_done, loop))
        self._retire(loop)
        if broken is not None:
            error = Error(
                f"the runner's event loop broke ({_failure.line_of(broken)}), and all coroutines on it failed; later "
                f"coroutines run on a new loop"
            )
            error.__cause__ = broken
            _logging.warning("%s", error)
        else:
            _close(loop, _run.CANCEL_TIMEOUT)
        with self._lock:
            runs = self._runs.pop(loop, set())
        for run in list(runs):
            run.abort(error)
        with contextlib.suppress(Exception):
            loop.close()

    def _cancel(self, loop: asyncio.AbstractEventLoop, run: Run) -> None:
        _call_soon(loop, run.cancel)
        with self._lock:
            if self._is_checking or self._loop is not loop:
                return
            self._is_checking = True
        responded = threading.Event()
        _call_soon(loop, responded.set)
        check = threading.Thread(target=self._check, args=(loop, responded), name="cloaca-loop-check", daemon=True)
        try:
            check.start()
        except RuntimeError:
            # The next cancellation checks again.
            self._is_checking = False

    def _check(self, loop: asyncio.AbstractEventLoop, responded: threading.Event) -> None:
        """Replace a loop that does not respond after a cancellation, because a coroutine blocks it."""
        is_responsive = responded.wait(_run.CANCEL_TIMEOUT)
        with self._lock:
            self._is_checking = False
            if is_responsive or self._loop is not loop:
                return
            self._loop = None
            runs = list(self._runs.get(loop, ()))
        _call_soon(loop, partial(_stop, loop))
        _logging.warning(
            "%s blocks the event loop instead of awaiting; coroutines that start from now on run on another loop",
            next((run.name for run in runs if run.is_running), "a callback"),
        )

    def close(self) -> None:
        """Cancel the running coroutines, and end the threads."""
        with self._lock:
            self._closed = True
            self._loop = None
            loops = list(self._runs)
        for loop in loops:
            _call_soon(loop, partial(_stop, loop))


def run(name: str, function: Callable[[], Awaitable[object]]) -> object:
    """Run a coroutine on a new loop on this thread, and return its result.

    Like `asyncio.run`, but a task that ignores its cancellation does not block it for ever.
    """
    loop = _new_loop()
    _instrument(loop)
    returned: list[object] = []
    raised: list[BaseException] = []

    def over(outcomes: list[Any], outcome: object) -> None:
        outcomes.append(outcome)
        _stop(loop)

    loop.call_soon(Run(name, function, partial(over, returned), partial(over, raised)).begin, loop, context=Context())
    asyncio.set_event_loop(loop)
    broken = _drive(loop, lambda: bool(returned or raised))
    # The remaining tasks have already ignored their cancellation.
    _close(loop, timeout=0.0)
    asyncio.set_event_loop(None)
    if raised or broken is not None:
        raise raised[0] if raised else Error(f"the event loop of {name} broke") from broken
    return returned[0]


def _new_loop() -> asyncio.AbstractEventLoop:
    # asyncio logs its selector in the middle of this, and a filter or handler of the program may raise.
    logger = logging.getLogger("asyncio")
    with _new_loop_lock:
        was_disabled, logger.disabled = logger.disabled, True
        try:
            return asyncio.new_event_loop()
        finally:
            logger.disabled = was_disabled


def _drive(loop: asyncio.AbstractEventLoop, is_done: Callable[[], bool]) -> BaseException | None:
    """Run a loop until `is_done`, resuming it after exceptions and `stop()`.

    Returns:
        The exception that broke the loop; ``None`` if it did not break.
    """
    while not is_done():
        started = threading.Event()
        try:
            loop.call_soon(_on_start, started, context=Context())
            loop.run_forever()
        except BaseException as error:
            handle = _raising_handle(error)
            if not started.is_set() or (handle is None and issubclass(type(error), Exception)):
                # The loop itself raised, not a callback.
                return error
            _fail_owner(error, handle)
    return None


def _on_start(started: threading.Event) -> None:
    """Set up the hooks for asynchronous generators. The first callback whenever the loop starts to run."""
    started.set()
    hooks = sys.get_asyncgen_hooks()

    def firstiter(generator: Any) -> None:
        if (owner := OWNER.get()) is not None:
            owner.adopt_generator(generator)
        if hooks.firstiter is not None:
            hooks.firstiter(generator)

    loop = asyncio.get_running_loop()

    def finalizer(generator: Any) -> None:
        owner = OWNER.get()
        if owner is not None:
            _call_soon(loop, partial(owner.close_generator, generator))
        elif hooks.finalizer is not None:
            hooks.finalizer(generator)

    sys.set_asyncgen_hooks(firstiter, finalizer)


def _raising_handle(error: BaseException) -> asyncio.Handle | None:
    """Return the callback whose exception escaped from the loop. Strip the frames before it from the traceback."""
    at = _failure.traceback_of(error)
    while at is not None and at.tb_frame.f_code is not asyncio.Handle._run.__code__:
        at = at.tb_next
    if at is None:
        return None
    _failure.set_traceback(error, at.tb_next)
    handle: asyncio.Handle = at.tb_frame.f_locals["self"]
    return handle


def _fail_owner(error: BaseException, handle: asyncio.Handle | None) -> None:
    """Fail the run whose callback raised the exception that escaped from the loop."""
    owner = None if handle is None else handle._context.get(OWNER)  # type: ignore[attr-defined]
    if owner is not None and not issubclass(type(error), Exception):
        owner.throw(error)
    else:
        _logging.warning("a callback on the runner's event loop raised an exception; the loop continues", error=error)


def _instrument(loop: asyncio.AbstractEventLoop) -> None:
    """Wrap a loop's methods to track which run its tasks and timers belong to, and to keep runs from ending it."""
    create_task = loop.create_task
    is_python_loop = isinstance(loop, asyncio.BaseEventLoop)

    def owner_in(context: Context | None) -> Run | None:
        return OWNER.get() if context is None else context.get(OWNER)

    def owned_task(coroutine: Any, **keywords: Any) -> asyncio.Future[Any]:
        task = create_task(coroutine, **keywords)
        owner = owner_in(keywords.get("context"))
        if owner is not None:
            owner.adopt(task)
        return task

    def owned_timer(
        begin: Callable[..., asyncio.TimerHandle], when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        owner = owner_in(context)
        if not is_python_loop:
            callback = _guarded(callback, owner)
        timer = begin(when, callback, *args, context=context)
        if owner is not None:
            owner.adopt_timer(timer)
        return timer

    def guarded_call(
        call: Callable[..., asyncio.Handle], callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        return call(_guarded(callback, owner_in(context)), *args, context=context)

    def forbidden(method: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        owner = OWNER.get()
        if owner is None:
            return method(*args, **keywords)
        name = getattr(method, "__name__", repr(method))
        error = RuntimeError(f"{owner.name} called {name}() on the event loop, which it shares with other coroutines")
        owner.throw(error)
        raise error

    wrappers: dict[str, Any] = {
        "create_task": owned_task,
        "call_at": partial(owned_timer, loop.call_at),
        **{name: partial(forbidden, getattr(loop, name)) for name in _FORBIDDEN},
    }
    if not is_python_loop:
        # A loop that is not written in Python (uvloop) does not show which callback raised an escaped exception.
        wrappers["call_later"] = partial(owned_timer, loop.call_later)
        wrappers["call_soon"] = partial(guarded_call, loop.call_soon)
    for name, function in wrappers.items():
        setattr(loop, name, function)


def _guarded(callback: Callable[..., object], owner: Run | None) -> Callable[..., object]:
    """Wrap a callback so that its SystemExit or KeyboardInterrupt fails its run instead of ending the loop."""
    if owner is None:
        return callback

    def call(*args: object) -> None:
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            owner.throw(error)

    return call


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    """Stop a loop, outside of any run's context."""
    Context().run(loop.stop)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Schedule a callback on the loop, unless the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, context=Context())


def _close(loop: asyncio.AbstractEventLoop, timeout: float) -> None:
    """Cancel the remaining tasks of a loop, wait for them up to a timeout, and close the loop."""
    ended: list[object] = []
    reason = "the runner is shut down"
    # The program's task factory and exception handler may raise.
    loop.set_task_factory(None)
    loop.set_exception_handler(None)

    async def end() -> None:
        own = asyncio.current_task()
        await cancel_all(lambda: {task for task in asyncio.all_tasks(loop) if task is not own}, timeout, reason)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(loop.shutdown_asyncgens(), timeout)

    def over(_: object) -> None:
        ended.append(None)
        _stop(loop)

    try:
        start(loop, end()).add_done_callback(over, context=Context())
        _drive(loop, lambda: bool(ended))
    finally:
        with contextlib.suppress(Exception):
            loop.close()
