"""The events of an execution, as [`cloaca.History.events`][cloaca.History.events] gives them.

Every kind has a class of its own; ``match`` takes them apart:

>>> import cloaca
>>> with cloaca.WorkflowBuilder("import"):
...     @cloaca.task(retry_delay_ms=1)
...     def fetch(context, handle):
...         if handle.attempt == 1:
...             raise ConnectionError("refused")
...         context["rows"] = context["file"].count(",")
...         del context["file"]
...     @cloaca.task(dependencies=[fetch], trigger_rule="all_failed")
...     def complain(): ...
>>> with cloaca.DefaultRunner(":memory:") as runner:
...     history = runner.execute("import", {"file": "7,8,9"}).history()
>>> def tell(event: cloaca.events.Event) -> str:
...     match event:
...         case cloaca.events.TaskFailed(task=task, error=error):
...             return f"{task} failed: {error.message}"
...         case _:
...             return event.kind
>>> [tell(event) for event in history.events][:5]
['ExecutionStarted', 'ContextWritten', 'TaskStarted', 'fetch failed: refused', 'TaskStarted']

The examples below go on from there, with the events of one kind, and with an execution that was steered:

>>> def events(history, kind):
...     return [event for event in history.events if isinstance(event, kind)]
>>> with cloaca.WorkflowBuilder("waits"):
...     @cloaca.task
...     def wait(context, handle):
...         handle.defer_until(lambda: False)
>>> with cloaca.testing.Runner("steered.log") as runner:
...     execution = runner.submit("waits")
...     runner.restart()  # as if the process had ended, and another one had begun
...     execution.pause()
...     execution.resume()
...     execution.cancel("not needed any more")
...     steered = execution.result().history()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._erased import Erased as _Erased

__all__ = [
    "CancelRequested",
    "ContextRemoved",
    "ContextWritten",
    "Erased",
    "Event",
    "ExecutionCancelled",
    "ExecutionCompleted",
    "ExecutionEnded",
    "ExecutionFailed",
    "ExecutionPaused",
    "ExecutionRecovered",
    "ExecutionStarted",
    "ExecutionUnpaused",
    "Read",
    "Reads",
    "Request",
    "TaskAbandoned",
    "TaskCompleted",
    "TaskDeferred",
    "TaskError",
    "TaskEvent",
    "TaskFailed",
    "TaskResumed",
    "TaskSkipped",
    "TaskStarted",
]


@dataclass(frozen=True)
class Read:
    """One key that an attempt asked for.

    Example:
        >>> completed = events(history, cloaca.events.TaskCompleted)[0]
        >>> completed.reads.keys[0]
        Read(key='file', seen='write', seqs=(1,))
    """

    key: str
    """The key."""
    seen: str
    """``write``: the write at ``seqs``; ``merged``: the writes there, merged at a join; ``undeclared``: a write of a
    task that is no ancestor; ``nothing``: there was no such key."""
    seqs: tuple[int, ...]
    """The events that wrote what it saw."""


@dataclass(frozen=True)
class Reads:
    """What an attempt read.

    Example:
        >>> reads = events(history, cloaca.events.TaskCompleted)[0].reads
        >>> [read.key for read in reads.keys], reads.all
        (['file'], False)
    """

    keys: tuple[Read, ...] = ()
    """Each key that it asked for."""
    all: bool = False
    """Whether it took the whole context."""

    @classmethod
    def _of(cls, body: Mapping[str, Any]) -> Reads:
        """Those that the log has."""
        keys = (Read(read["key"], read["seen"], tuple(read["seqs"])) for read in body["keys"])
        return cls(tuple(keys), body["all"])


@dataclass(frozen=True)
class TaskError:
    """Why an attempt failed.

    Example:
        >>> error = events(history, cloaca.events.TaskFailed)[0].error
        >>> str(error), error.lineage[:2], error.transient
        ('ConnectionError: refused', ('ConnectionError', 'OSError'), True)
    """

    kind: str
    """The name of the exception's class."""
    message: str
    """What it says."""
    traceback: str | None = None
    """Where it was raised."""
    lineage: tuple[str, ...] = ()
    """The names of its class and of those above it."""
    transient: bool = False
    """Whether it is of the kind that passes."""
    hint: str | None = None
    """What to do about it."""

    @classmethod
    def _of(cls, body: Mapping[str, Any]) -> TaskError:
        """The one that the log has."""
        return cls(**{**body, "lineage": tuple(body["lineage"])})

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


@dataclass(frozen=True)
class Event:
    """Something that happened to an execution.

    Example:
        >>> event = history.events[0]
        >>> event.seq, event.kind, len(event.hash)
        (0, 'ExecutionStarted', 64)
        >>> all(event.previous == before.hash for before, event in zip(history.events, history.events[1:]))
        True
    """

    seq: int = field(repr=True)
    """Its place in the execution's stream, from 0."""
    time: str = field(repr=False)
    """When it happened (RFC 3339, UTC)."""
    position: int = field(repr=False)
    """Its place in the log."""
    hash: str = field(repr=False)
    """The hash of its record, in hex."""
    previous: str = field(repr=False)
    """The hash of the record before it."""
    body: Mapping[str, Any] | None = field(repr=False, compare=False)
    """All that it says, as the log has it."""

    @property
    def kind(self) -> str:
        """The event's name, that of its class; a plain ``Event`` is one of a kind that this version does not know.

        Example:
            >>> history.events[-1].kind
            'ExecutionCompleted'
        """
        return type(self).__name__


