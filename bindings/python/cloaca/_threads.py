"""The threads that run Python's tasks.

They are Python's own threads, not the engine's: nothing native is below a running task, so the interpreter can end at
any time. And they are daemons: a task that hangs does not hold up the end of the program.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import _failure
from ._cloaca import Attempt, Inbox, Notices, Poll
from ._handle import TaskHandle
from ._trigger import fires_with

if TYPE_CHECKING:
    import asyncio

    from ._processes import Processes

_number = itertools.count(1)

# So many of the last errors are kept as objects, for ``raise_for_status``.
_KEPT_ERRORS = 100


class Errors:
    """What tasks of this process raised last, by execution and task."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._errors: OrderedDict[tuple[str, str], tuple[int, BaseException]] = OrderedDict()

    def keep(self, attempt: Attempt, error: BaseException) -> None:
        key = attempt.execution_id, attempt.task_id
        with self._lock:
            self._errors[key] = (attempt.attempt, error)
            self._errors.move_to_end(key)
            while len(self._errors) > _KEPT_ERRORS:
                self._errors.popitem(last=False)

    def find(self, execution_id: str, task_id: str, attempt: int) -> BaseException | None:
        """What this attempt raised, if it is known here and was not an earlier attempt's."""
        with self._lock:
            known, error = self._errors.get((execution_id, task_id), (0, None))
        return error if known == attempt else None


class Threads:
    """A pool: there is always one thread more than there is work, up to what the engine gives out at once."""

    def __init__(self, inbox: Inbox) -> None:
        self.errors = Errors()
        self._inbox = inbox
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._processes: Processes | None = None
        # Without a first one nothing would ever run.
        self._thread().start()

    def _thread(self) -> threading.Thread:
        return threading.Thread(target=self._work, name=f"cloaca-worker-{next(_number)}", daemon=True)

    def _start(self) -> None:
        # There may be no more threads to be had; then work waits for one of those that there are.
        with contextlib.suppress(RuntimeError):
            self._thread().start()

    def _work(self) -> None:
        inbox = self._inbox
        while (work := inbox.take()) is not None:
            if inbox.waiting == 0:
                self._start()
            if isinstance(work, Notices):
                _tell_callbacks(work)
            elif isinstance(work, Poll):
                self._poll(work)
            elif not isinstance(work, Attempt):
                _call(work)
            elif work.in_process:
                self._run_in_process(work)
            elif work.is_async:
                self._start_coroutine(work)
            else:
                self._run(work)
            # Otherwise the last context would live until the next attempt.
            del work

    def _run(self, attempt: Attempt) -> None:
        try:
            attempt.complete(attempt.function(*_arguments(attempt)))
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too: a task ends its attempt, never a thread or the program.
            self._fail(attempt, error)

    def _run_in_process(self, attempt: Attempt) -> None:
        with self._lock:
            if self._processes is None:
                from ._processes import Processes

                self._processes = Processes(self.errors.keep)
            processes = self._processes
        processes.run(attempt)

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        _failure.strip(error, __file__)
        described = _failure.describe(error)
        self.errors.keep(attempt, error)
        attempt.fail(described)

    def _start_coroutine(self, attempt: Attempt) -> None:
        import asyncio

        loop = self._event_loop()

        async def run() -> None:
            current = asyncio.current_task()
            if current is not None:
                attempt.on_cancel(lambda: _tell(loop, current.cancel))
            try:
                coroutine: Coroutine[Any, Any, Any] = attempt.function(*_arguments(attempt))
                attempt.complete(await coroutine)
            except BaseException as error:
                self._fail(attempt, error)

        asyncio.run_coroutine_threadsafe(run(), loop)

    def _poll(self, poll: Poll) -> None:
        if poll.is_async:
            import asyncio

            asyncio.run_coroutine_threadsafe(_poll_async(poll), self._event_loop())
            return
        try:
            _end_poll(poll, poll.function())
        except BaseException as error:
            _fail_poll(poll, error)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        """The runner's event loop: one, on a thread of its own, from the first ``async def`` task on."""
        import asyncio

        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()

                def run() -> None:
                    asyncio.set_event_loop(loop)
                    loop.run_forever()
                    _end(loop)

                threading.Thread(target=run, name=f"cloaca-loop-{next(_number)}", daemon=True).start()
            return self._loop

    def close(self) -> None:
        """Lets the threads go: those that wait, now; those that run a task, when it ends."""
        self._inbox.close()
        with self._lock:
            loop, self._loop = self._loop, None
            processes = self._processes
        if loop is not None:
            _tell(loop, loop.stop)
        if processes is not None:
            processes.close()


async def _poll_async(poll: Poll) -> None:
    try:
        _end_poll(poll, await poll.function())
    except BaseException as error:
        _fail_poll(poll, error)


def _end_poll(poll: Poll, returned: object) -> None:
    context = fires_with(poll.name, returned, none_fires=poll.by_cron)
    if context is None:
        poll.skip()
    else:
        poll.fire(context)


def _fail_poll(poll: Poll, error: BaseException) -> None:
    """SystemExit and KeyboardInterrupt too: a trigger ends its poll, never a thread or the program."""
    _failure.strip(error, __file__)
    poll.fail(_failure.describe(error))


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    """Has the loop call something, if it still runs."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """What asyncio.run does at its end."""
    import asyncio

    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _tell_callbacks(notices: Notices) -> None:
    while (call := notices.take()) is not None:
        try:
            call.run()
        except BaseException:
            # SystemExit too: a callback ends no thread.
            import logging

            logging.getLogger("cloaca.runner").exception("a callback of a task raised; that changes nothing")
        finally:
            call.done()


def _call(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        import logging

        logging.getLogger("cloaca.runner").exception("a callback failed")


def _arguments(attempt: Attempt) -> tuple[Any, ...]:
    if attempt.parameters == 0:
        return ()
    return (attempt.context,) if attempt.parameters == 1 else (attempt.context, TaskHandle._of(attempt))
