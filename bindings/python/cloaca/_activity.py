"""What running attempts wait for: a look at the frames of threads and the futures of coroutines.

A wait for an execution on a thread that a task made does not know its task. But a task that waits for that thread can
be seen to do so: its thread is in `Future.result`, `Thread.join` and the like, and the other one runs what that is for.

The numbers of waits are read before the frames, and the engine disregards a report about waits that have ended. So what
a thread in such a wait runs, and who waits for that, did not change in between.
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

# The waits that must end first; "lock": waits for a lock, of whomever; None: goes on, or may.
Blocked: TypeAlias = frozenset[int] | str | None
Activity: TypeAlias = list[int] | str

# How many frames, from the innermost on, tell where a thread is.
_TOP = 4


class Observer:
    """Looks at the attempts of this process, time and again."""

    def __init__(self) -> None:
        # By execution, task and attempt: where it was at the last look.
        self._places: dict[tuple[str, str, int], object] = {}

    def look(self) -> list[tuple[Attempt, Activity]]:
        """Returns what the attempts do that do not go on, as far as that can be seen."""
        seen = _Snapshot()
        attempts = [
            (attempt, seen.place_of_thread(thread), seen.thread(thread))
            for thread, attempt in list(_running.by_thread.items())
        ]
        attempts += [
            # One that is done, but not reported, waits for the loop.
            (attempt, seen.place_of_task(task), seen.busy_loop(task.get_loop()) if task.done() else seen.future(task))
            for task, attempt in list(_running.by_task.items())
        ]
        attempts += [(attempt, None, seen.busy_loop(current())) for attempt, current in list(_running.starting.items())]
        before, self._places = self._places, {}
        report: list[tuple[Attempt, Activity]] = []
        for attempt, place, by in attempts:
            key = attempt.execution_id, attempt.task_id, attempt.attempt
            self._places[key] = place
            if isinstance(by, frozenset):
                report.append((attempt, sorted(by)))
            elif seen.has_suspect and by is not None:
                report.append((attempt, by))
            elif seen.has_suspect and before.get(key) == place:
                report.append((attempt, "unmoved"))
        return report


class _Snapshot:
    """Threads and futures at one moment."""

    def __init__(self) -> None:
        self._threads = dict(_running.waiting_threads)
        self._futures = dict(_running.awaited_futures)
        # What a program waits for on its main thread says nothing of its tasks.
        self.has_suspect = bool(_running.unattributed)
        self._visiting: set[object] = set()
        self._frames = sys._current_frames()
        self._runners: dict[int, int] = {}
        self._jobs: dict[int, list[int]] = {}
        self._workers: dict[int, tuple[Any, list[int]]] = {}
        for ident, frame in self._frames.items():
            self._note_work(ident, frame)

    def _note_work(self, ident: int, frame: types.FrameType | None) -> None:
        """Notes what a thread of a pool runs, and which queue it serves."""
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

    def place_of_thread(self, ident: int) -> object:
        """Where a thread is: another value once it has moved."""
        frame = self._frames.get(ident)
        place: list[tuple[int, int]] = []
        while frame is not None and len(place) < _TOP:
            place.append((id(frame), frame.f_lasti))
            frame = frame.f_back
        return place

    def place_of_task(self, task: asyncio.Future[Any]) -> object:
        """Where a coroutine is."""
        return id(getattr(task, "_fut_waiter", None))

    def thread(self, ident: int | None) -> Blocked:
        """What a thread waits for."""
        if ident is None or ident not in self._frames:
            return None
        if ident in self._threads:
            return frozenset([self._threads[ident]])
        return self._once(("thread", ident), lambda: self._thread(ident))

    def _thread(self, ident: int) -> Blocked:
        frame: types.FrameType | None = self._frames[ident]
        found: Blocked = None
        # Of the calls that are part of one wait, the outermost says what it is for.
        while frame is not None:
            if (look := _look_of(frame)) is not None:
                of = frame.f_locals
                found = look(self, of) if of.get("timeout") is None else None
            elif frame.f_code not in _PARTS:
                break
            frame = frame.f_back
        return found

    def future(self, future: Any) -> Blocked:
        """What must happen before a future of `concurrent.futures` or `asyncio` is done."""
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
            # Whether one failure ends a gather cannot be seen: all of it has to be stuck.
            return self.any_of(children)
        return self.any_of(_sources(future, concurrent.futures.Future))

    def busy_loop(self, loop: asyncio.AbstractEventLoop | None) -> Blocked:
        """What a loop waits for that is in one of its tasks: all others wait for that."""
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
        # That of `run_coroutine_threadsafe`; or one that somebody completes by hand.
        sources = _sources(future, asyncio.Future)
        return self.any_of(sources) if sources else "lock"

    def any_of(self, futures: Iterable[Any]) -> Blocked:
        """What waits for the first of these futures."""
        return _first(self.future(future) for future in list(futures) if not future.done())

    def all_of(self, futures: Iterable[Any]) -> Blocked:
        """What waits for all of these futures."""
        return _last(self.future(future) for future in list(futures) if not future.done())

    def any_of_threads(self, idents: Iterable[int]) -> Blocked:
        """What waits for the first of these threads."""
        return _first(self.thread(ident) for ident in idents)

    def job(self, number: int) -> Blocked:
        """What waits for a job of `multiprocessing.pool`: for all of its parts."""
        return _last(self.thread(ident) for ident in self._jobs.get(number, [])) or "lock"

    def _once(self, key: object, look: Callable[[], Blocked]) -> Blocked:
        """What waits for itself is not ours to explain."""
        if key in self._visiting:
            return None
        self._visiting.add(key)
        try:
            return look()
        finally:
            self._visiting.discard(key)


def _first(all_blocked: Iterable[Blocked]) -> Blocked:
    """What waits until one of these goes on."""
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
    """What waits until all of these have gone on."""
    kinds = list(all_blocked)
    return next((one for one in kinds if isinstance(one, frozenset)), "lock" if "lock" in kinds else None)


def _holds(calls: Any, future: concurrent.futures.Future[Any]) -> bool:
    """Whether a call that waits in a pool's queue is the one for a future."""
    inside = gc.get_referents(calls)
    items = [item for one in inside for item in (one if isinstance(one, list) else [one])]
    return any(getattr(item, "future", None) is future for item in items)


