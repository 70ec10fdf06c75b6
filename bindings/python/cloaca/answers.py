"""The types that `History` returns: tasks, attempts, states, the origin of a value, differences, verification."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ._cloaca import Context
from ._erased import Erased
from .events import Reads, TaskError

if TYPE_CHECKING:
    from .literals import ExecutionStatus, TaskStatus

__all__ = [
    "AttemptHistory",
    "Diff",
    "State",
    "Step",
    "TaskHistory",
    "TaskState",
    "Verification",
    "Why",
]


@dataclass(frozen=True)
class AttemptHistory:
    """The history of one attempt.

    Example:
        >>> with cloaca.WorkflowBuilder("sum"):
        ...     @cloaca.task
        ...     def add(context):
        ...         context["sum"] = context["a"] + context["b"]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("sum", {"a": 1, "b": 2}).history()
        >>> [attempt] = history.tasks["add"].attempts
        >>> attempt.outcome, [read.key for read in attempt.reads.keys], [write["key"] for write in attempt.writes]
        ('completed', ['a', 'b'], ['sum'])
    """

    attempt: int
    """Its number, from 1."""
    outcome: str
    """``running``, ``completed``, ``failed``, ``abandoned`` or ``cancelled``."""
    started: str = field(repr=False)
    """When it started (RFC 3339, UTC)."""
    ended: str | None = field(repr=False)
    """When it ended (RFC 3339, UTC); ``None`` if it did not."""
    duration: timedelta | None
    """The time from start to end; ``None`` if it did not end."""
    started_seq: int = field(repr=False)
    """The ``seq`` of the event that started it."""
    worker: int = field(repr=False)
    """The slot in which it started."""
    error: TaskError | None
    """The error, if it failed."""
    retry_at: str | None = field(repr=False)
    """When the next attempt was due; ``None`` if there was none."""
    abandoned: str | None = field(repr=False)
    """``process_died`` or ``shutdown`` if it was abandoned; otherwise ``None``."""
    reads: Reads = field(repr=False)
    """Its reads."""
    writes: tuple[Mapping[str, Any], ...] = field(repr=False)
    """Its writes, as ``{"seq", "key", "change", "bytes"}``. They took effect only if the attempt completed."""
    undeclared: tuple[Mapping[str, Any], ...] = field(repr=False)
    """Its reads of keys written outside the task's dependencies, as ``{"key", "seq", "writer"}``."""
    hint: str | None = field(repr=False)
    """What to do about the error, as far as the log shows it."""

    @classmethod
    def _of(cls, raw: Mapping[str, Any]) -> AttemptHistory:
        """Build the object from the native history's dict."""
        duration, error = raw["duration_us"], raw.get("error")
        return cls(
            attempt=raw["attempt"],
            outcome=raw["outcome"],
            started=raw["started"],
            ended=raw["ended"],
            duration=None if duration is None else timedelta(microseconds=duration),
            started_seq=raw["started_seq"],
            worker=raw["worker"],
            error=None if error is None else TaskError._of(error),
            retry_at=raw.get("retry_at"),
            abandoned=raw.get("abandoned"),
            reads=Reads._of(raw["reads"]),
            writes=tuple(raw["writes"]),
            undeclared=tuple(raw["undeclared"]),
            hint=raw["hint"],
        )


