"""The thread pool that runs Python tasks.

The threads are created by Python, not by the engine: no native frame is below a running task, so the interpreter can
exit at any time. They are daemon threads: a task that hangs does not delay the exit of the program.

Each call of the program's code (an attempt, a poll, a callback) gets a fresh `contextvars` context, so that it does not
see variables set by earlier calls on the same thread.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _failure, _interpreter, _logging, _running
from ._cloaca import Attempt, Inbox, Notices, Poll
from ._handle import TaskHandle
from ._trigger import fire_context, triggers
from .inputs import check_scheduled
from .workflow import workflows

if TYPE_CHECKING:
    from ._loop import Loop
    from ._processes import Processes

_number = itertools.count(1)

# How many recent exceptions are kept as objects, for ``raise_for_status``.
_KEPT_ERRORS = 100
# The maximum number of idle threads; further ones exit.
_IDLE_THREADS = 16


class Errors:
    """The most recent exceptions of this process's tasks, by execution and task."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._errors: OrderedDict[tuple[str, str], tuple[int, BaseException]] = OrderedDict()
        self._tracebacks: deque[TracebackType] = deque(maxlen=_KEPT_ERRORS)

    def settle(self, error: BaseException) -> _failure.Described:
        """Describe an attempt's exception for the log, and free the local variables of its frames."""
        with self._lock:
            earlier = list(self._tracebacks)
        traceback = _failure.strip(error, earlier)
        described = _failure.describe(error)
        _failure.release(error)
        if traceback is not None:
            with self._lock:
                self._tracebacks.append(traceback)
        return described

    def keep(self, attempt: Attempt, error: BaseException) -> None:
        """Keep an attempt's exception."""
        key = attempt.execution_id, attempt.task_id
        with self._lock:
            self._errors[key] = (attempt.attempt, error)
            self._errors.move_to_end(key)
            while len(self._errors) > _KEPT_ERRORS:
                self._errors.popitem(last=False)

    def forget_before(self, attempt: Attempt) -> None:
        """Drop the exception of the previous attempt: it may hold resources that this attempt needs."""
        if attempt.attempt > 1:
            with self._lock:
                self._errors.pop((attempt.execution_id, attempt.task_id), None)

    def find(self, execution_id: str, task_id: str, attempt: int) -> BaseException | None:
        """Return the exception of this attempt; ``None`` if it is unknown or belongs to an earlier attempt."""
        with self._lock:
            known, error = self._errors.get((execution_id, task_id), (0, None))
        return error if known == attempt else None


