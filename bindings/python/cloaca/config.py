"""The configuration of a runner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar, overload

__all__ = ["DefaultRunnerConfig"]

Value = TypeVar("Value")

# Marks a keyword argument that was not passed.
_UNSET: Any = object()


class _Field(Generic[Value]):
    """A property that validates every assigned value."""

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


def _integer(low: int, high: int = 2**53) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} must be an int, not {value!r}")
        if not low <= value <= high:
            bounds = f"at least {low}" if value < low else f"at most {high}"
            raise ValueError(f"{name} must be {bounds}, not {value}")
        return value

    return check


def _positive_or_none(name: str, value: Any) -> int | None:
    return None if value is None else _integer(1)(name, value)


def _boolean(name: str, value: Any) -> bool:
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


_NO_LOST_FIRES = "Accepted, without effect: a fire and its execution are written atomically, so no fire is lost."
_NO_POLLING = "Accepted, without effect: the runner does not poll."


class DefaultRunnerConfig:
    """The configuration of a runner.

    Every field is a keyword argument, a property, and a key of [`to_dict`][cloaca.DefaultRunnerConfig.to_dict].

    Raises:
        ValueError: The value of a field is not valid.
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
        _integer(1, 10_000),
        """The maximum number of concurrent attempts: the runner's slots.

        Attempts waiting in [`defer_until`][cloaca.TaskHandle.defer_until] do not count.

        Example:
            >>> cloaca.DefaultRunnerConfig(max_concurrent_tasks=10_001)
            Traceback (most recent call last):
            ValueError: max_concurrent_tasks must be at most 10000, not 10001
        """,
    )
    task_timeout_seconds: _Field[int | None] = _Field(
        300,
        _positive_or_none,
        """The timeout of attempts whose task does not set ``timeout_seconds``, in seconds; ``None`` is no limit.

        An attempt that exceeds it fails.

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
        _positive_or_none,
        """The timeout of executions, in seconds; ``None`` is no limit. An execution that exceeds it fails.

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
        _boolean,
        """Whether to resume unfinished executions when the log is opened. If not, they are blocked.

        Example:
            >>> config = cloaca.DefaultRunnerConfig(enable_recovery=False)
            >>> with cloaca.DefaultRunner(":memory:", config) as runner:
            ...     runner.recovered
            []
        """,
    )
    enable_cron_scheduling = _Field(
        True,
        _boolean,
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
    cron_poll_interval_seconds = _Field(30, _integer(1), _NO_POLLING)
    cron_max_catchup_executions = _Field(
        100,
        _integer(0),
        """The maximum number of missed fires that a schedule with ``catchup="run_all"`` catches up: the newest ones.

        Example:
            >>> with cloaca.WorkflowBuilder("etl"):
            ...     @cloaca.task
            ...     def extract(): ...
            >>> clock = cloaca.testing.VirtualClock()
            >>> config = cloaca.DefaultRunnerConfig(cron_max_catchup_executions=3)
            >>> with cloaca.testing.Runner("hourly.log", clock=clock) as runner:
            ...     hourly = runner.register_cron_workflow("etl", "@hourly", "UTC", catchup="run_all")
            >>> clock.advance(24 * 3600)  # no runner is open
            >>> with cloaca.testing.Runner("hourly.log", config, clock=clock) as runner:
            ...     clock.advance(0)
            ...     len(runner.get_cron_execution_history(hourly))
            3
        """,
    )
    cron_enable_recovery = _Field(True, _boolean, _NO_LOST_FIRES)
    cron_recovery_interval_seconds = _Field(300, _integer(1), _NO_POLLING)
    cron_lost_threshold_minutes = _Field(10, _integer(1), _NO_LOST_FIRES)
    cron_max_recovery_age_seconds = _Field(86400, _integer(1), _NO_LOST_FIRES)
    cron_max_recovery_attempts = _Field(3, _integer(0), _NO_LOST_FIRES)
    scheduler_poll_interval_ms = _Field(100, _integer(1), _NO_POLLING)
    executor_poll_interval_ms = _Field(100, _integer(1), _NO_POLLING)
    db_pool_size = _Field(10, _integer(1), "Accepted, without effect: there is no connection pool.")
    durability = _Field(
        "sync",
        _durability,
        """The durability of acknowledged events.

        - ``"sync"``: they survive a power failure.
        - ``"interval:<ms>"``: a power failure can lose at most the last ``<ms>`` milliseconds.
        - ``"os"``: they survive a killed process, but not a power failure.

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
        _boolean,
        """Whether an undeclared read is an error: reading a key that only a task outside the dependencies wrote.

        The error is an [`UndeclaredReadError`][cloaca.errors.UndeclaredReadError], which fails the attempt.

        Example:
            >>> with cloaca.WorkflowBuilder("careless"):
            ...     @cloaca.task
            ...     def extract(context):
            ...         context["rows"] = 3
            ...     @cloaca.task(retry_attempts=1)
            ...     def load(context):  # does not declare that it depends on extract
            ...         return {"loaded": context.get("rows")}
            >>> config = cloaca.DefaultRunnerConfig(strict_context=True, max_concurrent_tasks=1)
            >>> with cloaca.DefaultRunner(":memory:", config) as runner:
            ...     runner.execute("careless").tasks["load"].error.partition(":")[0]
            'UndeclaredReadError'
        """,
    )
    max_value_bytes = _Field(
        16 * 1024 * 1024,
        _integer(1),
        """The maximum size of a context value, in bytes of JSON. An attempt that writes a larger value fails.

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
        _integer(0, 2**32 - 1),
        """How many times a task is restarted after its process died during an attempt.

        If the process dies once more, the task fails, so that a task that crashes its process is not restarted for
        ever.

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
        # Positional as in Cloacina, in the same order.
        max_concurrent_tasks: int = max_concurrent_tasks.default,
        scheduler_poll_interval_ms: int = scheduler_poll_interval_ms.default,
        task_timeout_seconds: int | None = task_timeout_seconds.default,
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
                    "pass workflow_timeout_seconds or pipeline_timeout_seconds, not both: they are the same"
                )
            self.pipeline_timeout_seconds = pipeline_timeout_seconds

    @classmethod
    def _fields(cls) -> dict[str, _Field[Any]]:
        return {name: field for name, field in vars(DefaultRunnerConfig).items() if isinstance(field, _Field)}

    @staticmethod
    def default() -> DefaultRunnerConfig:
        """Return a configuration with the defaults.

        Example:
            >>> defaults = cloaca.DefaultRunnerConfig.default()
            >>> defaults.max_concurrent_tasks, defaults.durability
            (4, 'sync')
        """
        return DefaultRunnerConfig()

    @property
    def pipeline_timeout_seconds(self) -> int | None:
        """An alias of ``workflow_timeout_seconds``.

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
        """Return all fields by name.

        Example:
            >>> fields = config.to_dict()
            >>> fields["max_concurrent_tasks"], fields["workflow_timeout_seconds"]
            (8, 3600)
        """
        return {**self._values, "pipeline_timeout_seconds": self.workflow_timeout_seconds}

    def copy(self) -> DefaultRunnerConfig:
        """Return an independent copy.

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
