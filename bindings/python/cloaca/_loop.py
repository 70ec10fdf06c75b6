"""The event loop that coroutines of tasks and triggers run on. Each of them is a `Run`.

The loop is supervised: what is thrown out of it fails the run that threw it, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any

from . import _failure, _logging, _run
from ._run import OWNER, Run, cancelled, start
from .errors import Error

# Methods that end the loop, or something that everything on it shares.
_ENDS = ("stop", "close", "shutdown_asyncgens", "shutdown_default_executor")


class Loop:
    """The event loop of a runner: on a thread of its own, from the first coroutine on.

    A loop that breaks or is blocked is replaced: the next coroutine starts on a new one.
    """

    def __init__(self, thread_name: Callable[[], str]) -> None:
        self._thread_name = thread_name
        # Re-entrant: a signal handler may shut the runner down while its own thread holds the lock.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # The live runs of each loop: the current one, and those that were replaced.
        self._runs: dict[asyncio.AbstractEventLoop, set[Run]] = {}
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
            run = Run(name, function, complete, fail)
            loop = self._use(run)
            if loop is None:
                fail(Error("the runner is shut down"))
                return lambda: None
            try:
                loop.call_soon_threadsafe(run.begin, loop, context=Context())
            except RuntimeError:
                # The loop was closed a moment ago.
                self._replace(loop)
                self._over(loop, run)
                continue
            return partial(self._cancel, loop, run)

    def current(self) -> asyncio.AbstractEventLoop | None:
        """Returns the loop that coroutines start on now."""
        return self._loop

    def _use(self, run: Run) -> asyncio.AbstractEventLoop | None:
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

    def _over(self, loop: asyncio.AbstractEventLoop, run: Run) -> None:
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
            _close(loop, _run.PATIENCE)
        with self._lock:
            runs = self._runs.pop(loop, set())
        for run in list(runs):
            run.lose(error)
        with contextlib.suppress(Exception):
            loop.close()

    def _cancel(self, loop: asyncio.AbstractEventLoop, run: Run) -> None:
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
            # The next cancellation checks again.
            self._is_checking = False

    def _check(self, loop: asyncio.AbstractEventLoop, answered: threading.Event) -> None:
        """Replaces a loop that does not answer: a coroutine blocks it, which has run out of its time."""
        is_answered = answered.wait(_run.PATIENCE)
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

    loop.call_soon(Run(name, function, partial(over, returned), partial(over, raised)).begin, loop, context=Context())
    asyncio.set_event_loop(loop)
    broken = _drive(loop, lambda: bool(returned or raised))
    # What is left has already ignored its cancellation.
    _close(loop, patience=0.0)
    asyncio.set_event_loop(None)
    if raised or broken is not None:
        raise raised[0] if raised else Error(f"the event loop of {name} broke") from broken
    return returned[0]


def _drive(loop: asyncio.AbstractEventLoop, is_done: Callable[[], bool]) -> BaseException | None:
    """Runs a loop until `is_done`, also after an exception or `stop()`. Returns the exception that broke it, if any."""
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
        if (owner := OWNER.get()) is not None:
            owner.adopt_generator(generator)
        if hooks.firstiter is not None:
            hooks.firstiter(generator)

    loop = asyncio.get_running_loop()

    def finalizer(generator: Any) -> None:
        owner = OWNER.get()
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
    owner = None if handle is None else handle._context.get(OWNER)  # type: ignore[attr-defined]
    if owner is not None and not issubclass(type(error), Exception):
        owner.throw(error)
    else:
        _logging.warning("a callback on the runner's event loop raised; the loop goes on", error=error)


def _watch(loop: asyncio.AbstractEventLoop) -> None:
    """Has a loop say what belongs to which run, and lets no run end it."""
    create_task = loop.create_task
    tells = isinstance(loop, asyncio.BaseEventLoop)

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
        if not tells:
            callback = _blamed(callback, owner)
        timer = begin(when, callback, *args, context=context)
        if owner is not None:
            owner.adopt_timer(timer)
        return timer

    def blamed(call: Callable[..., asyncio.Handle], callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return call(_blamed(callback, owner_in(context)), *args, context=context)

    def refused(act: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        owner = OWNER.get()
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
    if not tells:
        # One that is not written in Python (uvloop) does not tell which callback threw something out of it.
        changed["call_later"] = partial(owned_timer, loop.call_later)
        changed["call_soon"] = partial(blamed, loop.call_soon)
    for name, function in changed.items():
        setattr(loop, name, function)


def _blamed(callback: Callable[..., object], owner: Run | None) -> Callable[..., object]:
    """A callback that fails the run that it belongs to, instead of ending the loop."""
    if owner is None:
        return callback

    def call(*args: object) -> None:
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            owner.throw(error)

    return call


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
    # The program may have set its own, and they may raise.
    loop.set_task_factory(None)
    loop.set_exception_handler(None)

    async def end() -> None:
        own = asyncio.current_task()
        await cancelled(lambda: {task for task in asyncio.all_tasks(loop) if task is not own}, patience, reason)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(loop.shutdown_asyncgens(), patience)

    def over(_: object) -> None:
        ended.append(None)
        _stop(loop)

    try:
        start(loop, end()).add_done_callback(over, context=Context())
        _drive(loop, lambda: bool(ended))
    finally:
        with contextlib.suppress(Exception):
            loop.close()
