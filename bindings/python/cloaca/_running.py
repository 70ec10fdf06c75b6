"""The attempt that the current code belongs to, and the threads and futures of attempts and of waits for executions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any

from ._cloaca import Attempt

_attempt: ContextVar[Attempt | None] = ContextVar("cloaca_attempt", default=None)

# The running attempts, by thread, and by the asyncio task of their coroutine.
by_thread: dict[int, Attempt] = {}
by_task: dict[asyncio.Future[Any], Attempt] = {}
# The attempts whose coroutine has not started, with a function that returns the event loop for it.
starting: dict[Attempt, Callable[[], asyncio.AbstractEventLoop | None]] = {}
# The tickets of waits without a timeout, by waiting thread, and by the future that a coroutine awaits.
waiting_threads: dict[int, int] = {}
awaited_futures: dict[asyncio.Future[Any], int] = {}
# The tickets of waits that belong to no attempt and are not on the main thread: a task may have caused them.
unattributed: set[int] = set()


def call(attempt: Attempt, *arguments: Any) -> Any:
    """Call an attempt's function, with the attempt set in the current `contextvars` context."""
    _attempt.set(attempt)
    starting.pop(attempt, None)
    if attempt.is_async:
        task = asyncio.current_task()
        if task is not None:
            by_task[task] = attempt
            task.add_done_callback(_forget_task, context=Context())
        return attempt.function(*arguments)
    thread = threading.get_ident()
    by_thread[thread] = attempt
    try:
        return attempt.function(*arguments)
    finally:
        by_thread.pop(thread, None)


def _forget_task(task: asyncio.Future[Any]) -> None:
    by_task.pop(task, None)


def attempt() -> Attempt | None:
    """Return the attempt that the caller belongs to; ``None`` outside of attempts."""
    return _attempt.get()


def is_main_thread() -> bool:
    """Return whether this is the program's main thread."""
    return threading.get_ident() == threading.main_thread().ident


@contextlib.contextmanager
def waiting(ticket: int, future: asyncio.Future[Any] | None = None) -> Iterator[None]:
    """Record that this thread waits for an execution; or, with a future, that a coroutine awaits the future."""
    thread = threading.get_ident()
    if _attempt.get() is None and not is_main_thread():
        unattributed.add(ticket)
    if future is None:
        waiting_threads[thread] = ticket
    else:
        awaited_futures[future] = ticket
    try:
        yield
    finally:
        unattributed.discard(ticket)
        if future is None:
            waiting_threads.pop(thread, None)
        else:
            awaited_futures.pop(future, None)
