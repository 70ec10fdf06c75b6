"""Runners: what executes workflows."""

from __future__ import annotations

import asyncio
import os
import platform
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from . import _cloaca, _interpreter, _isolation, _logging, _running, _url
from ._cloaca import Context, Inbox, NativeEngine, NativeScheduling, NativeWorkflow, TriggerSpec, VirtualClock
from ._past import Past
from ._threads import Threads
from ._trigger import triggers
from .config import DefaultRunnerConfig
from .errors import (
    ConfigurationError,
    ExecutionNotFoundError,
    OperationError,
    WaitTimeoutError,
    WorkerImportError,
    WorkflowInputError,
)
from .execution import HELD, Execution, ExecutionInfo, check_timeout
from .result import WorkflowResult, rfc3339
from .scheduling import Scheduling
from .workflow import workflows

if TYPE_CHECKING:
    from ._activity import Observer
    from .literals import ExecutionStatus

__all__ = ["DefaultRunner"]

# What a running attempt gets on shutdown() before it is left to the recovery, in seconds.
_GRACE = 5.0
# The same at the end of the interpreter.
_GRACE_AT_EXIT = 0.5

Runner = TypeVar("Runner", bound="DefaultRunner")
Started = TypeVar("Started")
Input: TypeAlias = Context | Mapping[str, Any] | None


