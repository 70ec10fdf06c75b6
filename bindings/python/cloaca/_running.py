"""Which attempt the code belongs to that runs just now, and where attempts and waits for executions are."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any

from ._cloaca import Attempt

_attempt: ContextVar[Attempt | None] = ContextVar("cloaca_attempt", default=None)

# The attempts that run, by thread; and by the asyncio task of the coroutine.
by_thread: dict[int, Attempt] = {}
by_task: dict[asyncio.Future[Any], Attempt] = {}
# Those whose coroutine has not begun, with what gives the event loop that will run it.
beginning: dict[Attempt, Callable[[], asyncio.AbstractEventLoop | None]] = {}
# The numbers of the waits without a limit, by the thread that waits; and by the future that a coroutine awaits.
waiting_threads: dict[int, int] = {}
awaited_futures: dict[asyncio.Future[Any], int] = {}
# Those of them that belong to no attempt, and are not on the main thread.
suspects: set[int] = set()


def call(attempt: Attempt, *arguments: Any) -> Any:
    """Calls an attempt's function, in a context that knows the attempt."""
    _attempt.set(attempt)
    beginning.pop(attempt, None)
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
    """Returns the attempt that the caller belongs to."""
    return _attempt.get()


def is_main_thread() -> bool:
    """Returns whether this is the program's main thread."""
    return threading.get_ident() == threading.main_thread().ident


@contextlib.contextmanager
def waits(ticket: int, future: asyncio.Future[Any] | None = None) -> Iterator[None]:
    """Notes that this thread is in such a wait; or, with a future, that a coroutine awaits that."""
    thread = threading.get_ident()
    if _attempt.get() is None and not is_main_thread():
        suspects.add(ticket)
    if future is None:
        waiting_threads[thread] = ticket
    else:
        awaited_futures[future] = ticket
    try:
        yield
    finally:
        suspects.discard(ticket)
        if future is None:
            waiting_threads.pop(thread, None)
        else:
            awaited_futures.pop(future, None)
