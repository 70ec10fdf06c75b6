"""Detection of what running attempts wait for, from the frames of threads and the futures of coroutines.

A task can start a thread that waits for an execution, and wait for this thread. The wait for the execution does not
know its task, but the stack frames connect them: the task's thread is in `Future.result`, `Thread.join` or the like,
and the other thread runs the awaited work.

The tickets of waits are read before the frames, and the engine ignores a report about waits that have ended meanwhile.
So if a wait still lasts, the frames and those who wait for its thread have not changed in between.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import queue
import selectors
import sys
import threading
import types
from collections.abc import Callable, Iterable
from concurrent.futures import thread as _thread
from typing import Any, TypeAlias, cast

from . import _failure, _running
from ._cloaca import Attempt

# What blocks a thread, task or future. A set: the tickets of the waits that must end first; "lock": a lock of any
# owner; None: nothing known, so it may make progress.
Blocked: TypeAlias = frozenset[int] | str | None
Activity: TypeAlias = list[int] | str

# How many of the innermost frames identify the position of a thread.
_POSITION_FRAMES = 4


class Observer:
    """Observes the attempts of this process, and compares each observation with the previous one."""

    def __init__(self) -> None:
        # The positions at the last observation, by execution, task and attempt.
        self._positions: dict[tuple[str, str, int], object] = {}

    def observe(self) -> list[tuple[Attempt, Activity]]:
        """Return what blocks the attempts that make no progress, as far as it can be determined."""
        now = _Snapshot()
        attempts = [
            (attempt, now.position_of_thread(thread), now.thread(thread))
            for thread, attempt in list(_running.by_thread.items())
        ]
        attempts += [
            # A task that is done but not reported waits for the loop.
            (attempt, now.position_of_task(task), now.busy_loop(task.get_loop()) if task.done() else now.future(task))
            for task, attempt in list(_running.by_task.items())
        ]
        attempts += [(attempt, None, now.busy_loop(current())) for attempt, current in list(_running.starting.items())]
        before, self._positions = self._positions, {}
        report: list[tuple[Attempt, Activity]] = []
        for attempt, position, blocked in attempts:
            key = attempt.execution_id, attempt.task_id, attempt.attempt
            self._positions[key] = position
            if isinstance(blocked, frozenset):
                report.append((attempt, sorted(blocked)))
            elif now.has_unattributed and blocked is not None:
                report.append((attempt, blocked))
            elif now.has_unattributed and before.get(key) == position:
                report.append((attempt, "unmoved"))
        return report


class _Snapshot:
    """The threads and futures at one moment."""

    def __init__(self) -> None:
        self._threads = dict(_running.waiting_threads)
        self._futures = dict(_running.awaited_futures)
        # Waits on the main thread do not count: no task started it.
        self.has_unattributed = bool(_running.unattributed)
        self._visiting: set[object] = set()
        self._frames = sys._current_frames()
        self._runners: dict[int, int] = {}
        self._jobs: dict[int, list[int]] = {}
        self._workers: dict[int, tuple[Any, list[int]]] = {}
        for ident, frame in self._frames.items():
            self._record_work(ident, frame)

    def _record_work(self, ident: int, frame: types.FrameType | None) -> None:
        """Record what a pool's thread runs, and which queue it serves."""
        while frame is not None:
            code = frame.f_code
            if code is _RUN:
                self._runners.setdefault(id(frame.f_locals["self"].future), ident)
            elif code is _WORKER:
                calls = frame.f_locals["work_queue"]
                self._workers.setdefault(id(calls), (calls, []))[1].append(ident)
            elif code.co_name == "worker" and frame.f_globals.get("__name__") == "multiprocessing.pool":
                self._jobs.setdefault(frame.f_locals.get("job", -1), []).append(ident)
            frame = frame.f_back

    def position_of_thread(self, ident: int) -> object:
        """Return the position of a thread: a value that changes when the thread makes progress."""
        frame = self._frames.get(ident)
        position: list[tuple[int, int]] = []
        while frame is not None and len(position) < _POSITION_FRAMES:
            position.append((id(frame), frame.f_lasti))
            frame = frame.f_back
        return position

    def position_of_task(self, task: asyncio.Future[Any]) -> object:
        """Return the position of a coroutine."""
        return id(getattr(task, "_fut_waiter", None))

    def thread(self, ident: int | None) -> Blocked:
        """Return what blocks a thread."""
        if ident is None or ident not in self._frames:
            return None
        if ident in self._threads:
            return frozenset([self._threads[ident]])
        return self._once(("thread", ident), lambda: self._thread(ident))

    def _thread(self, ident: int) -> Blocked:
        frame: types.FrameType | None = self._frames[ident]
        found: Blocked = None
        # A wait consists of several calls; the outermost one shows what it waits for.
        while frame is not None:
            if (resolve := _resolver_for(frame)) is not None:
                variables = frame.f_locals
                found = resolve(self, variables) if variables.get("timeout") is None else None
            elif frame.f_code not in _INTERMEDIATE:
                break
            frame = frame.f_back
        return found

    def future(self, future: Any) -> Blocked:
        """Return what blocks a future of `concurrent.futures` or `asyncio`."""
        if future.done():
            return None
        if future in self._futures:
            return frozenset([self._futures[future]])
        return self._once(id(future), lambda: self._future(future))

    def _future(self, future: Any) -> Blocked:
        if isinstance(future, concurrent.futures.Future):
            return self._future_of_pool(future)
        if isinstance(future, asyncio.Task):
            return self._task(future)
        children = getattr(future, "_children", None)
        if children is not None:
            # Whether a single failure ends a gather is unknown: it is blocked only if all its children are.
            return self.any_of(children)
        return self.any_of(_sources(future, concurrent.futures.Future))

    def busy_loop(self, loop: asyncio.AbstractEventLoop | None) -> Blocked:
        """Return what blocks a loop that is executing a task: all its other tasks wait for this one."""
        return self.thread(getattr(loop, "_thread_id", None)) if _is_busy(loop) else None

    def _task(self, task: asyncio.Task[Any]) -> Blocked:
        loop = task.get_loop()
        if _is_busy(loop):
            return self.busy_loop(loop)
        waiter = getattr(task, "_fut_waiter", None)
        if waiter is None or _has_limit(task):
            return None
        awaited = _awaited_by(task)
        return self.future(waiter) if awaited is None else self.any_of(awaited)

    def _future_of_pool(self, future: concurrent.futures.Future[Any]) -> Blocked:
        if id(future) in self._runners:
            return self.thread(self._runners[id(future)])
        for calls, workers in self._workers.values():
            if _holds(calls, future):
                return self.any_of_threads(workers)
        # A future of `run_coroutine_threadsafe`, or one that the program completes itself.
        sources = _sources(future, asyncio.Future)
        return self.any_of(sources) if sources else "lock"

    def any_of(self, futures: Iterable[Any]) -> Blocked:
        """Return what blocks a wait for the first of these futures."""
        return _first(self.future(future) for future in list(futures) if not future.done())

    def all_of(self, futures: Iterable[Any]) -> Blocked:
        """Return what blocks a wait for all of these futures."""
        return _last(self.future(future) for future in list(futures) if not future.done())

    def any_of_threads(self, idents: Iterable[int]) -> Blocked:
        """Return what blocks a wait for the first of these threads."""
        return _first(self.thread(ident) for ident in idents)

    def job(self, number: int) -> Blocked:
        """Return what blocks a job of `multiprocessing.pool`, which waits for all of its parts."""
        return _last(self.thread(ident) for ident in self._jobs.get(number, [])) or "lock"

    def _once(self, key: object, resolve: Callable[[], Blocked]) -> Blocked:
        """Resolve a wait. A cycle of waits counts as unknown."""
        if key in self._visiting:
            return None
        self._visiting.add(key)
        try:
            return resolve()
        finally:
            self._visiting.discard(key)


