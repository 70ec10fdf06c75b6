"""How a runner runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["DefaultRunnerConfig"]

Value = TypeVar("Value")


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
        >>> config = DefaultRunnerConfig(max_concurrent_tasks=8)
        >>> config.task_timeout_seconds
        300
    """

    __slots__ = ("_values",)

    max_concurrent_tasks = _Field(4, _number(1, 10_000), "How many attempts run at once.")
    task_timeout_seconds = _Field(300, _number(1), "How long an attempt may take whose task does not say.")
    workflow_timeout_seconds: _Field[int | None] = _Field(
        3600, _number_or_none, "How long an execution may take; None: for ever."
    )
    enable_recovery = _Field(True, _truth, "Whether unfinished executions are resumed when the log is opened.")
    enable_cron_scheduling = _Field(True, _truth, "Whether schedules fire.")
    cron_poll_interval_seconds = _Field(30, _number(1), "Accepted, without effect: nothing is polled.")
    cron_max_catchup_executions = _Field(100, _number(0), "How many missed fires are caught up with at most.")
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
        '"sync": what was acknowledged survives a power cut. "interval:<ms>": all but the last so many milliseconds '
        'does. "os": it survives a killed process only.',
    )
    strict_context = _Field(False, _truth, "Whether reading a key of a task that one does not depend on is an error.")
    max_value_bytes = _Field(16 * 1024 * 1024, _number(1), "No context value may be longer, in bytes of JSON.")
    max_recoveries = _Field(3, _number(0, 2**32 - 1), "How often an attempt may die with its process.")

    def __init__(self, **fields: Any) -> None:
        known = self._fields()
        self._values: dict[str, Any] = {name: field.default for name, field in known.items()}
        if "pipeline_timeout_seconds" in fields and "workflow_timeout_seconds" in fields:
            raise ValueError("give workflow_timeout_seconds or pipeline_timeout_seconds, not both: they are the same")
        for name, value in fields.items():
            if name not in known and name != "pipeline_timeout_seconds":
                from ._cloaca import nearest

                near = nearest(name, [*known, "pipeline_timeout_seconds"])
                hint = f"; did you mean {near}?" if near else ""
                raise TypeError(f"DefaultRunnerConfig has no field {name}{hint}")
            setattr(self, name, value)

    @classmethod
    def _fields(cls) -> dict[str, _Field[Any]]:
        return {name: field for name, field in vars(DefaultRunnerConfig).items() if isinstance(field, _Field)}

    @staticmethod
    def default() -> DefaultRunnerConfig:
        """The defaults."""
        return DefaultRunnerConfig()

    @property
    def pipeline_timeout_seconds(self) -> int | None:
        """Another name for ``workflow_timeout_seconds``."""
        return self.workflow_timeout_seconds

    @pipeline_timeout_seconds.setter
    def pipeline_timeout_seconds(self, value: int | None) -> None:
        try:
            self.workflow_timeout_seconds = value
        except ValueError as error:
            raise ValueError(str(error).replace("workflow_", "pipeline_", 1)) from None

    def to_dict(self) -> dict[str, Any]:
        """Every field by name."""
        return {**self._values, "pipeline_timeout_seconds": self.workflow_timeout_seconds}

    def copy(self) -> DefaultRunnerConfig:
        """A config of its own with the same fields."""
        return DefaultRunnerConfig(**self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DefaultRunnerConfig):
            return NotImplemented
        return self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._values)

    def __setstate__(self, state: dict[str, Any]) -> None:
        DefaultRunnerConfig.__init__(self, **state)

    def __repr__(self) -> str:
        return f"DefaultRunnerConfig({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"
