"""Tools for testing workflows: a runner that tests can crash, a virtual clock, and clean registries.

pytest finds these fixtures without an import: ``cloaca_runner`` (on a log in ``tmp_path``), ``cloaca_config`` (to be
overridden), ``cloaca_clock`` (used by the test's runner) and ``crash_after``. After each test, the registries of tasks
and workflows are restored.

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

# How long to wait for the crash at the end of a crash_after block, in seconds.
_CRASH_TIMEOUT = 10.0


class Crash:
    """The point at which a runner crashed, as returned by [`Runner.crash_after`][cloaca.testing.Runner.crash_after].

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
        """The execution's id; ``""`` before the crash.

        Example:
            >>> cloaca.testing.Crash().execution_id, len(crash.execution_id)
            ('', 36)
        """
        return self._execution_id

    @property
    def seq(self) -> int:
        """The ``seq`` of its last event in the log, at or after the requested one; -1 before the crash.

        Example:
            >>> cloaca.testing.Crash().seq, crash.seq >= 1
            (-1, True)
        """
        return self._seq

    def __repr__(self) -> str:
        return f"Crash(execution_id={self.execution_id!r}, seq={self.seq})"


class Runner(DefaultRunner):
    """A [`cloaca.DefaultRunner`][cloaca.DefaultRunner] for tests, with a virtual clock and simulated crashes.

    Args:
        database_url: As for [`cloaca.DefaultRunner`][cloaca.DefaultRunner].
        config: The configuration.
        clock: A clock that the test moves: ``clock.advance(seconds)`` triggers the retries, timeouts and schedules due
            until then, each at its own time. ``time.sleep`` in a task still takes real time.

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
        """The runner's virtual clock; ``None`` if it uses the system clock.

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
        """Crash the runner inside the block as soon as event ``seq`` of an execution is durable.

        This simulates a killed process. At the end of the block, the runner object reopens the log and resumes the
        unfinished executions.

        Events written in one batch survive together. A wait for the execution raises a ``LogError``, which ends the
        block. A task that is running at that moment keeps running on its thread, but its result is ignored.

        Args:
            seq: The sequence number of the event, as in ``history().events``: 0 is the start, followed by the input.

        Raises:
            AssertionError: No execution reached that event within 10 seconds after the end of the block.
            ConfigurationError: The log is in memory, and would not survive the crash.

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
            >>> with cloaca.testing.Runner("reliable.log") as runner:  # with pytest, the fixture provides it
            ...     test_a_crash_costs_nothing(runner)
        """
        if isinstance(seq, bool) or not isinstance(seq, int) or seq < 0:
            raise ValueError(f"seq must be an int of at least 0, not {seq!r}")
        if self._host.location.path is None:
            raise ConfigurationError("a log in memory does not survive a crash; create the runner with a path")
        crash = Crash()
        self._engine.crash_after(seq)
        try:
            yield crash
        except LogError:
            if self._engine.crashed(_CRASH_TIMEOUT) is None:
                raise
        crashed = self._engine.crashed(_CRASH_TIMEOUT)
        if crashed is None:
            raise AssertionError(f"no execution reached event {seq}")
        crash._execution_id, crash._seq = crashed
        self.restart()

    def restart(self) -> None:
        """Close the log and reopen it, as the next process would. Unfinished executions are resumed.

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
        # A crashed runner raises on shutdown, but its log is closed.
        with suppress(LogError):
            self._host.shutdown(0.0)
        self._host.begin()


@contextmanager
def clean_registry() -> Iterator[None]:
    """Restore the registries of tasks and workflows at the end of the block, and remove new triggers.

    Open runners keep the tasks and workflows that they know.

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
