"""What stands behind a runner, its executions and its results: the engine, the threads, and the log that it holds."""

from __future__ import annotations

import asyncio
import os
import platform
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from . import _cloaca, _logging, _running
from ._cloaca import Context, Inbox, NativeEngine, NativeScheduling, NativeWorkflow, TriggerSpec, VirtualClock
from ._past import Past
from ._threads import Threads
from ._trigger import triggers
from ._url import Location
from .config import DefaultRunnerConfig
from .errors import OperationError
from .result import WorkflowResult
from .workflow import workflows

if TYPE_CHECKING:
    from ._activity import Observer

# What a running attempt gets at the end of the interpreter before it is left to the recovery, in seconds.
_GRACE_AT_EXIT = 0.5

Started = TypeVar("Started")


class Host:
    """An engine on a log. It is shut down when nobody has it any more: no runner, and no execution of one."""

    def __init__(
        self, location: Location, config: DefaultRunnerConfig, clock: VirtualClock | None, crashable: bool
    ) -> None:
        self.location = location
        self.config = config
        self.clock = clock
        # Whether a test can have its engine die.
        self._crashable = crashable
        self.past = Past(location.path, self)
        self._process = os.getpid()
        self.begin()

    def begin(self) -> None:
        """Opens the log, and takes over what is unfinished there."""
        # Plain flags: a signal handler or a finalizer may shut it down while this thread does.
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
        self._native.on_stall(partial(_look, weakref.ref(self)))
        # While it opened, something may have been registered.
        for workflow in workflows.subscribe(self):
            if workflow not in registered:
                self.engine.register(workflow)
        for trigger in triggers.subscribe(self):
            if trigger not in polled:
                self.engine.register_trigger(trigger)
        _hosts.add(self)

    @property
    def engine(self) -> NativeEngine:
        """The engine; an error in a fork, which has its memory, but none of its threads: nobody would answer."""
        self._refuse_fork()
        return self._native

    @property
    def scheduling(self) -> NativeScheduling:
        """Its schedules and triggers; an error in a fork."""
        self._refuse_fork()
        return self._native_scheduling

    def _refuse_fork(self) -> None:
        if self._process != os.getpid():
            raise OperationError(
                f"this runner belongs to process {self._process}, and its threads are not in this fork of it; fork "
                f"before the runner is opened, or start the process anew (multiprocessing's start method 'spawn')"
            )

    def _open(self, registered: list[NativeWorkflow], polled: list[TriggerSpec]) -> NativeEngine:
        config = self.config
        timeout = config.workflow_timeout_seconds
        return NativeEngine(
            self.location.path,
            self._inbox,
            registered,
            durability=config.durability,
            max_concurrent_tasks=config.max_concurrent_tasks,
            task_timeout_ms=config.task_timeout_seconds * 1000,
            workflow_timeout_ms=None if timeout is None else timeout * 1000,
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
        """Hears of a workflow that is registered while the runner lives."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        # In a fork, a runner of the parent's has no use for it.
        if engine is not None and not self.is_closed and self._process == os.getpid():
            engine.register(workflow)

    def _trigger_registered(self, trigger: TriggerSpec) -> None:
        """Hears of a trigger that is decorated while the runner lives."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        if engine is not None and not self.is_closed and self._process == os.getpid():
            engine.register_trigger(trigger)

    def _trigger_unregistered(self, name: str) -> None:
        """Hears of a trigger that is forgotten while the runner lives."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        if engine is not None and not self.is_closed and self._process == os.getpid():
            engine.unregister_trigger(name)

    @property
    def can_execute(self) -> bool:
        """Whether the caller can call ``execute``: an attempt says first that it waits."""
        return _running.attempt() is None

    def execute(self, workflow_name: str, context: Context, execution_id: str | None) -> WorkflowResult:
        """Starts an execution and waits for its end, on a thread that sleeps only once for that."""
        if _running.is_main_thread():
            raw = self.engine.execute(workflow_name, context, execution_id, True)
        else:
            ticket = _cloaca.wait_ticket()
            with _running.waits(ticket):
                raw = self.engine.execute(workflow_name, context, execution_id, False, ticket)
        _logging.flush()
        return self._result(raw)

    def wait(self, execution_id: str, timeout: float | None) -> WorkflowResult:
        """Waits for the end of an execution."""
        on_main_thread = _running.is_main_thread()
        if timeout is None and not on_main_thread:
            wait = self.engine.begin_wait(execution_id, _running.attempt())
            with _running.waits(wait.ticket):
                raw = wait.end()
        else:
            raw = self.engine.wait(execution_id, timeout, on_main_thread)
        _logging.flush()
        return self._result(raw)

    async def wait_async(self, execution_id: str) -> WorkflowResult:
        """Waits for the end of an execution, in a coroutine."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def wake() -> None:
            if not ended.done():
                ended.set_result(None)

        def done() -> None:
            # The loop may be closed by now; then nobody waits.
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake)

        wait = self.engine.watch(execution_id, _running.attempt(), done)
        try:
            with _running.waits(wait.ticket, ended):
                awaited = self.engine.notify(execution_id, done)
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
        """Tells the engine which attempts wait for threads that wait for executions."""
        try:
            if self._observer is None:
                from ._activity import Observer

                self._observer = Observer()
            self._native.report_activity(self._observer.look())
        except Exception as error:
            _logging.failure("what the tasks wait for could not be seen; that changes nothing", error)

    def _result(self, raw: _cloaca.RawOutcome) -> WorkflowResult:
        failed = raw["failed"]
        cause = None if failed is None else self._threads.errors.find(raw["execution_id"], *failed)
        return WorkflowResult(raw, cause, self.past)

    def shutdown(self, grace: float) -> None:
        """Closes the log, after so many seconds for the attempts that run. Idempotent."""
        if self._is_ended:
            return
        self.is_closed = True
        if self._process != os.getpid():
            # In a fork: the threads are the parent's, and so is the log.
            return
        # Each step is idempotent: a second thread, or a signal handler during a shutdown, runs the same steps.
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
        # Opening may have failed; and after the end of the interpreter's work, nothing is left to do.
        if getattr(self, "_threads", None) is not None and not self._is_ended:
            self.shutdown(0.0)