@dataclass(frozen=True)
class TaskHistory:
    """The history of a task.

    Example:
        >>> with cloaca.WorkflowBuilder("flaky"):
        ...     @cloaca.task(retry_delay_ms=1)
        ...     def fetch(context, handle):
        ...         if handle.attempt == 1:
        ...             raise ConnectionError("refused")
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     fetch_then = runner.execute("flaky").history().tasks["fetch"]
        >>> [(attempt.outcome, attempt.error and str(attempt.error)) for attempt in fetch_then.attempts]
        [('failed', 'ConnectionError: refused'), ('completed', None)]
    """

    task: str
    """The task's id."""
    first: int = field(repr=False)
    """The ``seq`` of its first event."""
    last: int = field(repr=False)
    """The ``seq`` of its last event."""
    attempts: tuple[AttemptHistory, ...]
    """Its attempts, in order."""
    skipped: Mapping[str, Any] | None
    """Why it was skipped: the rule, and the tasks and keys that decided it; ``None`` if it was not."""
    cancelled: bool
    """Whether the execution ended before the task did."""
    retried: bool = field(repr=False)
    """Whether a retry of the execution put the task back, and it has not started since."""
    collisions: tuple[Mapping[str, Any], ...] = field(repr=False)
    """The keys that several of its dependencies wrote with conflicting values."""

    @property
    def outcome(self) -> str:
        """The outcome: ``retried``, ``skipped``, ``cancelled``, or that of the last attempt.

        Example:
            >>> fetch_then.outcome
            'completed'
        """
        if self.retried:
            return "retried"
        if self.skipped is not None:
            return "skipped"
        if self.cancelled or not self.attempts:
            return "cancelled"
        return self.attempts[-1].outcome

    @classmethod
    def _of(cls, raw: Mapping[str, Any]) -> TaskHistory:
        """Build the object from the native history's dict."""
        attempts = tuple(AttemptHistory._of(attempt) for attempt in raw["attempts"])
        return cls(
            task=raw["task"],
            first=raw["first"],
            last=raw["last"],
            attempts=attempts,
            skipped=raw["skipped"],
            cancelled=raw["cancelled"],
            retried=raw.get("retried", False),
            collisions=tuple(raw["collisions"]),
        )


@dataclass(frozen=True)
class TaskState:
    """The state of a task at a moment.

    Example:
        >>> with cloaca.WorkflowBuilder("etl"):
        ...     @cloaca.task
        ...     def extract(): ...
        ...     @cloaca.task(dependencies=[extract])
        ...     def load(): ...
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("etl").history()
        >>> history.state(at=1).tasks["load"]
        TaskState(state='Pending', attempts=0, waits_for=('extract',), due=None, error=None)
    """

    state: TaskStatus
    """``Pending``, ``Running``, ``Deferred`` (it waits without a slot), ``WaitingRetry``, ``Completed``, ``Failed``,
    ``Skipped`` or ``Cancelled``."""
    attempts: int
    """The number of attempts started by then."""
    waits_for: tuple[str, ...] = ()
    """The dependencies that had not ended yet."""
    due: str | None = None
    """When its next attempt was due; ``None`` if none was scheduled."""
    skipped: Mapping[str, Any] | None = field(default=None, repr=False)
    """Why it was skipped; ``None`` if it was not."""
    error: TaskError | None = None
    """The last error; ``None`` if there was none."""


@dataclass(frozen=True)
class State:
    """The state of an execution at a moment.

    Example:
        >>> with cloaca.WorkflowBuilder("etl"):
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = 3
        ...     @cloaca.task(dependencies=[extract])
        ...     def load(): ...
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("etl").history()
        >>> state = history.state(at="extract")
        >>> state.status, {task: one.state for task, one in state.tasks.items()}, state.ready, state.context
        ('Running', {'extract': 'Completed', 'load': 'Pending'}, ('load',), Context({"rows":3}))
    """

    seq: int
    """The ``seq`` of the last event before the moment."""
    time: str
    """The time of that event (RFC 3339, UTC)."""
    status: ExecutionStatus
    """The status; see [`Execution.status`][cloaca.Execution.status]."""
    tasks: Mapping[str, TaskState]
    """The state of each task, by id."""
    ready: tuple[str, ...]
    """The tasks that were ready to start."""
    context: Context
    """The context that a task depending on all tasks completed by then would see."""