class Threads:
    """A thread pool that always has an idle thread for the engine's next work item. Coroutines occupy no thread."""

    def __init__(self, inbox: Inbox) -> None:
        self.errors = Errors()
        self._inbox = inbox
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._starting = 0
        self._loop: Loop | None = None
        self._processes: Processes | None = None
        self._closed = False
        # The first thread. Each thread starts the next one before it blocks.
        self._start_thread()

    def _ensure_idle_thread(self) -> None:
        """Start a thread unless one is idle or starting."""
        if self._inbox.waiting + self._starting == 0:
            # If no thread can be started, the work waits for one of the running threads.
            with contextlib.suppress(Exception):
                self._start_thread()

    def _start_thread(self) -> None:
        with self._lock:
            if self._inbox.waiting + self._starting > 0:
                return
            self._starting += 1
        thread = threading.Thread(target=self._work, name=f"cloaca-worker-{next(_number)}", daemon=True)
        try:
            thread.start()
        except Exception:
            with self._lock:
                self._starting -= 1
            raise

    def _work(self) -> None:
        with self._lock:
            self._starting -= 1
        while True:
            try:
                work = self._inbox.take()
                if work is None:
                    return
                self._do(work)
            except BaseException as error:
                # The program can inject exceptions into any thread; they must not end this one.
                _logging.failure("an exception interrupted a thread of the runner; the thread continues", error)
            finally:
                # A reference would keep the last context alive until the next attempt.
                work = None
            if self._inbox.waiting >= _IDLE_THREADS:
                return

    def _do(self, work: Attempt | Poll | Notices | Callable[[], object]) -> None:
        if isinstance(work, Attempt):
            self.errors.forget_before(work)
            if self._has_invalid_input(work):
                pass
            elif work.in_process:
                self._ensure_idle_thread()
                self._run_in_process(work)
            elif work.is_async:
                self._start_coroutine(work)
            else:
                self._ensure_idle_thread()
                self._run(work)
        elif isinstance(work, Poll):
            self._poll(work)
        elif isinstance(work, Notices):
            self._ensure_idle_thread()
            _run_callbacks(work)
        else:
            # The package's own code, which never blocks.
            _call(work)

    def _has_invalid_input(self, attempt: Attempt) -> bool:
        """Fail an attempt if a schedule started its execution with an input that the workflow does not accept."""
        workflow = workflows.find(attempt.workflow)
        if workflow is None or not workflow._inputs or attempt.task_id not in workflow.get_roots():
            return False
        try:
            check_scheduled(workflow._inputs, attempt)
        except Exception as error:
            self._fail(attempt, error)
            return True
        return False

    def _run(self, attempt: Attempt) -> None:
        try:
            returned = Context().run(_running.call, attempt, *_arguments(attempt))
            self._check_process(None)
            attempt.complete(returned)
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too end only the attempt, not the thread or the program.
            self._fail(attempt, error)

    def _run_in_process(self, attempt: Attempt) -> None:
        try:
            with self._lock:
                if self._processes is None:
                    _interpreter.check_processes()
                    from ._processes import Processes

                    self._processes = Processes(self.errors.keep)
                processes = self._processes
            processes.run(attempt)
        except BaseException as error:
            self._fail(attempt, error)

    def _check_process(self, error: BaseException | None) -> None:
        """Exit if this is a fork that returned from the program's code: only the parent reports the outcome."""
        if os.getpid() != self._process:
            from . import _forks

            _forks.exit_fork(error)

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        self._check_process(error)
        described = self.errors.settle(error)
        self.errors.keep(attempt, error)
        attempt.fail(described)

    def _start_coroutine(self, attempt: Attempt) -> None:
        def fail(error: BaseException) -> None:
            _running.starting.pop(attempt, None)
            self._fail(attempt, error)

        def complete(returned: object) -> None:
            self._check_process(None)
            attempt.complete(returned)

        from ._run import Turn

        name = f"attempt {attempt.attempt} of task '{attempt.task_id}' in execution {attempt.execution_id}"
        try:
            loop = self._event_loop()
            _running.starting[attempt] = loop.current
            # What an earlier attempt has started may still be cleaning up after its timeout.
            turn = Turn((attempt.execution_id, attempt.task_id), attempt.hold_timeout, attempt.begin_timeout)
            cancel = loop.start(name, lambda: _running.call(attempt, *_arguments(attempt)), complete, fail, turn)
            attempt.on_cancel(cancel)
        except BaseException as error:
            fail(error)

    def _poll(self, poll: Poll) -> None:
        def end(returned: object) -> None:
            self._check_process(None)
            _end_poll(poll, returned)

        def fail(error: BaseException) -> None:
            self._check_process(error)
            poll.fail(self.errors.settle(error))

        try:
            if poll.is_async:
                self._event_loop().start(f"trigger '{poll.name}'", poll.function, end, fail)
            else:
                self._ensure_idle_thread()
                end(Context().run(poll.function))
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too end only the poll, not the thread or the program.
            fail(error)

    def _event_loop(self) -> Loop:
        """Return the runner's event loop, creating it for the first coroutine."""
        from ._loop import Loop

        with self._lock:
            if self._loop is None:
                _interpreter.check_loop()
                self._loop = Loop(lambda: f"cloaca-loop-{next(_number)}")
                if self._closed:
                    self._loop.close()
            return self._loop

    def close(self) -> None:
        """Let the threads exit: idle ones now, the others when their task ends."""
        self._inbox.close()
        with self._lock:
            self._closed = True
            loop, processes = self._loop, self._processes
        if loop is not None:
            loop.close()
        if processes is not None:
            processes.close()


def _end_poll(poll: Poll, returned: object) -> None:
    context = fire_context(poll.name, returned, none_fires=poll.by_cron)
    if context is None:
        poll.skip()
        return
    trigger = triggers.find(poll.name)
    workflow = None if trigger is None else workflows.find(trigger.workflow)
    poll.fire(context if workflow is None else workflow._inputs.complete(workflow.name, context))


def _run_callbacks(notices: Notices) -> None:
    while (call := notices.take()) is not None:
        try:
            Context().run(call.run)
        except BaseException as error:
            # SystemExit too must not end the thread.
            _logging.failure("a callback of a task raised an exception; the execution is not affected", error)
            _failure.release(error)
        finally:
            call.done()


def _call(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:
        _logging.failure("an internal callback failed", error)


def _arguments(attempt: Attempt) -> tuple[Any, ...]:
    parameters = attempt.parameters
    if parameters == 0:
        return ()
    return (attempt.context,) if parameters == 1 else (attempt.context, TaskHandle._of(attempt))
