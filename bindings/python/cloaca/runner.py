"""Runners: what executes workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from . import _cloaca, _interpreter, _isolation, _logging, _url
from ._cloaca import Context, NativeEngine, VirtualClock
from ._host import Host, start_threads
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

# What a running attempt gets on shutdown() before it is left to the recovery, in seconds.
_GRACE = 5.0

Runner = TypeVar("Runner", bound="DefaultRunner")
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
        start_threads(_logging.start)
        _logging.refresh_level()
        location.announce()
        location.make_room()
        self._host = Host(location, config, _clock, self._crashable)

    @property
    def _engine(self) -> NativeEngine:
        return self._host.engine

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
        return self._host.config.copy()

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
        return self._host.is_closed

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
        return [Execution(self._host, execution_id) for execution_id in self._engine.recovered()]

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
        if timeout is None and not progress and self._host.can_execute:
            context = self._input(workflow_name, context, execution_id)
            return self._host.execute(workflow_name, context, execution_id)
        started = self._start(workflow_name, context, execution_id)
        if progress:
            from . import _progress

            if _progress.is_wanted():
                with _progress.following(self._engine, started):
                    return self._host.wait(started, timeout)
        return self._host.wait(started, timeout)

    def submit(self, workflow_name: str, context: Input = None, *, execution_id: str | None = None) -> Execution:
        """Starts a workflow, and returns as soon as that is durable. As [`execute`][cloaca.DefaultRunner.execute],
        without the wait.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     executions = [runner.submit("etl", {"day": f"2026-01-{day}"}) for day in (29, 30, 31)]
            ...     [execution.result().final_context["rows"] for execution in executions]
            [['2026-01-29'], ['2026-01-30'], ['2026-01-31']]
        """
        return Execution(self._host, self._start(workflow_name, context, execution_id))

    def submit_many(
        self,
        workflow_name: str,
        inputs: Iterable[Input],
        *,
        execution_ids: Iterable[str | None] | None = None,
    ) -> list[Execution]:
        """Starts a workflow once for each input, all with one write to the log. Otherwise each execution is the same as
        one that [`submit`][cloaca.DefaultRunner.submit] started, which waits for a write of its own.

        The start is atomic: if one input is not valid, or the power fails, no execution was started.

        Args:
            workflow_name: A registered workflow.
            inputs: The inputs, each as for [`execute`][cloaca.DefaultRunner.execute].
            execution_ids: The id of each execution, or ``None`` for a new one; as many as inputs. An execution that
                exists is attached to: a script that is run again starts only what is missing.

        Returns:
            The executions, in the order of the inputs.

        Raises:
            WorkflowNotFoundError: No such workflow; the message has the nearest name.
            WorkflowInputError: An input is not what the workflow declares with
                [`workflow_params`][cloaca.workflow_params]. The message says which, as it does of the others.
            Error: An execution with one of the ids is blocked, or one of another workflow.
            TypeError, ValueError: An input is not a context, or not JSON; or there are more or fewer ids than inputs.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     executions = runner.submit_many("etl", ({"day": f"2026-01-{day:02}"} for day in range(1, 32)))
            ...     results = [execution.result() for execution in executions]
            >>> len(results), results[-1].final_context["rows"]
            (31, ['2026-01-31'])
        """
        if isinstance(inputs, (Mapping, Context, str)) or not isinstance(inputs, Iterable):
            raise TypeError(f"inputs must be a list of inputs, one for each execution, not {type(inputs).__name__}")
        contexts, ids = list(inputs), None if execution_ids is None else list(execution_ids)
        if ids is not None and len(ids) != len(contexts):
            raise ValueError(f"there are {len(contexts)} inputs, but {len(ids)} execution_ids; give one for each")
        started = self._start_many(workflow_name, contexts, ids)
        return [Execution(self._host, execution_id) for execution_id in started]

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
            return await self._host.wait_async(started)
        try:
            return await asyncio.wait_for(self._host.wait_async(started), timeout)
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
        return Execution(self._host, self._engine.outcome(execution_id)["execution_id"])

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
                end_time=optional_rfc3339(raw["ended"]),
                events=raw["events"],
                reason=raw["reason"],
                until=optional_rfc3339(raw["until"]),
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
            the graph of workflow 'upload' has changed: task 'tell' was added
            'Completed'
        """
        self._engine.resume(execution_id)
        return Execution(self._host, execution_id)

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
        self._host.shutdown(grace)

    def _start(self, workflow_name: str, context: Input, execution_id: str | None) -> str:
        context = self._input(workflow_name, context, execution_id)
        return self._engine.start(workflow_name, context, execution_id)

    def _input(self, workflow_name: str, context: Input, execution_id: str | None) -> Context:
        _check_name(workflow_name)
        if not isinstance(context, Context):
            context = Context(context)
        context = self._checked(workflow_name, context, execution_id)
        _logging.refresh_level()
        return context

    def _start_many(self, workflow_name: str, inputs: list[Input], ids: list[str | None] | None) -> list[str]:
        _check_name(workflow_name)
        checked = []
        for place, given in enumerate(inputs):
            try:
                context = given if isinstance(given, Context) else Context(given)
                checked.append(self._checked(workflow_name, context, None if ids is None else ids[place]))
            except Error as error:
                error.message = f"inputs[{place}]: {error.message}"
                raise
            except TypeError as error:
                raise TypeError(f"inputs[{place}]: {error}") from None
        _logging.refresh_level()
        return self._engine.start_many(workflow_name, checked, ids)

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
        where = ":memory:" if self._host.location.path is None else self._host.location.path
        state = ", shut down" if self._host.is_closed else ""
        return f"DefaultRunner({where!r}, durability={self._host.config.durability!r}{state})"


def _check_name(workflow_name: object) -> None:
    if not isinstance(workflow_name, str):
        raise TypeError(f"a workflow is executed by its name, a str, not {type(workflow_name).__name__}")