@dataclass(frozen=True)
class Step:
    """One write in the trace from a value back to the input.

    Example:
        >>> with cloaca.WorkflowBuilder("sum"):
        ...     @cloaca.task
        ...     def add(context):
        ...         context["sum"] = context["a"] + context["b"]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("sum", {"a": 1, "b": 2}).history()
        >>> step = history.why("sum")[0]
        >>> step.key, step.value, step.task, step.attempt
        ('sum', 3, 'add', 1)
    """

    depth: int
    """The number of writes between this one and the value."""
    key: str
    """The context key."""
    how: str
    """How the previous step depends on it: ``asked``, ``read``, ``merged``, ``collided``, ``undeclared`` or
    ``not_there``."""
    seq: int | None
    """The ``seq`` of the event that wrote it; ``None`` if the key did not exist."""
    time: str | None
    """The time of the write (RFC 3339, UTC)."""
    task: str | None
    """The task that wrote it; ``None`` for the input."""
    attempt: int | None
    """The attempt that wrote it; ``None`` for the input."""
    value: Any
    """The value; also ``None`` if the key was removed."""
    before: Any
    """The value that the writer could see before."""
    read_all: bool
    """Whether the writer read the whole context."""
    told_before: bool
    """Whether an earlier step with the same ``seq`` already lists the reads of this write."""

    @classmethod
    def _of(cls, raw: Mapping[str, Any]) -> Step:
        fields = dict(raw)
        for name, erased in (("value", fields.pop("erased", None)), ("before", fields.pop("before_erased", None))):
            if erased is not None:
                fields[name] = Erased(**erased)
        return cls(**fields)

    def __str__(self) -> str:
        if self.seq is None:
            return f"{'  ' * self.depth}{self.key}: not set"
        writer = "the input" if self.task is None else f"{self.task}, attempt {self.attempt}"
        suffix = " (see above)" if self.told_before else ""
        return f"{'  ' * self.depth}{self.key} = {_short(self.value)}  [{self.how}] by {writer}, seq {self.seq}{suffix}"


class Why(tuple[Step, ...]):
    """The origin of a value: its writes, each followed by the values that its writer read. ``print`` shows a tree.

    Example:
        >>> with cloaca.WorkflowBuilder("sum"):
        ...     @cloaca.task
        ...     def add(context):
        ...         context["sum"] = context["a"] + context["b"]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("sum", {"a": 1, "b": 2}).history()
        >>> print(history.why("sum"))
        sum = 3  [asked] by add, attempt 1, seq 4
          a = 1  [read] by the input, seq 1
          b = 2  [read] by the input, seq 2
    """

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(str(step) for step in self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@dataclass(frozen=True)
class Verification:
    """The result of verifying a history. It is true if no problem was found.

    Example:
        >>> with cloaca.WorkflowBuilder("etl"):
        ...     @cloaca.task
        ...     def extract(): ...
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     found = runner.execute("etl").history().verify()
        >>> bool(found), found.chained == found.records, found.verdicts
        (True, True, ())
    """

    ok: bool
    """Whether the records are intact and the events consistent."""
    records: int
    """The number of records according to the log."""
    chained: int
    """The number of records whose hash is correct."""
    folded: int
    """The number of events that were folded again."""
    verdicts: tuple[Mapping[str, Any], ...]
    """What differs from what was written, whether a problem or not: ``{"verdict", "seq", "says"}`` each."""

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True)
class Diff:
    """The differences between two executions, A and B.

    Example:
        >>> with cloaca.WorkflowBuilder("doubled"):
        ...     @cloaca.task
        ...     def double(context):
        ...         context["twice"] = 2 * context["number"]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     a, b = (runner.execute("doubled", {"number": number}).history() for number in (1, 2))
        >>> diff = a.diff(b)
        >>> diff.same, diff.first["aspect"]
        (False, 'input')
        >>> print(diff)
        the input differs: number is 1 in A and 2 in B
    """

    same: bool
    """Whether both executions are the same, apart from timing."""
    first: Mapping[str, Any] | None
    """Where they first diverge: ``{"aspect", "task", "a_seq", "b_seq", "says"}``."""
    input: tuple[Mapping[str, Any], ...] = field(repr=False)
    """The differences in the input, by key."""
    tasks: tuple[Mapping[str, Any], ...] = field(repr=False)
    """All tasks of either execution: ``{"task", "standing", "a", "b", "differences"}``."""
    context: tuple[Mapping[str, Any], ...] = field(repr=False)
    """The differences in the final context, by key."""

    def __str__(self) -> str:
        return "nothing differs" if self.first is None else str(self.first["says"])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