@dataclass(frozen=True)
class Erased(Event):
    """An event whose body was erased: that it happened can be seen, not what it said.

    Example:
        >>> events(history, cloaca.events.Erased)  # of this one, nothing was
        []
    """


@dataclass(frozen=True)
class ExecutionStarted(Event):
    """The execution began.

    Example:
        >>> [started] = events(history, cloaca.events.ExecutionStarted)
        >>> started.workflow, started.cause["kind"], started.inputs
        ('import', 'call', 1)
    """

    workflow: str
    """The workflow's name."""
    definition: str
    """The fingerprint of its definition, in hex."""
    cause: Mapping[str, Any] = field(repr=False)
    """What caused it: ``{"kind": "call"}``, for one."""
    environment: Mapping[str, Any] = field(repr=False)
    """Engine version, host, process id, Python version."""
    options: Mapping[str, Any] = field(repr=False)
    """Timeouts, strictness, recoveries."""
    inputs: int = field(repr=False)
    """How many of the events behind it are its input."""


@dataclass(frozen=True)
class ContextWritten(Event):
    """A value was written: by an attempt, or by the input (then there is no task).

    Example:
        >>> [(write.key, write.value, write.task) for write in events(history, cloaca.events.ContextWritten)]
        [('file', '7,8,9', None), ('rows', 2, 'fetch')]
    """

    key: str
    """The key."""
    value: Any
    """The value."""
    task: str | None
    """Who wrote it."""
    attempt: int | None
    """In which attempt."""


@dataclass(frozen=True)
class ContextRemoved(Event):
    """A value was removed.

    Example:
        >>> [removed] = events(history, cloaca.events.ContextRemoved)
        >>> removed.key, removed.task, removed.attempt
        ('file', 'fetch', 2)
    """

    key: str
    """The key."""
    task: str | None
    """Who removed it."""
    attempt: int | None
    """In which attempt."""


@dataclass(frozen=True)
class TaskEvent(Event):
    """Something that happened to a task.

    Example:
        >>> [(event.kind, event.task) for event in events(history, cloaca.events.TaskEvent)][-2:]
        [('TaskCompleted', 'fetch'), ('TaskSkipped', 'complain')]
    """

    task: str
    """The task."""


@dataclass(frozen=True)
class TaskStarted(TaskEvent):
    """An attempt began.

    Example:
        >>> [(started.task, started.attempt) for started in events(history, cloaca.events.TaskStarted)]
        [('fetch', 1), ('fetch', 2)]
    """

    attempt: int
    """Its number, from 1."""
    worker: int = field(repr=False)
    """The slot that it got."""


@dataclass(frozen=True)
class TaskCompleted(TaskEvent):
    """An attempt succeeded, and what it wrote took effect.

    Example:
        >>> events(history, cloaca.events.TaskCompleted)
        [TaskCompleted(seq=7, task='fetch', attempt=2)]
    """

    attempt: int
    """Its number."""
    reads: Reads = field(repr=False)
    """What it read."""


@dataclass(frozen=True)
class TaskFailed(TaskEvent):
    """An attempt failed.

    Example:
        >>> [failed] = events(history, cloaca.events.TaskFailed)
        >>> failed.task, failed.attempt, failed.error.kind, failed.retry_at is not None
        ('fetch', 1, 'ConnectionError', True)
    """

    attempt: int
    """Its number."""
    error: TaskError
    """Why."""
    reads: Reads = field(repr=False)
    """What it had read."""
    retry_at: str | None
    """When the next attempt was due (RFC 3339); ``None``: there was none."""


@dataclass(frozen=True)
class TaskSkipped(TaskEvent):
    """A task was skipped.

    Example:
        >>> [skipped] = events(history, cloaca.events.TaskSkipped)
        >>> skipped.task, skipped.why["rule"], skipped.why["tasks"]
        ('complain', 'all_failed', [{'task': 'fetch', 'settled': 'completed'}])
    """

    why: Mapping[str, Any]
    """The rule, and the tasks and keys that decided it."""


@dataclass(frozen=True)
class TaskAbandoned(TaskEvent):
    """An attempt ended without an outcome.

    Example:
        >>> [abandoned] = events(steered, cloaca.events.TaskAbandoned)
        >>> abandoned.task, abandoned.attempt, abandoned.why
        ('wait', 1, 'shutdown')
    """

    attempt: int
    """Its number."""
    why: str
    """``process_died`` or ``shutdown``."""


@dataclass(frozen=True)
class TaskDeferred(TaskEvent):
    """An attempt waits in ``handle.defer_until``, without a slot. Its timeout stands still.

    Example:
        >>> deferred = events(steered, cloaca.events.TaskDeferred)
        >>> {event.task for event in deferred}
        {'wait'}
    """

    attempt: int
    """Its number."""