def _look(host: weakref.ref[Host]) -> None:
    # The engine keeps this, and must not keep the host.
    if (found := host()) is not None:
        found.report_activity()


_hosts: weakref.WeakSet[Host] = weakref.WeakSet()


def shut_down_all() -> None:
    """At the end of the interpreter: shuts every runner down."""
    grace, done = _GRACE_AT_EXIT, set[int]()
    # Another thread may open one meanwhile.
    while hosts := [host for host in list(_hosts) if id(host) not in done]:
        for host in hosts:
            done.add(id(host))
            try:
                host.shutdown(grace)
            except Exception as error:
                _logging.failure(
                    "a runner could not be shut down in order; what it left is recovered when its log is opened", error
                )
            except BaseException:
                # Ctrl-C: the runner is shut down, and the next ones get no time.
                grace = 0.0


def start_threads(start: Callable[[], Started]) -> Started:
    """Starts what needs a thread.

    Raises:
        Error: There is none to be had.
    """
    try:
        return start()
    except RuntimeError as error:
        if "shutdown" in str(error):
            # Python 3.12 and newer start none from the end of the main thread on.
            what = "open the runner before the interpreter ends"
        else:
            import resource

            limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
            limited = "" if limit == resource.RLIM_INFINITY else f" (`ulimit -u` is {limit} for all of this user's)"
            what = f"raise the limit of threads{limited}"
        raise OperationError(f"a runner needs threads of its own, and could not start one: {error}; {what}") from error