def _sources(future: Any, kind: type[Any]) -> list[Any]:
    """The futures of another kind that a future was chained to: they stand in its callbacks."""
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
    """Whether an `asyncio.timeout` will cancel a task."""
    timers = list(getattr(task.get_loop(), "_scheduled", ()))
    owners = (getattr(timer._callback, "__self__", None) for timer in timers if not timer.cancelled())
    return any(getattr(owner, "_task", None) is task for owner in owners)


def _awaited_by(task: asyncio.Task[Any]) -> Iterable[Any] | None:
    """The futures that a coroutine waits for in `asyncio.wait` or at the end of a `TaskGroup`, if it is in one."""
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

Look: TypeAlias = Callable[[_Snapshot, dict[str, Any]], Blocked]


def _lock(_seen: _Snapshot, _of: dict[str, Any]) -> Blocked:
    return "lock"


def _joined(seen: _Snapshot, of: dict[str, Any]) -> Blocked:
    return seen.thread(of["self"].ident)


def _result(seen: _Snapshot, of: dict[str, Any]) -> Blocked:
    return seen.future(of["self"])


def _several(seen: _Snapshot, of: dict[str, Any]) -> Blocked:
    waits_for_all = of.get("return_when") == concurrent.futures.ALL_COMPLETED
    return seen.all_of(of["fs"]) if waits_for_all else seen.any_of(of["fs"])


def _next_completed(seen: _Snapshot, of: dict[str, Any]) -> Blocked:
    return seen.any_of(of.get("pending", of["fs"]))


def _job(seen: _Snapshot, of: dict[str, Any]) -> Blocked:
    return seen.job(of["self"]._job)


def _end_of_loop(seen: _Snapshot, of: dict[str, Any]) -> Blocked:
    return seen.future(of["future"])


# The functions that a thread is in while it waits, and what each of them says of the wait.
_WAITS: dict[Any, Look] = {
    _code(function): look
    for function, look in (
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
# Functions in between, which say nothing.
_PARTS = {
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


def _look_of(frame: types.FrameType) -> Look | None:
    code = frame.f_code
    if code.co_name in ("wait", "get") and frame.f_globals.get("__name__") == "multiprocessing.pool":
        return _job
    return _WAITS.get(code)