def _first(all_blocked: Iterable[Blocked]) -> Blocked:
    """Return what blocks a wait for one of these: all of them must be blocked."""
    waits: set[int] = set()
    kinds = list(all_blocked)
    for blocked in kinds:
        if blocked is None:
            return None
        if isinstance(blocked, frozenset):
            waits |= blocked
    if "lock" in kinds:
        return "lock"
    return frozenset(waits) or None


def _last(all_blocked: Iterable[Blocked]) -> Blocked:
    """Return what blocks a wait for all of these: one blocked member suffices."""
    kinds = list(all_blocked)
    return next((one for one in kinds if isinstance(one, frozenset)), "lock" if "lock" in kinds else None)


def _holds(calls: Any, future: concurrent.futures.Future[Any]) -> bool:
    """Return whether a pool's queue contains the call for a future."""
    inside = gc.get_referents(calls)
    items = [item for one in inside for item in (one if isinstance(one, list) else [one])]
    return any(getattr(item, "future", None) is future for item in items)


def _sources(future: Any, kind: type[Any]) -> list[Any]:
    """Return the futures of another kind that a future was chained to, found in its callbacks."""
    callbacks = getattr(future, "_done_callbacks", None) or getattr(future, "_callbacks", None) or []
    functions = [callback[0] if isinstance(callback, tuple) else callback for callback in list(callbacks)]
    cells = [cell for function in functions for cell in getattr(function, "__closure__", None) or ()]
    found = []
    for cell in cells:
        try:
            content = cell.cell_contents
        except ValueError:
            continue
        if content is not future and isinstance(content, kind) and not content.done():
            found.append(content)
    return found


