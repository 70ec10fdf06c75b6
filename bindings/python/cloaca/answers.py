"""What the past of an execution is told in: tasks and attempts, a moment, where a value came from, what differs."""

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
    """One attempt at a task.

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
    """When it ended."""
    duration: timedelta | None
    """How long it took."""
    started_seq: int = field(repr=False)
    """The event that started it."""
    worker: int = field(repr=False)
    """The slot that it began in."""
    error: TaskError | None
    """Why it failed."""
    retry_at: str | None = field(repr=False)
    """When the next one was due."""
    abandoned: str | None = field(repr=False)
    """``process_died`` or ``shutdown``, if it was abandoned."""
    reads: Reads = field(repr=False)
    """What it read."""
    writes: tuple[Mapping[str, Any], ...] = field(repr=False)
    """What it wrote: ``{"seq", "key", "change", "bytes"}`` each. It took effect only if the attempt completed."""
    undeclared: tuple[Mapping[str, Any], ...] = field(repr=False)
    """What it read of tasks that its own does not depend on: ``{"key", "seq", "writer"}`` each."""
    hint: str | None = field(repr=False)
    """What to do about it, by what the whole log tells."""

    @classmethod
    def _of(cls, raw: Mapping[str, Any]) -> AttemptHistory:
        """The one that the log tells of."""
        took, error = raw["duration_us"], raw.get("error")
        return cls(
            attempt=raw["attempt"],
            outcome=raw["outcome"],
            started=raw["started"],
            ended=raw["ended"],
            duration=None if took is None else timedelta(microseconds=took),
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
    """What happened to a task.

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
    """Its id."""
    first: int = field(repr=False)
    """Its first event."""
    last: int = field(repr=False)
    """Its last one."""
    attempts: tuple[AttemptHistory, ...]
    """Its attempts, in order."""
    skipped: Mapping[str, Any] | None
    """Why it was skipped: the rule, and the tasks and keys that decided it."""
    cancelled: bool
    """Whether the execution ended before it did."""
    collisions: tuple[Mapping[str, Any], ...] = field(repr=False)
    """What collided where its dependencies meet."""

    @property
    def outcome(self) -> str:
        """``skipped``, ``cancelled``, or how its last attempt ended.

        Example:
            >>> fetch_then.outcome
            'completed'
        """
        if self.skipped is not None:
            return "skipped"
        if self.cancelled or not self.attempts:
            return "cancelled"
        return self.attempts[-1].outcome

    @classmethod
    def _of(cls, raw: Mapping[str, Any]) -> TaskHistory:
        """The one that the log tells of."""
        attempts = tuple(AttemptHistory._of(attempt) for attempt in raw["attempts"])
        return cls(
            task=raw["task"],
            first=raw["first"],
            last=raw["last"],
            attempts=attempts,
            skipped=raw["skipped"],
            cancelled=raw["cancelled"],
            collisions=tuple(raw["collisions"]),
        )


@dataclass(frozen=True)
class TaskState:
    """How a task stood at a moment.

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
    """How many attempts had been started."""
    waits_for: tuple[str, ...] = ()
    """The dependencies that were not settled yet."""
    due: str | None = None
    """When its next attempt was due."""
    skipped: Mapping[str, Any] | None = field(default=None, repr=False)
    """Why it was skipped."""
    error: TaskError | None = None
    """The last error."""


@dataclass(frozen=True)
class State:
    """How an execution stood at a moment.

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
    """After this event."""
    time: str
    """When that happened (RFC 3339, UTC)."""
    status: ExecutionStatus
    """As in [`cloaca.WorkflowResult`][cloaca.WorkflowResult]."""
    tasks: Mapping[str, TaskState]
    """Each task, by id."""
    ready: tuple[str, ...]
    """The tasks that could start."""
    context: Context
    """What a task after all that had been done would have seen."""


@dataclass(frozen=True)
class Step:
    """One write on the way back from a value to the input.

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
    """How many writes lie between this one and the value."""
    key: str
    """The key."""
    how: str
    """How the step before came to it: ``asked``, ``read``, ``merged``, ``collided``, ``undeclared`` or ``not_there``.
    """
    seq: int | None
    """The event that wrote it; ``None`` if there was no such key."""
    time: str | None
    """When."""
    task: str | None
    """Who; ``None`` is the input."""
    attempt: int | None
    """In which attempt."""
    value: Any
    """The value; ``None`` too if it was removed."""
    before: Any
    """What the writer could see before."""
    read_all: bool
    """Whether the writer took the whole context."""
    told_before: bool
    """Whether what the writer had read was told before, at a step with the same ``seq``."""

    @classmethod
    def _of(cls, raw: Mapping[str, Any]) -> Step:
        said = dict(raw)
        for name, erased in (("value", said.pop("erased", None)), ("before", said.pop("before_erased", None))):
            if erased is not None:
                said[name] = Erased(**erased)
        return cls(**said)

    def __str__(self) -> str:
        if self.seq is None:
            return f"{'  ' * self.depth}{self.key}: there was none"
        who = "the input" if self.task is None else f"{self.task}, attempt {self.attempt}"
        told = " (see above)" if self.told_before else ""
        return f"{'  ' * self.depth}{self.key} = {_short(self.value)}  [{self.how}] by {who}, seq {self.seq}{told}"


class Why(tuple[Step, ...]):
    """Where a value came from: its writes, and behind each what its writer had read. ``print`` shows it as a tree.

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
    """What verifying found. It is true if nothing is wrong.

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
    """Whether the records are what was written, and the events follow from each other."""
    records: int
    """How many records the log says there are."""
    chained: int
    """How many of them have the right hash."""
    folded: int
    """How many events were folded again."""
    verdicts: tuple[Mapping[str, Any], ...]
    """What is wrong, or at least not as it was written: ``{"verdict", "seq", "says"}`` each."""

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True)
class Diff:
    """What differs between two executions, A and B.

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
    """Whether both ran the same, but for what timing explains."""
    first: Mapping[str, Any] | None
    """Where they first diverge: ``{"aspect", "task", "a_seq", "b_seq", "says"}``."""
    input: tuple[Mapping[str, Any], ...] = field(repr=False)
    """What differs in the input, key by key."""
    tasks: tuple[Mapping[str, Any], ...] = field(repr=False)
    """Each task of either: ``{"task", "standing", "a", "b", "differences"}``."""
    context: tuple[Mapping[str, Any], ...] = field(repr=False)
    """What differs in the context that they left, key by key."""

    def __str__(self) -> str:
        return "nothing differs" if self.first is None else str(self.first["says"])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
