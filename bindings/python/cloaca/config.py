"""How a runner runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar, overload

__all__ = ["DefaultRunnerConfig"]

Value = TypeVar("Value")

# A keyword that was not given.
_UNSET: Any = object()


class _Field(Generic[Value]):
    """A property that is checked whenever it is set."""

    def __init__(self, default: Value, check: Callable[[str, Any], Value], doc: str) -> None:
        self.default = default
        self.check = check
        self.__doc__ = doc
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, config: None, owner: type) -> _Field[Value]: ...
    @overload
    def __get__(self, config: DefaultRunnerConfig, owner: type) -> Value: ...
    def __get__(self, config: DefaultRunnerConfig | None, owner: type) -> _Field[Value] | Value:
        if config is None:
            return self
        value: Value = config._values[self.name]
        return value

    def __set__(self, config: DefaultRunnerConfig, value: Value) -> None:
        config._values[self.name] = self.check(self.name, value)


def _number(low: int, high: int = 2**53) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} must be an int, not {value!r}")
        if not low <= value <= high:
            bounds = f"at least {low}" if value < low else f"at most {high}"
            raise ValueError(f"{name} must be {bounds}, not {value}")
        return value

    return check


def _number_or_none(name: str, value: Any) -> int | None:
    return None if value is None else _number(1)(name, value)


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return value


def _durability(name: str, value: Any) -> str:
    if isinstance(value, str):
        word, colon, millis = value.partition(":")
        if value in ("sync", "os"):
            return value
        if word == "interval" and colon and millis.isascii() and millis.isdigit() and int(millis) > 0:
            return value
    raise ValueError(f'{name} must be "sync", "os" or "interval:<milliseconds>", not {value!r}')


_NOTHING_IS_LOST = "Accepted, without effect: a fire and its execution are one write, so no fire is lost."


class DefaultRunnerConfig:
    """How a runner runs. Every field is a keyword, a property, and a key of
    [`to_dict`][cloaca.DefaultRunnerConfig.to_dict].

    Raises:
        ValueError: A field is set to what it cannot be.
        TypeError: There is no such field.

    Example:
        >>> config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=8, durability="interval:100")
        >>> config.task_timeout_seconds = 60
        >>> with cloaca.DefaultRunner(":memory:", config) as runner:
        ...     runner.config == config
        True
        >>> config.task_timeout_seconds = 0
        Traceback (most recent call last):
        ValueError: task_timeout_seconds must be at least 1, not 0
        >>> cloaca.DefaultRunnerConfig(max_concurrent_task=8)
        Traceback (most recent call last):
        TypeError: DefaultRunnerConfig has no field max_concurrent_task; did you mean max_concurrent_tasks?
    """

    __slots__ = ("_values",)

    max_concurrent_tasks = _Field(
        4,
        _number(1, 10_000),
        """How many attempts run at once. What waits in [`defer_until`][cloaca.TaskHandle.defer_until] does not count.

        Example:
            >>> cloaca.DefaultRunnerConfig(max_concurrent_tasks=10_001)
            Traceback (most recent call last):
            ValueError: max_concurrent_tasks must be at most 10000, not 10001
        """,
    )
    task_timeout_seconds = _Field(
        300,
        _number(1),
        """How long an attempt may take whose task does not say, in seconds. One that takes longer has failed.

        Example:
            >>> import threading
            >>> stuck = threading.Event()
            >>> with cloaca.WorkflowBuilder("stuck"):
            ...     @cloaca.task(retry_attempts=1)
            ...     def wait(context):
            ...         stuck.wait()
            >>> clock = cloaca.testing.VirtualClock()
            >>> config = cloaca.DefaultRunnerConfig(task_timeout_seconds=60)
            >>> with cloaca.testing.Runner(":memory:", config, clock=clock) as runner:
            ...     execution = runner.submit("stuck")
            ...     clock.advance(61)
            ...     print(execution.result().error)
            ...     stuck.set()
            task 'wait' failed, attempt 1 of 1: TaskTimeoutError: the attempt ran longer than 60 s
        """,
    )
    workflow_timeout_seconds: _Field[int | None] = _Field(
        3600,
        _number_or_none,
        """How long an execution may take, in seconds; ``None``: for ever. One that takes longer has failed.

        Example:
            >>> import time
            >>> with cloaca.WorkflowBuilder("never_ready"):
            ...     @cloaca.task
            ...     def wait(context, handle):
            ...         while not handle.is_over:
            ...             time.sleep(0.01)
            >>> clock = cloaca.testing.VirtualClock()
            >>> config = cloaca.DefaultRunnerConfig(workflow_timeout_seconds=60)
            >>> with cloaca.testing.Runner(":memory:", config, clock=clock) as runner:
            ...     execution = runner.submit("never_ready")
            ...     clock.advance(61)
            ...     print(execution.result().error)
            the workflow ran longer than 60 s; not done: wait
        """,
    )
    enable_recovery = _Field(
        True,
        _truth,
        """Whether unfinished executions are resumed when the log is opened. Where they are not, they are blocked.

        Example:
            >>> config = cloaca.DefaultRunnerConfig(enable_recovery=False)
            >>> with cloaca.DefaultRunner(":memory:", config) as runner:
            ...     runner.recovered
            []
        """,
    )
    enable_cron_scheduling = _Field(
        True,
        _truth,
        """Whether schedules fire in this runner.

        Example:
            >>> with cloaca.WorkflowBuilder("etl"):
            ...     @cloaca.task
            ...     def extract(): ...
            >>> clock = cloaca.testing.VirtualClock()
            >>> config = cloaca.DefaultRunnerConfig(enable_cron_scheduling=False)
            >>> with cloaca.testing.Runner(":memory:", config, clock=clock) as runner:
            ...     hourly = runner.register_cron_workflow("etl", "@hourly", "UTC")
            ...     clock.advance(24 * 3600)
            ...     runner.get_cron_execution_history(hourly)
            []
        """,
    )
    cron_poll_interval_seconds = _Field(30, _number(1), "Accepted, without effect: nothing is polled.")
    cron_max_catchup_executions = _Field(
        100,
        _number(0),
        """How many missed fires of a schedule with ``catchup="run_all"`` are caught up with at most: the newest ones.

        Example:
            >>> with cloaca.WorkflowBuilder("etl"):
            ...     @cloaca.task
            ...     def extract(): ...
            >>> clock = cloaca.testing.VirtualClock()
            >>> config = cloaca.DefaultRunnerConfig(cron_max_catchup_executions=3)
            >>> with cloaca.testing.Runner("hourly.log", clock=clock) as runner:
            ...     hourly = runner.register_cron_workflow("etl", "@hourly", "UTC", catchup="run_all")
            >>> clock.advance(24 * 3600)  # and no process is there
            >>> with cloaca.testing.Runner("hourly.log", config, clock=clock) as runner:
            ...     clock.advance(0)
            ...     len(runner.get_cron_execution_history(hourly))
            3
        """,
    )
    cron_enable_recovery = _Field(True, _truth, _NOTHING_IS_LOST)
    cron_recovery_interval_seconds = _Field(300, _number(1), "Accepted, without effect: nothing is polled.")
    cron_lost_threshold_minutes = _Field(10, _number(1), _NOTHING_IS_LOST)
    cron_max_recovery_age_seconds = _Field(86400, _number(1), _NOTHING_IS_LOST)
    cron_max_recovery_attempts = _Field(3, _number(0), _NOTHING_IS_LOST)
    scheduler_poll_interval_ms = _Field(100, _number(1), "Accepted, without effect: nothing is polled.")
    executor_poll_interval_ms = _Field(100, _number(1), "Accepted, without effect: nothing is polled.")
    db_pool_size = _Field(10, _number(1), "Accepted, without effect: there is no pool.")
    durability = _Field(
        "sync",
        _durability,
        """``"sync"``: what was acknowledged survives a power cut. ``"interval:<ms>"``: all but the last so many
        milliseconds does. ``"os"``: it survives a killed process only.

        Example:
            >>> cloaca.DefaultRunnerConfig(durability="interval:100").durability
            'interval:100'
            >>> cloaca.DefaultRunnerConfig(durability="async")
            Traceback (most recent call last):
            ValueError: durability must be "sync", "os" or "interval:<milliseconds>", not 'async'
        """,
    )
    strict_context = _Field(
        False,
        _truth,
        """Whether reading a key of a task that one does not depend on is an error,
        [`UndeclaredReadError`][cloaca.errors.UndeclaredReadError], which fails the attempt.

        Example:
            >>> with cloaca.WorkflowBuilder("careless"):
            ...     @cloaca.task
            ...     def extract(context):
            ...         context["rows"] = 3
            ...     @cloaca.task(retry_attempts=1)
            ...     def load(context):  # does not say that it depends on extract
            ...         return {"loaded": context.get("rows")}
            >>> config = cloaca.DefaultRunnerConfig(strict_context=True, max_concurrent_tasks=1)
            >>> with cloaca.DefaultRunner(":memory:", config) as runner:
            ...     runner.execute("careless").tasks["load"].error.partition(":")[0]
            'UndeclaredReadError'
        """,
    )
    max_value_bytes = _Field(
        16 * 1024 * 1024,
        _number(1),
        """No context value may be longer, in bytes of JSON. An attempt that writes a longer one fails.

        Example:
            >>> with cloaca.WorkflowBuilder("wordy"):
            ...     @cloaca.task(retry_attempts=1)
            ...     def write(context):
            ...         context["text"] = "x" * 2_000
            >>> with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_value_bytes=1_000)) as runner:
            ...     print(runner.execute("wordy").tasks["write"].error)
            ValueTooLarge: context key 'text': the value has 2002 bytes of JSON, more than max_value_bytes (1000)
        """,
    )
    max_recoveries = _Field(
        3,
        _number(0, 2**32 - 1),
        """How often attempts of a task may die with their process; one more, and the task has failed. So a task that
        kills its process does not do so for ever.

        Example:
            >>> cloaca.DefaultRunnerConfig(max_recoveries=0).max_recoveries
            0
            >>> cloaca.DefaultRunnerConfig(max_recoveries=-1)
            Traceback (most recent call last):
            ValueError: max_recoveries must be at least 0, not -1
        """,
    )

    def __init__(
        self,
        # These can be positional, in the order that Cloacina has them.
        max_concurrent_tasks: int = max_concurrent_tasks.default,
        scheduler_poll_interval_ms: int = scheduler_poll_interval_ms.default,
        task_timeout_seconds: int = task_timeout_seconds.default,
        workflow_timeout_seconds: int | None = workflow_timeout_seconds.default,
        db_pool_size: int = db_pool_size.default,
        enable_recovery: bool = enable_recovery.default,
        enable_cron_scheduling: bool = enable_cron_scheduling.default,
        cron_poll_interval_seconds: int = cron_poll_interval_seconds.default,
        cron_max_catchup_executions: int = cron_max_catchup_executions.default,
        cron_enable_recovery: bool = cron_enable_recovery.default,
        cron_recovery_interval_seconds: int = cron_recovery_interval_seconds.default,
        cron_lost_threshold_minutes: int = cron_lost_threshold_minutes.default,
        cron_max_recovery_age_seconds: int = cron_max_recovery_age_seconds.default,
        cron_max_recovery_attempts: int = cron_max_recovery_attempts.default,
        *,
        executor_poll_interval_ms: int = executor_poll_interval_ms.default,
        durability: str = durability.default,
        strict_context: bool = strict_context.default,
        max_value_bytes: int = max_value_bytes.default,
        max_recoveries: int = max_recoveries.default,
        pipeline_timeout_seconds: int | None = _UNSET,
        **unknown: NoReturn,
    ) -> None:
        given = locals()
        known = self._fields()
        for name in unknown:
            from ._cloaca import nearest

            near = nearest(name, [*known, "pipeline_timeout_seconds"])
            hint = f"; did you mean {near}?" if near else ""
            raise TypeError(f"DefaultRunnerConfig has no field {name}{hint}")
        self._values: dict[str, Any] = {}
        for name in known:
            setattr(self, name, given[name])
        if pipeline_timeout_seconds is not _UNSET:
            if workflow_timeout_seconds != known["workflow_timeout_seconds"].default:
                raise ValueError(
                    "give workflow_timeout_seconds or pipeline_timeout_seconds, not both: they are the same"
                )
            self.pipeline_timeout_seconds = pipeline_timeout_seconds

    @classmethod
    def _fields(cls) -> dict[str, _Field[Any]]:
        return {name: field for name, field in vars(DefaultRunnerConfig).items() if isinstance(field, _Field)}

    @staticmethod
    def default() -> DefaultRunnerConfig:
        """The defaults.

        Example:
            >>> defaults = cloaca.DefaultRunnerConfig.default()
            >>> defaults.max_concurrent_tasks, defaults.durability
            (4, 'sync')
        """
        return DefaultRunnerConfig()

    @property
    def pipeline_timeout_seconds(self) -> int | None:
        """Another name for ``workflow_timeout_seconds``.

        Example:
            >>> cloaca.DefaultRunnerConfig(pipeline_timeout_seconds=60).workflow_timeout_seconds
            60
        """
        return self.workflow_timeout_seconds

    @pipeline_timeout_seconds.setter
    def pipeline_timeout_seconds(self, value: int | None) -> None:
        try:
            self.workflow_timeout_seconds = value
        except ValueError as error:
            raise ValueError(str(error).replace("workflow_", "pipeline_", 1)) from None

    def to_dict(self) -> dict[str, Any]:
        """Every field by name.

        Example:
            >>> fields = config.to_dict()
            >>> fields["max_concurrent_tasks"], fields["workflow_timeout_seconds"]
            (8, 3600)
        """
        return {**self._values, "pipeline_timeout_seconds": self.workflow_timeout_seconds}

    def copy(self) -> DefaultRunnerConfig:
        """A config of its own with the same fields.

        Example:
            >>> other = config.copy()
            >>> other.max_concurrent_tasks = 2
            >>> config.max_concurrent_tasks
            8
        """
        other = DefaultRunnerConfig()
        other._values = dict(self._values)
        return other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DefaultRunnerConfig):
            return NotImplemented
        return self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._values)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._values = {}
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"DefaultRunnerConfig({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"