@dataclass(frozen=True)
class TaskResumed(TaskEvent):
    """An attempt that was deferred has a slot again, and runs on.

    Example:
        >>> cloaca.events.TaskResumed.__mro__[1].__name__
        'TaskEvent'
    """

    attempt: int
    """Its number."""
    worker: int
    """The slot that it runs in now, from 0."""


@dataclass(frozen=True)
class Request(Event):
    """Somebody asked for something.

    Example:
        >>> [(request.kind, request.by) for request in events(steered, cloaca.events.Request)]
        [('ExecutionPaused', 'user'), ('ExecutionUnpaused', 'user'), ('CancelRequested', 'user')]
    """

    by: str
    """Who."""
    reason: str | None
    """Why."""


@dataclass(frozen=True)
class ExecutionPaused(Request):
    """No more attempts start.

    Example:
        >>> [paused] = events(steered, cloaca.events.ExecutionPaused)
        >>> paused.by, paused.reason
        ('user', None)
    """


@dataclass(frozen=True)
class ExecutionUnpaused(Request):
    """Attempts start again.

    Example:
        >>> [unpaused] = events(steered, cloaca.events.ExecutionUnpaused)
        >>> unpaused.seq > events(steered, cloaca.events.ExecutionPaused)[0].seq
        True
    """


@dataclass(frozen=True)
class CancelRequested(Request):
    """The execution was to be cancelled.

    Example:
        >>> [request] = events(steered, cloaca.events.CancelRequested)
        >>> request.reason
        'not needed any more'
    """


@dataclass(frozen=True)
class ExecutionRecovered(Event):
    """Another process took the execution over.

    Example:
        >>> [recovered] = events(steered, cloaca.events.ExecutionRecovered)
        >>> sorted(recovered.environment), recovered.definition == steered.events[0].definition
        (['engine', 'host', 'pid', 'python'], True)
    """

    environment: Mapping[str, Any]
    """The process: engine version, host, process id, Python version."""
    definition: str
    """The fingerprint of the definition that it went on with."""


@dataclass(frozen=True)
class ExecutionEnded(Event):
    """The execution ended.

    Example:
        >>> [ended] = events(history, cloaca.events.ExecutionEnded)
        >>> ended.kind, ended == history.events[-1], len(ended.context)
        ('ExecutionCompleted', True, 64)
    """

    reason: str
    """Why; empty when it completed."""
    context: str = field(repr=False)
    """SHA-256 of the final context, in hex."""


@dataclass(frozen=True)
class ExecutionCompleted(ExecutionEnded):
    """The execution ended without a failure at the end of its graph.

    Example:
        >>> [completed] = events(history, cloaca.events.ExecutionCompleted)
        >>> completed.reason
        ''
    """


@dataclass(frozen=True)
class ExecutionFailed(ExecutionEnded):
    """The execution ended with one.

    Example:
        >>> with cloaca.WorkflowBuilder("fails"):
        ...     @cloaca.task(retry_attempts=1)
        ...     def fail():
        ...         raise ValueError("as asked")
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     failed = runner.execute("fails").history().events[-1]
        >>> failed.kind, failed.reason
        ('ExecutionFailed', "task 'fail' failed, attempt 1 of 1: ValueError: as asked")
    """


@dataclass(frozen=True)
class ExecutionCancelled(ExecutionEnded):
    """The execution was cancelled.

    Example:
        >>> [cancelled] = events(steered, cloaca.events.ExecutionCancelled)
        >>> cancelled.reason
        'cancelled by user: not needed any more'
    """


_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        ExecutionStarted,
        ContextWritten,
        ContextRemoved,
        TaskStarted,
        TaskCompleted,
        TaskFailed,
        TaskSkipped,
        TaskAbandoned,
        TaskDeferred,
        TaskResumed,
        ExecutionPaused,
        ExecutionUnpaused,
        CancelRequested,
        ExecutionRecovered,
        ExecutionCompleted,
        ExecutionFailed,
        ExecutionCancelled,
    )
}
_PARTS: dict[str, Any] = {"reads": Reads._of, "error": TaskError._of}


def event_of(raw: Mapping[str, Any]) -> Event:
    """The event that the log has. One of a kind that this version has no class for is a plain
    [`Event`][cloaca.events.Event]."""
    body: Mapping[str, Any] | None = raw["body"]
    envelope = {name: raw[name] for name in ("seq", "time", "position", "hash", "previous")}
    if body is None:
        return Erased(**envelope, body=None)
    if (erased := raw.get("erased")) is not None and "value" in body:
        body = {**body, "value": _Erased(**erased)}
    kind: Any = _KINDS.get(raw["event"], Event)
    names = kind.__dataclass_fields__.keys() - Event.__dataclass_fields__.keys()
    said = {name: value if (make := _PARTS.get(name)) is None else make(value) for name, value in body.items()}
    event: Event = kind(**envelope, body=body, **{name: said.get(name) for name in names})
    return event
