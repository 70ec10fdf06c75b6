"""The runner, which executes workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from . import _cloaca, _interpreter, _isolation, _logging, _url
from ._cloaca import Context, NativeEngine, VirtualClock
from ._host import Host, in_thread, start_threads
from ._schedules import Schedules
from ._times import optional_rfc3339, rfc3339
from .config import DefaultRunnerConfig
from .errors import (
    ConfigurationError,
    Error,
    ExecutionNotFoundError,
    OperationError,
    WaitTimeoutError,
    WorkerImportError,
    WorkflowInputError,
)
from .execution import HELD, Execution, ExecutionInfo, check_timeout
from .result import WorkflowResult
from .scheduling import Scheduling
from .workflow import workflows

if TYPE_CHECKING:
    from .literals import ExecutionStatus

__all__ = ["DefaultRunner"]

# How long shutdown() waits for running attempts, in seconds. Recovery resumes those that have not ended by then.
_GRACE = 5.0

Runner = TypeVar("Runner", bound="DefaultRunner")
Input: TypeAlias = Context | Mapping[str, Any] | None


class DefaultRunner(Scheduling):
    """Executes workflows and records every step in an event log.

    A runner opens the log, resumes the executions that an earlier process left unfinished, and holds the log until
    [`shutdown`][cloaca.DefaultRunner.shutdown]. Only one process at a time can hold a log. All methods are
    thread-safe.

    Args:
        database_url: ``"cloaca:///path"``, a plain path, or ``"sqlite:///path"`` (the event log in a directory of that
            name). Three slashes are relative to the working directory, four absolute; where three probably mean an
            absolute path, a warning names both. ``":memory:"`` keeps the log in memory. Options after ``?`` are ignored
            with a warning. An empty file at that path is replaced by the log's directory, with a warning.
        config: The configuration; by default that of ``DefaultRunnerConfig()``.

    Raises:
        ConfigurationError: The URL has none of these forms, or the path exists and is not a log.
        LogLockedError: Another process holds the log.
        LogCorruptedError: The log is damaged.
        LogVersionError: A newer version of cloaca wrote the log.
        Error: gevent or eventlet has patched Python's threads.

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

    # Whether tests can make the engine crash.
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
                "cannot open a runner: the interpreter is ending; open it earlier, or in an atexit handler that is "
                "registered after `import cloaca`"
            )
        if config is not None and not isinstance(config, DefaultRunnerConfig):
            raise TypeError(f"config must be a DefaultRunnerConfig, not {type(config).__name__}")
        if _isolation.importing_for is not None:
            raise WorkerImportError(
                f"a worker process imported this program to find task '{_isolation.importing_for}', and the import "
                f'opens a runner; move that code below: if __name__ == "__main__":',
                task_id=_isolation.importing_for,
            )
        location = _url.parse(database_url)
        config = DefaultRunnerConfig() if config is None else config.copy()
        _interpreter.check_threads()
        start_threads(_logging.start)
        _logging.refresh_level()
        location.announce()
        location.remove_empty_file()
        self._host = Host(location, config, _clock, self._crashable)
        super().__init__(Schedules(self._host))

    @property
    def _engine(self) -> NativeEngine:
        return self._host.engine

    @classmethod
    def with_config(cls, database_url: str, config: DefaultRunnerConfig) -> DefaultRunner:
        """Create a runner with a configuration: the same as ``DefaultRunner(database_url, config)``.

        Example:
            >>> config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
            >>> with cloaca.DefaultRunner.with_config(":memory:", config) as runner:
            ...     runner.config.max_concurrent_tasks
            1
        """
        return cls(database_url, config)

    @classmethod
    def with_schema(cls, database_url: str, schema: str) -> DefaultRunner:
        """Create a runner for a schema, such as a tenant: each schema has a log of its own in a directory of its own.

        The directory is named after the path and the schema. Options after ``?`` are ignored with a warning.

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
        """A copy of the runner's configuration. Changing the copy does not affect the runner.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.config.task_timeout_seconds
            300
        """
        return self._host.config.copy()

    @property
    def is_shut_down(self) -> bool:
        """Whether the runner was shut down.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.is_shut_down
            False
            >>> runner.is_shut_down
            True
        """
        return self._host.is_closed

    @property
    def recovered(self) -> list[Execution]:
        """The executions that were unfinished when the log was opened and that this runner has resumed, oldest first.

        Example:
            >>> from cloaca.testing import Runner
            >>> with Runner("recovered.log") as runner:
            ...     with runner.crash_after(1):
            ...         result = runner.execute("etl", {"day": "2026-01-31"})
            ...     [execution] = runner.recovered
            ...     execution.result().status
            'Completed'
        """
        return [Execution(self._host, execution_id) for execution_id in self._engine.recovered()]

    def execute(
        self,
        workflow_name: str,
        context: Input = None,
        *,
        execution_id: str | None = None,
        retry_failed: bool = False,
        timeout: float | None = None,
        progress: bool = False,
    ) -> WorkflowResult:
        """Execute a workflow and wait for the result.

        Ctrl-C ends the wait immediately; the execution continues.

        Args:
            workflow_name: The name of a registered workflow.
            context: The input: a context, or a dict of JSON values.
            execution_id: A UUID for the execution. If the log already has an execution of this workflow with this id,
                the call attaches to it instead of starting another: rerunning a crashed script finishes the crashed
                run.
            retry_failed: Whether to [`retry`][cloaca.DefaultRunner.retry] the execution with this id if it has failed,
                instead of attaching to the failure. One that was cancelled stays cancelled.
            timeout: The maximum wait in seconds; ``None`` waits without a limit.
            progress: Whether to show a progress bar, using rich if it is installed. Nothing is shown if standard
                output is not a terminal.

        Raises:
            WorkflowNotFoundError: The workflow is not registered; the message suggests the nearest name.
            WorkflowInputError: The input does not match what the workflow declares with
                [`workflow_params`][cloaca.workflow_params].
            WaitTimeoutError: The execution was still running after ``timeout`` seconds. It continues.
            Error: The execution with this id is blocked, or belongs to another workflow.
            TypeError, ValueError: The input is not a context, or not JSON; or ``retry_failed`` is set without an id.

        Example:
            >>> import uuid
            >>> today = str(uuid.uuid5(uuid.NAMESPACE_URL, "etl of 2026-01-31"))
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     result = runner.execute("etl", {"day": "2026-01-31"}, execution_id=today)
            ...     again = runner.execute("etl", {"day": "2026-01-31"}, execution_id=today)  # attaches, runs nothing
            >>> result.status, again.end_time == result.end_time
            ('Completed', True)
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.execute("elt")
            Traceback (most recent call last):
            cloaca.errors.WorkflowNotFoundError: workflow 'elt' is not registered; did you mean 'etl'?
        """
        check_timeout(timeout)
        _check_retry_failed(retry_failed, execution_id)
        if timeout is None and not progress and self._host.can_execute:
            context = self._input(workflow_name, context, execution_id)
            return self._host.execute(workflow_name, context, execution_id, retry_failed)
        started = self._start(workflow_name, context, execution_id, retry_failed)
        if progress:
            from . import _progress

            if _progress.is_supported():
                with _progress.following(self._engine, started):
                    return self._host.wait(started, timeout)
        return self._host.wait(started, timeout)

    def submit(
        self,
        workflow_name: str,
        context: Input = None,
        *,
        execution_id: str | None = None,
        retry_failed: bool = False,
    ) -> Execution:
        """Start a workflow and return once the start is durable, without waiting for the result.

        Arguments and errors are those of [`execute`][cloaca.DefaultRunner.execute].

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     executions = [runner.submit("etl", {"day": f"2026-01-{day}"}) for day in (29, 30, 31)]
            ...     [execution.result().final_context["rows"] for execution in executions]
            [['2026-01-29'], ['2026-01-30'], ['2026-01-31']]
        """
        _check_retry_failed(retry_failed, execution_id)
        return Execution(self._host, self._start(workflow_name, context, execution_id, retry_failed))

    def submit_many(
        self,
        workflow_name: str,
        inputs: Iterable[Input],
        *,
        execution_ids: Iterable[str | None] | None = None,
        retry_failed: bool = False,
    ) -> list[Execution]:
        """Start a workflow once for each input, with a single write to the log.

        This is faster than calling [`submit`][cloaca.DefaultRunner.submit] repeatedly, which waits for a write each
        time. The start is atomic: if one input is not valid, or the power fails, no execution is started.

        Args:
            workflow_name: The name of a registered workflow.
            inputs: The inputs, each as for [`execute`][cloaca.DefaultRunner.execute].
            execution_ids: One id for each input, or ``None`` for a new id. The call attaches to executions that exist:
                rerunning a script starts only the missing ones.
            retry_failed: Whether to [`retry`][cloaca.DefaultRunner.retry] those that exist and have failed. They are
                retried one by one, before the others start.

        Returns:
            The executions, in the order of the inputs.

        Raises:
            WorkflowNotFoundError: The workflow is not registered; the message suggests the nearest name.
            WorkflowInputError: An input does not match what the workflow declares with
                [`workflow_params`][cloaca.workflow_params]. The message names the input, as for the errors below.
            Error: An execution with one of the ids is blocked, or belongs to another workflow.
            TypeError, ValueError: An input is not a context, or not JSON; or the number of ids differs from the number
                of inputs; or ``retry_failed`` is set without ids.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     executions = runner.submit_many("etl", ({"day": f"2026-01-{day:02}"} for day in range(1, 32)))
            ...     results = [execution.result() for execution in executions]
            >>> len(results), results[-1].final_context["rows"]
            (31, ['2026-01-31'])
        """
        if isinstance(inputs, (Mapping, Context, str)) or not isinstance(inputs, Iterable):
            raise TypeError(f"inputs must be a list with one input for each execution, not {type(inputs).__name__}")
        contexts, ids = list(inputs), None if execution_ids is None else list(execution_ids)
        if ids is not None and len(ids) != len(contexts):
            raise ValueError(f"got {len(contexts)} inputs but {len(ids)} execution_ids; pass one id for each input")
        _check_retry_failed(retry_failed, ids, "execution_ids")
        started = self._start_many(workflow_name, contexts, ids, retry_failed)
        return [Execution(self._host, execution_id) for execution_id in started]

    async def execute_async(
        self,
        workflow_name: str,
        context: Input = None,
        *,
        execution_id: str | None = None,
        retry_failed: bool = False,
        timeout: float | None = None,
    ) -> WorkflowResult:
        """Execute a workflow and await the result, from a coroutine.

        Arguments and errors are those of [`execute`][cloaca.DefaultRunner.execute]. Cancelling the coroutine ends only
        the wait; the execution continues.

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
        _check_retry_failed(retry_failed, execution_id)
        started = await in_thread(partial(self._start, workflow_name, context, execution_id, retry_failed))
        if timeout is None:
            return await self._host.wait_async(started)
        try:
            return await asyncio.wait_for(self._host.wait_async(started), timeout)
        except asyncio.TimeoutError:
            message = f"execution {started} was still running after {timeout:g} s; it keeps running"
            raise WaitTimeoutError(message, execution_id=started) from None

    def get_execution(self, execution_id: str) -> Execution:
        """Return an execution of this log by its id.

        Raises:
            ExecutionNotFoundError: The log has no execution with this id. (A ``LookupError``.)
            ValueError: The id is not a UUID.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     execution_id = runner.submit("etl", {"day": "2026-01-31"}).id  # store it somewhere
            ...     runner.get_execution(execution_id).result().status
            'Completed'
        """
        return Execution(self._host, self._engine.outcome(execution_id)["execution_id"])

    def list_executions(
        self,
        status: ExecutionStatus | Literal["Pending"] | None = None,
        workflow: str | None = None,
        limit: int = 100,
        before: str | Execution | None = None,
    ) -> list[ExecutionInfo]:
        """Return the executions of this log, newest first.

        Args:
            status: Return only executions with this status (see [`Execution.status`][cloaca.Execution.status]).
                ``Pending`` matches blocked and damaged ones.
            workflow: Return only executions of this workflow.
            limit: The maximum number of executions.
            before: Return only executions older than this one. For the next page, pass the last one of this page.

        Raises:
            ValueError: The status is unknown, or ``limit`` is negative.

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
            raise ValueError(f"limit must be an int of at least 0, not {limit!r}")
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
                end_time=optional_rfc3339(raw["ended"]),
                events=raw["events"],
                reason=raw["reason"],
                until=optional_rfc3339(raw["until"]),
                next_step=raw["next_step"],
            )
            for raw in found[:limit]
        ]

    def resume(self, execution_id: str) -> Execution:
        """Resume a blocked execution with the workflow that is registered now.

        An unfinished execution is blocked if its workflow has another graph when the log is opened, or if the runner
        was created with ``enable_recovery=False``. The runner logs a warning; ``list_executions`` returns the reason
        and the next step. (To resume a paused execution, use [`Execution.resume`][cloaca.Execution.resume].)

        Raises:
            ExecutionNotFoundError: The log has no execution with this id.
            Error: The execution is not blocked.

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
            the graph of workflow 'upload' has changed: task 'tell' was added
            'Completed'
        """
        self._engine.resume(execution_id)
        return Execution(self._host, execution_id)

    def retry(self, execution_id: str, *, by: str | None = None, reason: str | None = None) -> Execution:
        """Continue a failed or cancelled execution from what failed, under the same id.

        What failed, what was skipped because of that, and what had not ended runs again, with the workflow that is
        registered now and the timeouts of this runner. A completed task never runs again and keeps its writes. Attempts
        go on counting; retry policies and the timeout of the execution begin again. A failure that later tasks have
        handled stays as it is.

        Args:
            execution_id: The execution's id.
            by: Who asks for the retry; ``"user"`` if ``None``.
            reason: The reason. Both are recorded in the log.

        Raises:
            ExecutionNotFoundError: The log has no execution with this id.
            Error: The execution has not failed, or is blocked, or its values were erased, or its workflow is not
                registered.

        Example:
            >>> with cloaca.WorkflowBuilder("report"):
            ...     @cloaca.task
            ...     def compute(context):
            ...         context["sum"] = 42  # takes an hour
            ...     @cloaca.task(dependencies=[compute], retry_attempts=1)
            ...     def upload(context):
            ...         if not server_is_up:
            ...             raise ConnectionError("no answer")
            >>> server_is_up = False
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     failed = runner.execute("report")
            ...     server_is_up = True
            ...     result = runner.retry(failed.execution_id, by="ann", reason="the server is up again").result()
            >>> failed.status, result.status
            ('Failed', 'Completed')
            >>> [(task_id, task.attempts) for task_id, task in result.tasks.items()]
            [('compute', 1), ('upload', 2)]
        """
        self._engine.retry(execution_id, by, reason)
        return Execution(self._host, execution_id)

    def shutdown(self) -> None:
        """Stop accepting work, wait up to 5 seconds for running attempts, and close the log.

        Attempts that are still running then are abandoned; the next runner on this log starts them again. Called
        automatically at the end of a ``with`` block, and at interpreter exit, where the wait is half a second.

        Idempotent. A concurrent call from another thread or a signal handler returns once the log is closed. Ctrl-C
        (or a signal handler that raises) ends the wait: the log is closed cleanly, then the exception is raised.

        Example:
            >>> runner = cloaca.DefaultRunner(":memory:")
            >>> runner.shutdown()
            >>> runner
            DefaultRunner(':memory:', durability='sync', shut down)
            >>> runner.shutdown()
        """
        self._shutdown(_GRACE)

    def _shutdown(self, grace: float) -> None:
        self._host.shutdown(grace)

    def _start(self, workflow_name: str, context: Input, execution_id: str | None, retry_failed: bool) -> str:
        context = self._input(workflow_name, context, execution_id)
        return self._engine.start(workflow_name, context, execution_id, retry_failed)

    def _input(self, workflow_name: str, context: Input, execution_id: str | None) -> Context:
        _check_name(workflow_name)
        if not isinstance(context, Context):
            context = Context(context)
        context = self._checked(workflow_name, context, execution_id)
        _logging.refresh_level()
        return context

    def _start_many(
        self, workflow_name: str, inputs: list[Input], ids: list[str | None] | None, retry_failed: bool
    ) -> list[str]:
        _check_name(workflow_name)
        checked = []
        for index, given in enumerate(inputs):
            try:
                context = given if isinstance(given, Context) else Context(given)
                checked.append(self._checked(workflow_name, context, None if ids is None else ids[index]))
            except Error as error:
                error.message = f"inputs[{index}]: {error.message}"
                raise
            except TypeError as error:
                raise TypeError(f"inputs[{index}]: {error}") from None
        _logging.refresh_level()
        return self._engine.start_many(workflow_name, checked, ids, retry_failed)

    def _checked(self, workflow_name: str, context: Context, execution_id: str | None) -> Context:
        """Return the input with the defaults that its workflow declares."""
        workflow = workflows.find(workflow_name)
        if workflow is None:
            return context
        try:
            return workflow._inputs.complete(workflow_name, context)
        except WorkflowInputError:
            # Attaching to an existing execution ignores the input.
            if execution_id is not None and self._has(execution_id):
                return context
            raise

    def _has(self, execution_id: str) -> bool:
        try:
            self._engine.outcome(execution_id)
        except ExecutionNotFoundError:
            return False
        return True

    def __enter__(self: Runner) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.shutdown()
            return
        # The exception of the block must reach the program; an error of the shutdown is only logged.
        try:
            self.shutdown()
        except Exception as problem:
            _logging.failure("the runner failed to shut down cleanly after an error", problem)

    def __repr__(self) -> str:
        path = ":memory:" if self._host.location.path is None else self._host.location.path
        state = ", shut down" if self._host.is_closed else ""
        return f"DefaultRunner({path!r}, durability={self._host.config.durability!r}{state})"


def _check_name(workflow_name: object) -> None:
    if not isinstance(workflow_name, str):
        raise TypeError(f"workflow_name must be a str, not {type(workflow_name).__name__}")


def _check_retry_failed(retry_failed: bool, ids: object, name: str = "execution_id") -> None:
    if retry_failed and ids is None:
        raise ValueError(f"retry_failed=True needs {name}: it retries executions that exist")
