"""The host shared by a runner, its executions and its results: the engine, its threads and its log."""

from __future__ import annotations

import asyncio
import os
import platform
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from . import _cloaca, _interpreter, _logging, _running
from ._cloaca import Context, Inbox, NativeEngine, NativeScheduling, NativeWorkflow, TriggerSpec, VirtualClock
from ._history_source import HistorySource
from ._threads import Threads
from ._trigger import triggers
from ._url import Location
from .config import DefaultRunnerConfig
from .errors import OperationError
from .result import WorkflowResult
from .workflow import workflows

if TYPE_CHECKING:
    from ._activity import Observer

# How long to wait for running attempts at interpreter exit, in seconds. Recovery resumes those that have not ended.
_GRACE_AT_EXIT = 0.5

Started = TypeVar("Started")


class Host:
    """An engine on a log. It is shut down when neither a runner nor an execution references it any more."""

    def __init__(
        self, location: Location, config: DefaultRunnerConfig, clock: VirtualClock | None, crashable: bool
    ) -> None:
        self.location = location
        self.config = config
        self.clock = clock
        # Whether tests can make the engine crash.
        self._crashable = crashable
        self.history_source = HistorySource(location.path, self)
        self._process = os.getpid()
        self.begin()

    def begin(self) -> None:
        """Open the log and resume its unfinished executions."""
        # Plain flags without a lock: a signal handler or a finalizer may shut down concurrently with this thread.
        self.is_closed = self._is_ended = False
        self._observer: Observer | None = None
        self._inbox = Inbox()
        registered, polled = workflows.subscribe(self), triggers.subscribe(self)
        try:
            self._native = self._open(registered, polled)
        except BaseException:
            workflows.unsubscribe(self)
            triggers.unsubscribe(self)
            self._inbox.close()
            raise
        self._native_scheduling = NativeScheduling(self.engine)
        try:
            self._threads = start_threads(lambda: Threads(self._inbox))
        except BaseException:
            workflows.unsubscribe(self)
            triggers.unsubscribe(self)
            self._native.shutdown(0.0)
            self._inbox.close()
            raise
        self._native.on_stall(partial(_report_activity, weakref.ref(self)))
        # Workflows and triggers may have been registered while the log was being opened.
        for workflow in workflows.subscribe(self):
            if workflow not in registered:
                self.engine.register(workflow)
        for trigger in triggers.subscribe(self):
            if trigger not in polled:
                self.engine.register_trigger(trigger)
        _hosts.add(self)

    @property
    def engine(self) -> NativeEngine:
        """The engine. Raises where its threads do not exist: in a fork, and with greenlets in place of threads."""
        self._refuse_fork()
        _interpreter.check_threads_again()
        return self._native

    @property
    def scheduling(self) -> NativeScheduling:
        """The engine's schedules and triggers. Raises in a fork."""
        self._refuse_fork()
        return self._native_scheduling

    def _refuse_fork(self) -> None:
        if self._process != os.getpid():
            raise OperationError(
                f"this runner belongs to process {self._process} and cannot be used in a fork of it; fork before the "
                f"runner is opened, or spawn the process (multiprocessing's start method 'spawn')"
            )

    def _open(self, registered: list[NativeWorkflow], polled: list[TriggerSpec]) -> NativeEngine:
        config = self.config
        return NativeEngine(
            self.location.path,
            self._inbox,
            registered,
            durability=config.durability,
            max_concurrent_tasks=config.max_concurrent_tasks,
            task_timeout_ms=_millis(config.task_timeout_seconds),
            workflow_timeout_ms=_millis(config.workflow_timeout_seconds),
            strict_context=config.strict_context,
            max_recoveries=config.max_recoveries,
            max_value_bytes=config.max_value_bytes,
            recover=config.enable_recovery,
            cron=config.enable_cron_scheduling,
            max_catchup=min(config.cron_max_catchup_executions, 2**32 - 1),
            python=platform.python_version(),
            triggers=polled,
            clock=self.clock,
            crashable=self._crashable,
        )

    def _workflow_registered(self, workflow: NativeWorkflow) -> None:
        """Register a new workflow with the open engine."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        # In a fork, the engine of the parent's runner must not be called.
        if engine is not None and not self.is_closed and self._process == os.getpid():
            engine.register(workflow)

    def _trigger_registered(self, trigger: TriggerSpec) -> None:
        """Register a new trigger with the open engine."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        if engine is not None and not self.is_closed and self._process == os.getpid():
            engine.register_trigger(trigger)

    def _trigger_unregistered(self, name: str) -> None:
        """Unregister a trigger from the open engine."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        if engine is not None and not self.is_closed and self._process == os.getpid():
            engine.unregister_trigger(name)

    @property
    def can_execute(self) -> bool:
        """Whether the caller may use ``execute``. An attempt must not: its waits have to be reported to the engine."""
        return _running.attempt() is None

    def execute(
        self, workflow_name: str, context: Context, execution_id: str | None, retry_failed: bool
    ) -> WorkflowResult:
        """Start an execution and wait for its end, with a single blocking call to the engine."""
        if _running.is_main_thread():
            raw = self.engine.execute(workflow_name, context, execution_id, retry_failed, True)
        else:
            ticket = _cloaca.wait_ticket()
            with _running.waiting(ticket):
                raw = self.engine.execute(workflow_name, context, execution_id, retry_failed, False, ticket)
        _logging.flush()
        return self._result(raw)

    def wait(self, execution_id: str, timeout: float | None) -> WorkflowResult:
        """Wait for the end of an execution."""
        on_main_thread = _running.is_main_thread()
        if timeout is None and not on_main_thread:
            wait = self.engine.begin_wait(execution_id, _running.attempt())
            with _running.waiting(wait.ticket):
                raw = wait.end()
        else:
            raw = self.engine.wait(execution_id, timeout, on_main_thread)
        _logging.flush()
        return self._result(raw)

    async def wait_async(self, execution_id: str) -> WorkflowResult:
        """Await the end of an execution."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def set_ended() -> None:
            if not ended.done():
                ended.set_result(None)

        def notify() -> None:
            # If the loop is closed by now, no coroutine waits.
            if not loop.is_closed():
                loop.call_soon_threadsafe(set_ended)

        wait = self.engine.watch(execution_id, _running.attempt(), notify)
        try:
            with _running.waiting(wait.ticket, ended):
                awaited = self.engine.notify(execution_id, notify)
                await ended
        finally:
            wait.close()
        wait.check()
        raw = awaited.outcome()
        if raw is None:
            return self.wait(execution_id, 0.0)
        _logging.flush()
        return self._result(raw)

    def report_activity(self) -> None:
        """Report to the engine which attempts wait for threads that wait for executions."""
        try:
            if self._observer is None:
                from ._activity import Observer

                self._observer = Observer()
            self._native.report_activity(self._observer.observe())
        except Exception as error:
            _logging.failure("could not determine what the tasks wait for; executions are not affected", error)

    def _result(self, raw: _cloaca.RawOutcome) -> WorkflowResult:
        failed = raw["failed"]
        cause = None if failed is None else self._threads.errors.find(raw["execution_id"], *failed)
        return WorkflowResult(raw, cause, self.history_source)

    def shutdown(self, grace: float) -> None:
        """Close the log after waiting up to ``grace`` seconds for running attempts. Idempotent."""
        if self._is_ended:
            return
        self.is_closed = True
        if self._process != os.getpid():
            # In a fork, the threads and the log belong to the parent.
            return
        # Each step is idempotent, because a second thread or a signal handler may run the same steps concurrently.
        workflows.unsubscribe(self)
        triggers.unsubscribe(self)
        try:
            self._native.shutdown(grace)
        finally:
            self._threads.close()
            _logging.flush()
            _hosts.discard(self)
        self._is_ended = True

    def __del__(self) -> None:
        # `_threads` is missing if opening failed.
        if getattr(self, "_threads", None) is not None and not self._is_ended:
            self.shutdown(0.0)