class DefaultRunner(Scheduling):
    """Executes workflows, and keeps what happens in an event log.

    It opens the log, takes over what another process left unfinished there, and holds it until
    [`shutdown`][cloaca.DefaultRunner.shutdown]. One process at a time can have a log. All methods can be called from
    many threads.

    Args:
        database_url: ``"cloaca:///path"``, a plain path, or ``"sqlite:///path"`` (the event log in a directory of that
            name). Three slashes are relative to the working directory, four absolute; where three probably mean an
            absolute path, a warning names both. ``":memory:"`` keeps the log in memory. Options after ``?`` are ignored
            with a warning. An empty file at that path is replaced by the log's directory, with a warning.
        config: How it runs.

    Raises:
        ConfigurationError: The URL is none of these, or the path is something else than a log.
        LogLockedError: Another process has the log.
        LogCorruptedError: The log is not what was written.
        LogVersionError: A newer version wrote it.
        Error: gevent or eventlet has replaced Python's threads by its own.

    Example:
        >>> import cloaca
        >>> with cloaca.WorkflowBuilder("etl"):
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = [context["day"]]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     result = runner.execute("etl", {"day": "2026-01-31"})
        >>> result.status, result.final_context["rows"]
        ('Completed', ['2026-01-31'])
    """

    # Whether a test can have its engine die.
    _crashable = False

    def __init__(
        self,
        database_url: str,
        config: DefaultRunnerConfig | None = None,
        *,
        _clock: VirtualClock | None = None,
    ) -> None:
        if _cloaca.is_exiting():
            raise OperationError(
                "the interpreter is ending: no runner can be opened any more. Open it earlier, or in an atexit handler "
                "that is registered after `import cloaca`"
            )
        if config is not None and not isinstance(config, DefaultRunnerConfig):
            raise TypeError(f"config must be a DefaultRunnerConfig, not {type(config).__name__}")
        if _isolation.importing_for is not None:
            raise WorkerImportError(
                f"a worker process imports this program to find task '{_isolation.importing_for}', and came to a line "
                f'that opens a runner; put what the program does below: if __name__ == "__main__":',
                task_id=_isolation.importing_for,
            )
        location = _url.parse(database_url)
        config = DefaultRunnerConfig() if config is None else config.copy()
        _interpreter.check_threads()
        _start_threads(_logging.start)
        _logging.refresh_level()
        location.announce()
        location.make_room()
        self._config = config
        self._location = location
        self._clock = _clock
        self._past = Past(location.path, self)
        self._process = os.getpid()
        self._begin()

    def _begin(self) -> None:
        # Plain flags: a signal handler or a finalizer may shut the runner down while this thread does.
        self._closed = self._is_ended = False
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
        self._native_scheduling = NativeScheduling(self._engine)
        try:
            self._threads = _start_threads(lambda: Threads(self._inbox))
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
                self._engine.register(workflow)
        for trigger in triggers.subscribe(self):
            if trigger not in polled:
                self._engine.register_trigger(trigger)
        _runners.add(self)

    @property
    def _engine(self) -> NativeEngine:
        """The engine; an error in a fork, which has its memory, but none of its threads: nobody would answer."""
        self._refuse_fork()
        return self._native

    @property
    def _scheduling(self) -> NativeScheduling:
        self._refuse_fork()
        return self._native_scheduling

    def _refuse_fork(self) -> None:
        if self._process != os.getpid():
            raise OperationError(
                f"this runner belongs to process {self._process}, and its threads are not in this fork of it; fork "
                f"before the runner is opened, or start the process anew (multiprocessing's start method 'spawn')"
            )

    def _open(self, registered: list[NativeWorkflow], polled: list[TriggerSpec]) -> NativeEngine:
        config = self._config
        timeout = config.workflow_timeout_seconds
        return NativeEngine(
            self._location.path,
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
            clock=self._clock,
            crashable=self._crashable,
        )

    @classmethod
    def with_config(cls, database_url: str, config: DefaultRunnerConfig) -> DefaultRunner:
        """A runner with a config: the same as ``DefaultRunner(database_url, config)``.

        Example:
            >>> config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
            >>> with cloaca.DefaultRunner.with_config(":memory:", config) as runner:
            ...     runner.config.max_concurrent_tasks
            1
        """
        return cls(database_url, config)

    @classmethod
    def with_schema(cls, database_url: str, schema: str) -> DefaultRunner:
        """A runner for a schema of a shared log. The embedded log has none: a schema is a directory beside the others.

        Options after ``?`` are ignored with a warning.

        Raises:
            ConfigurationError: The schema's name is not ASCII letters, digits and ``_``, or the URL is PostgreSQL's.
                (A ``ValueError``.)

        Example:
            >>> import pathlib
            >>> with cloaca.DefaultRunner.with_schema("orders", "acme") as runner:
            ...     [path.name for path in pathlib.Path().iterdir() if path.name.startswith("orders")]
            ['orders.acme']
            >>> cloaca.DefaultRunner.with_schema("orders", "acme/../beta")
            Traceback (most recent call last):
            cloaca.errors.ConfigurationError: Schema name must contain only alphanumeric characters and underscores, not 'acme/../beta'
        """  # noqa: E501 - the message is one line
        if schema == "":
            raise ConfigurationError("Schema name cannot be empty")
        if not isinstance(schema, str) or not schema.replace("_", "a").isalnum() or not schema.isascii():
            raise ConfigurationError(
                f"Schema name must contain only alphanumeric characters and underscores, not {schema!r}"
            )
        try:
            location = _url.parse(database_url)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"Failed to create DefaultRunner with schema '{schema}': Failed to set up schema '{schema}': {error}"
            ) from None
        location.announce()
        return cls(":memory:" if location.path is None else f"{location.path}.{schema}")

    @property
    def config(self) -> DefaultRunnerConfig:
        """How it runs (a copy: changing it changes no runner).

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.config.task_timeout_seconds
            300
        """
        return self._config.copy()

    @property
    def is_shut_down(self) -> bool:
        """Whether it was shut down.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.is_shut_down
            False
            >>> runner.is_shut_down
            True
        """
        return self._closed

    @property
    def recovered(self) -> list[Execution]:
        """The executions that were unfinished when the log was opened, oldest first: this runner has taken them over.

        Example:
            >>> from cloaca.testing import Runner
            >>> with Runner("recovered.log") as runner:
            ...     with runner.crash_after(1):
            ...         result = runner.execute("etl", {"day": "2026-01-31"})
            ...     [execution] = runner.recovered
            ...     execution.result().status
            'Completed'
        """
        return [Execution(self, execution_id) for execution_id in self._engine.recovered()]

    def _workflow_registered(self, workflow: NativeWorkflow) -> None:
        """Hears of a workflow that is registered while the runner lives."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        # In a fork, a runner of the parent's has no use for it.
        if engine is not None and not self._closed and self._process == os.getpid():
            engine.register(workflow)

    def _trigger_registered(self, trigger: TriggerSpec) -> None:
        """Hears of a trigger that is decorated while the runner lives."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        if engine is not None and not self._closed and self._process == os.getpid():
            engine.register_trigger(trigger)

    def _trigger_unregistered(self, name: str) -> None:
        """Hears of a trigger that is forgotten while the runner lives."""
        engine: NativeEngine | None = getattr(self, "_native", None)
        if engine is not None and not self._closed and self._process == os.getpid():
            engine.unregister_trigger(name)

    def execute(
        self,
        workflow_name: str,
        context: Input = None,
        *,
        execution_id: str | None = None,
        timeout: float | None = None,
        progress: bool = False,
    ) -> WorkflowResult:
        """Executes a workflow and waits for its end.

        Ctrl-C leaves the wait at once, and the execution running.

        Args:
            workflow_name: A registered workflow.
            context: The input; a dict is taken as a context.
            execution_id: A UUID. If the log has an execution of this workflow with that id, it is attached to: a
                crashed script that is run again finishes the crashed run.
            timeout: How many seconds to wait at most; ``None``: for ever.
            progress: Show a progress bar on the terminal, with rich if that is installed. Where standard output is no
                terminal, nothing is shown.

        Raises:
            WorkflowNotFoundError: No such workflow; the message has the nearest name.
            WorkflowInputError: The input is not what the workflow declares with
                [`workflow_params`][cloaca.workflow_params].
            WaitTimeoutError: It was still running after ``timeout``. It goes on.
            Error: The execution with that id is blocked, or one of another workflow.
            TypeError, ValueError: The input is not a context, or not JSON.

        Example:
            >>> import uuid
            >>> today = str(uuid.uuid5(uuid.NAMESPACE_URL, "etl of 2026-01-31"))
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     result = runner.execute("etl", {"day": "2026-01-31"}, execution_id=today)
            ...     again = runner.execute("etl", {"day": "2026-01-31"}, execution_id=today)  # runs nothing twice
            >>> result.status, again.end_time == result.end_time
            ('Completed', True)
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.execute("elt")
            Traceback (most recent call last):
            cloaca.errors.WorkflowNotFoundError: workflow 'elt' is not registered; did you mean 'etl'?
        """
        check_timeout(timeout)
        started = self._start(workflow_name, context, execution_id)
        if progress:
            from . import _progress

            if _progress.is_wanted():
                with _progress.following(self._engine, started):
                    return self._wait(started, timeout)
        return self._wait(started, timeout)

    def submit(self, workflow_name: str, context: Input = None, *, execution_id: str | None = None) -> Execution:
        """Starts a workflow, and returns as soon as that is durable. As [`execute`][cloaca.DefaultRunner.execute],
        without the wait.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     executions = [runner.submit("etl", {"day": f"2026-01-{day}"}) for day in (29, 30, 31)]
            ...     [execution.result().final_context["rows"] for execution in executions]
            [['2026-01-29'], ['2026-01-30'], ['2026-01-31']]
        """
        return Execution(self, self._start(workflow_name, context, execution_id))

    async def execute_async(
        self,
        workflow_name: str,
        context: Input = None,
        *,
        execution_id: str | None = None,
        timeout: float | None = None,
    ) -> WorkflowResult:
        """As [`execute`][cloaca.DefaultRunner.execute], from a coroutine. One that is cancelled leaves the wait, and
        the execution running.

        Example:
            >>> import asyncio
            >>> async def both(runner):
            ...     days = ("2026-01-30", "2026-01-31")
            ...     return await asyncio.gather(*(runner.execute_async("etl", {"day": day}) for day in days))
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     [result.final_context["rows"] for result in asyncio.run(both(runner))]
            [['2026-01-30'], ['2026-01-31']]
        """
        check_timeout(timeout)
        loop = asyncio.get_running_loop()
        started = await loop.run_in_executor(None, self._start, workflow_name, context, execution_id)
        if timeout is None:
            return await self._wait_async(started)
        try:
            return await asyncio.wait_for(self._wait_async(started), timeout)
        except asyncio.TimeoutError:
            message = f"execution {started} was still running after {timeout:g} s; it goes on"
            raise WaitTimeoutError(message, execution_id=started) from None

    def get_execution(self, execution_id: str) -> Execution:
        """An execution of this log, by its id.

        Raises:
            ExecutionNotFoundError: There is none. (A ``LookupError``.)
            ValueError: That is not an id.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution_id = runner.submit("etl", {"day": "2026-01-31"}).id  # to be kept somewhere
            ...     runner.get_execution(execution_id).result().status
            'Completed'
        """
        return Execution(self, self._engine.outcome(execution_id)["execution_id"])

    def list_executions(
        self,
        status: ExecutionStatus | Literal["Pending"] | None = None,
        workflow: str | None = None,
        limit: int = 100,
        before: str | Execution | None = None,
    ) -> list[ExecutionInfo]:
        """The executions of this log, newest first.

        Args:
            status: Only those that stand so (see [`Execution.status`][cloaca.Execution.status]). ``Pending`` is
                every one that is blocked or damaged.
            workflow: Only those of this workflow.
            limit: At most so many.
            before: Only those older than this one: for the next page, the last of this page.

        Raises:
            ValueError: The status is none, or ``limit`` is negative.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     for day in ("2026-01-30", "2026-01-31"):
            ...         _ = runner.execute("etl", {"day": day})
            ...     [newest] = runner.list_executions(limit=1)
            ...     [older] = runner.list_executions(limit=1, before=newest.id)
            ...     newest.start_time > older.start_time, runner.list_executions("Failed")
            (True, [])
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise ValueError(f"limit must be an int from 0 on, not {limit!r}")
        if isinstance(before, (Execution, ExecutionInfo)):
            before = before.id
        statuses = HELD if isinstance(status, str) and status.lower() == "pending" else (status,)
        found = [raw for one in statuses for raw in self._engine.executions(one, workflow, limit, before)]
        if len(statuses) > 1:
            found.sort(key=lambda raw: (raw["started"], raw["execution_id"]), reverse=True)
        return [
            ExecutionInfo(
                id=raw["execution_id"],
                workflow_name=raw["workflow_name"],
                status=raw["status"],
                start_time=rfc3339(raw["started"]),
                end_time=None if raw["ended"] is None else rfc3339(raw["ended"]),
                events=raw["events"],
                reason=raw["reason"],
                until=None if raw["until"] is None else rfc3339(raw["until"]),
                next_step=raw["next_step"],
            )
            for raw in found[:limit]
        ]

    def resume(self, execution_id: str) -> Execution:
        """Resumes a blocked execution on purpose, with the workflow that is registered now. (What is paused:
        [`Execution.resume`][cloaca.Execution.resume].) An unfinished execution is blocked when its log is opened
        by a program whose workflow of that name has another graph, or by a runner without ``enable_recovery``.
        A warning in the log of that runner says so, and ``list_executions`` says why and what to do.

        Raises:
            ExecutionNotFoundError: There is no such execution.
            Error: It is not blocked.

        Example:
            >>> with cloaca.WorkflowBuilder("upload"):
            ...     @cloaca.task
            ...     def send(context, handle):
            ...         handle.defer_until(lambda: False)
            >>> with cloaca.DefaultRunner("blocked.log") as runner:
            ...     unfinished = runner.submit("upload").id
            >>> with cloaca.WorkflowBuilder("upload"):  # the next version of the program
            ...     @cloaca.task
            ...     def send(context): ...
            ...     @cloaca.task(dependencies=[send])
            ...     def tell(context): ...
            >>> with cloaca.DefaultRunner("blocked.log") as runner:
            ...     [info] = runner.list_executions("Blocked")
            ...     print(info.blocked)
            ...     runner.resume(unfinished).result().status
            workflow 'upload' has another graph now: task 'tell' is new
            'Completed'
        """
        self._engine.resume(execution_id)
        return Execution(self, execution_id)

    def shutdown(self) -> None:
        """Takes nothing new, gives running attempts 5 seconds, leaves the rest to the recovery, and closes the log.
        Idempotent, also from another thread or a signal handler while it is at it: it returns when the log is closed.
        Ctrl-C (or a signal handler that raises) ends the 5 seconds: the log is closed in order, and then the exception
        raised. Called automatically at the end of a ``with`` block, and at the end of the program, where running
        attempts get half a second.

        Example:
            >>> runner = cloaca.DefaultRunner(":memory:")
            >>> runner.shutdown()
            >>> runner
            DefaultRunner(':memory:', durability='sync', shut down)
            >>> runner.shutdown()
        """
        self._shutdown(_GRACE)

    def _shutdown(self, grace: float) -> None:
        if self._is_ended:
            return
        self._closed = True
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
            _runners.discard(self)
        self._is_ended = True

    def _start(self, workflow_name: str, context: Input, execution_id: str | None) -> str:
        if not isinstance(workflow_name, str):
            raise TypeError(f"a workflow is executed by its name, a str, not {type(workflow_name).__name__}")
        if not isinstance(context, Context):
            context = Context(context)
        context = self._checked(workflow_name, context, execution_id)
        _logging.refresh_level()
        return self._engine.start(workflow_name, context, execution_id)

    def _checked(self, workflow_name: str, context: Context, execution_id: str | None) -> Context:
        """The input with the defaults that its workflow declares."""
        workflow = workflows.find(workflow_name)
        if workflow is None:
            return context
        try:
            return workflow._inputs.complete(workflow_name, context)
        except WorkflowInputError:
            # To attach to an execution, nobody needs its input.
            if execution_id is not None and self._has(execution_id):
                return context
            raise

    def _has(self, execution_id: str) -> bool:
        try:
            self._engine.outcome(execution_id)
        except ExecutionNotFoundError:
            return False
        return True

    def _wait(self, execution_id: str, timeout: float | None) -> WorkflowResult:
        on_main_thread = _running.is_main_thread()
        if timeout is None and not on_main_thread:
            wait = self._engine.begin_wait(execution_id, _running.attempt())
            with _running.waits(wait.ticket):
                raw = wait.end()
        else:
            raw = self._engine.wait(execution_id, timeout, on_main_thread)
        _logging.flush()
        return self._result(raw)

    async def _wait_async(self, execution_id: str) -> WorkflowResult:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def wake() -> None:
            if not ended.done():
                ended.set_result(None)

        def done() -> None:
            # The loop may be closed by now; then nobody waits.
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake)

        wait = self._engine.watch(execution_id, _running.attempt(), done)
        try:
            with _running.waits(wait.ticket, ended):
                self._engine.notify(execution_id, done)
                await ended
        finally:
            wait.close()
        wait.check()
        return self._wait(execution_id, 0.0)

    def _report_activity(self) -> None:
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
        return WorkflowResult(raw, cause, self._past)

    def __del__(self) -> None:
        # Opening may have failed; and after the end of the interpreter's work, nothing is left to do.
        if getattr(self, "_threads", None) is not None and not self._is_ended:
            self._shutdown(0.0)

    def __enter__(self: Runner) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.shutdown()
            return
        # What went wrong in the block is what the program has to hear of.
        try:
            self.shutdown()
        except Exception as problem:
            _logging.failure("the runner could not be shut down in order after an error", problem)

    def __repr__(self) -> str:
        where = ":memory:" if self._location.path is None else self._location.path
        state = ", shut down" if self._closed else ""
        return f"DefaultRunner({where!r}, durability={self._config.durability!r}{state})"


def _look(runner: weakref.ref[DefaultRunner]) -> None:
    # The engine keeps this, and must not keep the runner.
    if (found := runner()) is not None:
        found._report_activity()


_runners: weakref.WeakSet[DefaultRunner] = weakref.WeakSet()


def shut_down_all() -> None:
    """At the end of the interpreter: shuts every runner down."""
    grace, done = _GRACE_AT_EXIT, set[int]()
    # Another thread may open one meanwhile.
    while runners := [runner for runner in list(_runners) if id(runner) not in done]:
        for runner in runners:
            done.add(id(runner))
            try:
                runner._shutdown(grace)
            except Exception as error:
                _logging.failure(
                    "a runner could not be shut down in order; what it left is recovered when its log is opened", error
                )
            except BaseException:
                # Ctrl-C: the runner is shut down, and the next ones get no time.
                grace = 0.0


def _start_threads(start: Callable[[], Started]) -> Started:
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
