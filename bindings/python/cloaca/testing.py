"""Testing workflows: runners that a test can crash, a clock that it moves, and registries that are clean again.

With pytest there are fixtures, without an import: ``cloaca_runner`` (on a log in ``tmp_path``), ``cloaca_config`` (to
be overridden), ``cloaca_clock`` (the runner of the same test goes by it), ``crash_after``; and after each test the
registries of tasks and workflows are what they were before it.

>>> import cloaca
>>> from cloaca.testing import Runner, VirtualClock, clean_registry
>>> clock = VirtualClock()
>>> with clean_registry():
...     with cloaca.WorkflowBuilder("patient"):
...         @cloaca.task(retry_delay_ms=600_000)
...         def patient(context, handle):
...             if handle.attempt == 1:
...                 raise ConnectionError("try again in ten minutes")
...     with Runner(":memory:", clock=clock) as runner:
...         execution = runner.submit("patient")
...         clock.advance(900)
...         execution.result().status
'Completed'
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ._cloaca import VirtualClock
from ._task import registry
from ._trigger import triggers
from .config import DefaultRunnerConfig
from .errors import ConfigurationError, LogError
from .runner import DefaultRunner
from .workflow import workflows

__all__ = ["Crash", "Runner", "VirtualClock", "clean_registry"]

# So long a crash is waited for at the end of its block, in seconds.
_PATIENCE = 10.0


class Crash:
    """Where a runner crashed; what [`Runner.crash_after`][cloaca.testing.Runner.crash_after] gives.

    Example:
        >>> with cloaca.WorkflowBuilder("etl"):
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = 3
        >>> with cloaca.testing.Runner("crashing.log") as runner:
        ...     with runner.crash_after(1) as crash:
        ...         result = runner.execute("etl")
        ...     runner.get_execution(crash.execution_id).result(timeout=30).status
        'Completed'
    """

    __slots__ = ("_execution_id", "_seq")

    def __init__(self) -> None:
        self._execution_id = ""
        self._seq = -1

    @property
    def execution_id(self) -> str:
        """The execution; ``""`` as long as nothing has crashed.

        Example:
            >>> cloaca.testing.Crash().execution_id, len(crash.execution_id)
            ('', 36)
        """
        return self._execution_id

    @property
    def seq(self) -> int:
        """Its last event in the log, at or after the one that was asked for; -1 as long as nothing has crashed.

        Example:
            >>> cloaca.testing.Crash().seq, crash.seq >= 1
            (-1, True)
        """
        return self._seq

    def __repr__(self) -> str:
        return f"Crash(execution_id={self.execution_id!r}, seq={self.seq})"


class Runner(DefaultRunner):
    """A [`cloaca.DefaultRunner`][cloaca.DefaultRunner] for tests: it can go by a virtual clock, and crash.

    Args:
        database_url: As for [`cloaca.DefaultRunner`][cloaca.DefaultRunner].
        config: How it runs.
        clock: A clock that the test moves: retries, timeouts and schedules happen when ``clock.advance(seconds)`` gets
            there, each at its own time. What a task sleeps, it sleeps by the clock on the wall.

    Example:
        >>> with cloaca.WorkflowBuilder("patient"):
        ...     @cloaca.task(retry_delay_ms=600_000)
        ...     def call(context, handle):
        ...         if handle.attempt == 1:
        ...             raise ConnectionError("try again in ten minutes")
        >>> clock = cloaca.testing.VirtualClock()
        >>> with cloaca.testing.Runner(":memory:", clock=clock) as runner:
        ...     execution = runner.submit("patient")
        ...     clock.advance(900)
        ...     execution.result().tasks["call"].attempts
        2
    """

    _crashable = True

    def __init__(
        self,
        database_url: str,
        config: DefaultRunnerConfig | None = None,
        *,
        clock: VirtualClock | None = None,
    ) -> None:
        super().__init__(database_url, config, _clock=clock)

    @property
    def clock(self) -> VirtualClock | None:
        """The clock that it goes by; ``None``: the one on the wall.

        Example:
            >>> with cloaca.testing.Runner(":memory:", clock=cloaca.testing.VirtualClock()) as runner:
            ...     before = runner.clock.now()
            ...     runner.clock.advance(60)
            ...     runner.clock.now() - before
            60.0
            >>> with cloaca.testing.Runner(":memory:") as runner:
            ...     print(runner.clock)
            None
        """
        return self._host.clock

    @contextmanager
    def crash_after(self, seq: int) -> Iterator[Crash]:
        """In its block, the runner dies as soon as an execution's event ``seq`` is durable, as if the process had been
        killed then. At the end of the block a new one has the log, in the same object, and takes over what was left.

        Events that were decided together are in the log together. A wait for the execution ends with a ``LogError``,
        which ends the block. A task that runs at that moment runs on, as threads do, but nobody takes its result.

        Args:
            seq: An event, as ``history().events`` numbers them: 0 is the start, and the input follows it.

        Raises:
            AssertionError: No execution has come to that event within 10 seconds after the end of the block.
            ConfigurationError: The log is in memory, and would go with the process.

        Example:
            >>> def test_a_crash_costs_nothing(cloaca_runner):
            ...     with cloaca_runner.crash_after(2) as crash:
            ...         cloaca_runner.execute("reliable")
            ...     result = cloaca_runner.get_execution(crash.execution_id).result(timeout=30)
            ...     assert result.status == "Completed"
            >>> with cloaca.WorkflowBuilder("reliable"):
            ...     @cloaca.task
            ...     def extract(context):
            ...         context["rows"] = 3
            >>> with cloaca.testing.Runner("reliable.log") as runner:  # pytest calls it with the fixture
            ...     test_a_crash_costs_nothing(runner)
        """
        if isinstance(seq, bool) or not isinstance(seq, int) or seq < 0:
            raise ValueError(f"an event is numbered from 0 on, not {seq!r}")
        if self._host.location.path is None:
            raise ConfigurationError("a log in memory goes with its process; give the runner a path to crash it")
        crash = Crash()
        self._engine.crash_after(seq)
        try:
            yield crash
        except LogError:
            if self._engine.crashed(_PATIENCE) is None:
                raise
        crashed = self._engine.crashed(_PATIENCE)
        if crashed is None:
            raise AssertionError(f"no execution has come to event {seq}")
        crash._execution_id, crash._seq = crashed
        self.restart()

    def restart(self) -> None:
        """Closes the log and opens it again, as the next process would: what was unfinished is taken over.

        Example:
            >>> with cloaca.testing.Runner("restarted.log", clock=cloaca.testing.VirtualClock()) as runner:
            ...     execution = runner.submit("patient")
            ...     runner.restart()
            ...     [execution.id for execution in runner.recovered] == [execution.id]
            ...     runner.clock.advance(900)
            ...     execution.result().status
            True
            'Completed'
        """
        # One that has crashed says so; its log is closed all the same.
        with suppress(LogError):
            self._host.shutdown(0.0)
        self._host.begin()


@contextmanager
def clean_registry() -> Iterator[None]:
    """Afterwards, the registries of tasks and workflows are what they were before, and triggers that are new are
    forgotten. Runners that are open keep the tasks and workflows that they know.

    Example:
        >>> with clean_registry():
        ...     with cloaca.WorkflowBuilder("of_a_test"):
        ...         @cloaca.task
        ...         def only_here(): ...
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     runner.execute("of_a_test")
        Traceback (most recent call last):
        cloaca.errors.WorkflowNotFoundError: workflow 'of_a_test' is not registered
    """
    tasks, registered, polled = registry.snapshot(), workflows.snapshot(), set(triggers.names())
    try:
        yield
    finally:
        registry.restore(tasks)
        workflows.restore(registered)
        for name in set(triggers.names()) - polled:
            triggers.unregister(name)