def _report_activity(reference: weakref.ref[Host]) -> None:
    # The engine holds this callback, so a strong reference would keep the host alive.
    if (host := reference()) is not None:
        host.report_activity()


_hosts: weakref.WeakSet[Host] = weakref.WeakSet()


def shut_down_all() -> None:
    """Shut down every runner. Called at interpreter exit."""
    grace, done = _GRACE_AT_EXIT, set[int]()
    # Repeated, because another thread may open a runner in the meantime.
    while hosts := [host for host in list(_hosts) if id(host) not in done]:
        for host in hosts:
            done.add(id(host))
            try:
                host.shutdown(grace)
            except Exception as error:
                _logging.failure(
                    "a runner failed to shut down cleanly; its unfinished executions resume when its log is opened",
                    error,
                )
            except BaseException:
                # Ctrl-C: the runner is shut down; do not wait for the attempts of the others.
                grace = 0.0


def start_threads(start: Callable[[], Started]) -> Started:
    """Call a function that starts a thread.

    Raises:
        Error: No thread could be started.
    """
    try:
        return start()
    except RuntimeError as error:
        if "shutdown" in str(error):
            # Since Python 3.12, no thread can be started once the main thread has ended.
            hint = "open the runner before the interpreter exits"
        else:
            import resource

            limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
            limited = "" if limit == resource.RLIM_INFINITY else f" (`ulimit -u` is {limit})"
            hint = f"raise the limit on threads{limited}"
        raise OperationError(f"the runner could not start a thread: {error}; {hint}") from error


async def in_thread(function: Callable[[], Started]) -> Started:
    """Call a function that blocks for a moment, on another thread or, if the interpreter exits, on this one."""
    try:
        future = asyncio.get_running_loop().run_in_executor(None, function)
    except RuntimeError:
        # No thread can be started any more.
        return function()
    return await future


def _millis(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000