def _is_busy(loop: asyncio.AbstractEventLoop | None) -> bool:
    return loop is not None and _failure.safely(lambda: asyncio.current_task(loop), None) is not None


def _has_limit(task: asyncio.Task[Any]) -> bool:
    """Return whether an `asyncio.timeout` will cancel a task."""
    timers = list(getattr(task.get_loop(), "_scheduled", ()))
    owners = (getattr(timer._callback, "__self__", None) for timer in timers if not timer.cancelled())
    return any(getattr(owner, "_task", None) is task for owner in owners)


def _awaited_by(task: asyncio.Task[Any]) -> Iterable[Any] | None:
    """Return the futures that a coroutine awaits in `asyncio.wait` or at the end of a `TaskGroup`; ``None`` if in
    neither."""
    coroutine: Any = task.get_coro()
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        if frame.f_code is _ASYNCIO_WAIT:
            return cast("Iterable[Any]", frame.f_locals["fs"]) if frame.f_locals.get("timeout") is None else ()
        if frame.f_code in _GROUP_EXITS:
            return cast("Iterable[Any]", frame.f_locals["self"]._tasks)
        coroutine = getattr(coroutine, "cr_await", None)
    return None


def _code(function: Any) -> Any:
    return getattr(function, "__code__", None)


_RUN = _code(_thread._WorkItem.run)
_WORKER = _code(_thread._worker)
_ASYNCIO_WAIT = _code(getattr(asyncio.tasks, "_wait", None))
_GROUP = getattr(asyncio, "TaskGroup", None)
_GROUP_EXITS = [code for name in ("__aexit__", "_aexit") if (code := _code(getattr(_GROUP, name, None)))]

# Returns what blocks a wait, given the local variables of the waiting function.
Resolver: TypeAlias = Callable[[_Snapshot, dict[str, Any]], Blocked]


def _lock(_snapshot: _Snapshot, _variables: dict[str, Any]) -> Blocked:
    return "lock"


def _joined(snapshot: _Snapshot, variables: dict[str, Any]) -> Blocked:
    return snapshot.thread(variables["self"].ident)


def _result(snapshot: _Snapshot, variables: dict[str, Any]) -> Blocked:
    return snapshot.future(variables["self"])


def _several(snapshot: _Snapshot, variables: dict[str, Any]) -> Blocked:
    waits_for_all = variables.get("return_when") == concurrent.futures.ALL_COMPLETED
    return snapshot.all_of(variables["fs"]) if waits_for_all else snapshot.any_of(variables["fs"])


def _next_completed(snapshot: _Snapshot, variables: dict[str, Any]) -> Blocked:
    return snapshot.any_of(variables.get("pending", variables["fs"]))


def _job(snapshot: _Snapshot, variables: dict[str, Any]) -> Blocked:
    return snapshot.job(variables["self"]._job)


def _end_of_loop(snapshot: _Snapshot, variables: dict[str, Any]) -> Blocked:
    return snapshot.future(variables["future"])


# The functions in which a thread waits, and the resolvers of their waits.
_WAITS: dict[Any, Resolver] = {
    _code(function): resolve
    for function, resolve in (
        (threading.Condition.wait, _lock),
        (threading.Event.wait, _lock),
        (threading.Barrier.wait, _lock),
        (queue.Queue.get, _lock),
        (queue.Queue.join, _lock),
        (threading.Thread.join, _joined),
        (concurrent.futures.Future.result, _result),
        (concurrent.futures.Future.exception, _result),
        (concurrent.futures.wait, _several),
        (concurrent.futures.as_completed, _next_completed),
        (asyncio.BaseEventLoop.run_until_complete, _end_of_loop),
    )
}
_SELECTORS = ("SelectSelector", "PollSelector", "EpollSelector", "DevpollSelector", "KqueueSelector")
# Functions between a waiting thread's innermost frame and a function of `_WAITS`.
_INTERMEDIATE = {
    _code(getattr(owner, name, None))
    for owner, name in (
        (threading.Thread, "_wait_for_tstate_lock"),
        (threading.Condition, "wait_for"),
        (threading.Barrier, "_wait"),
        (asyncio.BaseEventLoop, "run_forever"),
        (asyncio.BaseEventLoop, "_run_once"),
        *((getattr(selectors, kind, None), "select") for kind in _SELECTORS),
        (getattr(selectors, "_PollLikeSelector", None), "select"),
    )
}


def _resolver_for(frame: types.FrameType) -> Resolver | None:
    code = frame.f_code
    if code.co_name in ("wait", "get") and frame.f_globals.get("__name__") == "multiprocessing.pool":
        return _job
    return _WAITS.get(code)
