"""The events of an execution, as returned by [`cloaca.History.events`][cloaca.History.events].

Every kind of event has its own class; ``match`` tells them apart:

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
>>> def describe(event: cloaca.events.Event) -> str:
...     match event:
...         case cloaca.events.TaskFailed(task=task, error=error):
...             return f"{task} failed: {error.message}"
...         case _:
...             return event.kind
>>> [describe(event) for event in history.events][:5]
['ExecutionStarted', 'ContextWritten', 'TaskStarted', 'fetch failed: refused', 'TaskStarted']

The examples below build on this, with the events of one kind, and with a second execution that was paused, resumed and
cancelled:

>>> def events(history, kind):
...     return [event for event in history.events if isinstance(event, kind)]
>>> with cloaca.WorkflowBuilder("waits"):
...     @cloaca.task
...     def wait(context, handle):
...         handle.defer_until(lambda: False)
>>> with cloaca.testing.Runner("steered.log") as runner:
...     execution = runner.submit("waits")
...     runner.restart()  # simulates a restart of the process
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
    "ExecutionRetried",
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
    """An attempt's read of a key.

    Example:
        >>> completed = events(history, cloaca.events.TaskCompleted)[0]
        >>> completed.reads.keys[0]
        Read(key='file', seen='write', seqs=(1,))
    """

    key: str
    """The context key."""
    seen: str
    """What the read returned. ``write``: the value written at ``seqs``; ``merged``: the values written at ``seqs``,
    merged at a join; ``undeclared``: the value of a task that is not an ancestor; ``nothing``: the key did not
    exist."""
    seqs: tuple[int, ...]
    """The events that wrote the value."""


@dataclass(frozen=True)
class Reads:
    """The reads of an attempt.

    Example:
        >>> reads = events(history, cloaca.events.TaskCompleted)[0].reads
        >>> [read.key for read in reads.keys], reads.all
        (['file'], False)
    """

    keys: tuple[Read, ...] = ()
    """The reads of single keys."""
    all: bool = False
    """Whether the attempt read the whole context."""

    @classmethod
    def _of(cls, body: Mapping[str, Any]) -> Reads:
        """Build the object from the native history's dict."""
        keys = (Read(read["key"], read["seen"], tuple(read["seqs"])) for read in body["keys"])
        return cls(tuple(keys), body["all"])


@dataclass(frozen=True)
class TaskError:
    """The error of a failed attempt.

    Example:
        >>> error = events(history, cloaca.events.TaskFailed)[0].error
        >>> str(error), error.lineage[:2], error.transient
        ('ConnectionError: refused', ('ConnectionError', 'OSError'), True)
    """

    kind: str
    """The name of the exception's class."""
    message: str
    """The exception's message."""
    traceback: str | None = None
    """The traceback."""
    lineage: tuple[str, ...] = ()
    """The names of its class and base classes."""
    transient: bool = False
    """Whether the error is transient."""
    hint: str | None = None
    """What to do about it."""

    @classmethod
    def _of(cls, body: Mapping[str, Any]) -> TaskError:
        """Build the object from the native history's dict."""
        return cls(**{**body, "lineage": tuple(body["lineage"])})

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


@dataclass(frozen=True)
class Event:
    """An event of an execution. Base class of all events.

    Example:
        >>> event = history.events[0]
        >>> event.seq, event.kind, len(event.hash)
        (0, 'ExecutionStarted', 64)
        >>> all(event.previous == before.hash for before, event in zip(history.events, history.events[1:]))
        True
    """

    seq: int = field(repr=True)
    """Its sequence number in the execution's stream, from 0."""
    time: str = field(repr=False)
    """The time of the event (RFC 3339, UTC)."""
    position: int = field(repr=False)
    """Its position in the log."""
    hash: str = field(repr=False)
    """The hash of its record, in hex."""
    previous: str = field(repr=False)
    """The hash of the stream's previous record, in hex."""
    body: Mapping[str, Any] | None = field(repr=False, compare=False)
    """The event's complete content, as stored in the log; ``None`` if it was erased."""

    @property
    def kind(self) -> str:
        """The event's kind, which is the name of its class. A plain ``Event`` has a kind unknown to this version.

        Example:
            >>> history.events[-1].kind
            'ExecutionCompleted'
        """
        return type(self).__name__


@dataclass(frozen=True)
class Erased(Event):
    """An event whose content was erased. Its kind and its content are unknown.

    Example:
        >>> events(history, cloaca.events.Erased)  # nothing was erased here
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
    """The cause, such as ``{"kind": "call"}``."""
    environment: Mapping[str, Any] = field(repr=False)
    """The process: engine version, host, process id, Python version."""
    options: Mapping[str, Any] = field(repr=False)
    """The options: timeouts, strict context, recoveries."""
    inputs: int = field(repr=False)
    """The number of following events that write the input."""


@dataclass(frozen=True)
class ContextWritten(Event):
    """A value was written, by an attempt or as part of the input.

    Example:
        >>> [(write.key, write.value, write.task) for write in events(history, cloaca.events.ContextWritten)]
        [('file', '7,8,9', None), ('rows', 2, 'fetch')]
    """

    key: str
    """The context key."""
    value: Any
    """The value."""
    task: str | None
    """The task that wrote it; ``None`` for the input."""
    attempt: int | None
    """The attempt that wrote it; ``None`` for the input."""


@dataclass(frozen=True)
class ContextRemoved(Event):
    """A key was removed from the context.

    Example:
        >>> [removed] = events(history, cloaca.events.ContextRemoved)
        >>> removed.key, removed.task, removed.attempt
        ('file', 'fetch', 2)
    """

    key: str
    """The context key."""
    task: str | None
    """The task that removed it."""
    attempt: int | None
    """The attempt that removed it."""


@dataclass(frozen=True)
class TaskEvent(Event):
    """An event of a task. Base class of the task events.

    Example:
        >>> [(event.kind, event.task) for event in events(history, cloaca.events.TaskEvent)][-2:]
        [('TaskCompleted', 'fetch'), ('TaskSkipped', 'complain')]
    """

    task: str
    """The task's id."""


@dataclass(frozen=True)
class TaskStarted(TaskEvent):
    """An attempt started.

    Example:
        >>> [(started.task, started.attempt) for started in events(history, cloaca.events.TaskStarted)]
        [('fetch', 1), ('fetch', 2)]
    """

    attempt: int
    """Its number, from 1."""
    worker: int = field(repr=False)
    """The slot in which it started."""


@dataclass(frozen=True)
class TaskCompleted(TaskEvent):
    """An attempt completed, and its writes took effect.

    Example:
        >>> events(history, cloaca.events.TaskCompleted)
        [TaskCompleted(seq=7, task='fetch', attempt=2)]
    """

    attempt: int
    """Its number."""
    reads: Reads = field(repr=False)
    """Its reads."""


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
    """The error."""
    reads: Reads = field(repr=False)
    """Its reads."""
    retry_at: str | None
    """When the next attempt is due (RFC 3339); ``None`` if the task is not retried."""


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
    """An attempt was abandoned: it ended without an outcome.

    Example:
        >>> [abandoned] = events(steered, cloaca.events.TaskAbandoned)
        >>> abandoned.task, abandoned.attempt, abandoned.why
        ('wait', 1, 'shutdown')
    """

    attempt: int
    """Its number."""
    why: str
    """The reason: ``process_died`` or ``shutdown``."""


@dataclass(frozen=True)
class TaskDeferred(TaskEvent):
    """An attempt began to wait in ``handle.defer_until``, without a slot. Its timeout is paused.

    Example:
        >>> deferred = events(steered, cloaca.events.TaskDeferred)
        >>> {event.task for event in deferred}
        {'wait'}
    """

    attempt: int
    """Its number."""


@dataclass(frozen=True)
class TaskResumed(TaskEvent):
    """A deferred attempt acquired a slot again and continued.

    Example:
        >>> cloaca.events.TaskResumed.__mro__[1].__name__
        'TaskEvent'
    """

    attempt: int
    """Its number."""
    worker: int
    """The slot in which it continues, from 0."""


@dataclass(frozen=True)
class Request(Event):
    """A request to pause, resume, cancel or retry the execution. Base class of these events.

    Example:
        >>> [(request.kind, request.by) for request in events(steered, cloaca.events.Request)]
        [('ExecutionPaused', 'user'), ('ExecutionUnpaused', 'user'), ('CancelRequested', 'user')]
    """

    by: str
    """Who made the request."""
    reason: str | None
    """The reason; ``None`` if none was given."""


@dataclass(frozen=True)
class ExecutionPaused(Request):
    """The execution was paused: no further attempt starts.

    Example:
        >>> [paused] = events(steered, cloaca.events.ExecutionPaused)
        >>> paused.by, paused.reason
        ('user', None)
    """


@dataclass(frozen=True)
class ExecutionUnpaused(Request):
    """The execution was resumed: attempts start again.

    Example:
        >>> [unpaused] = events(steered, cloaca.events.ExecutionUnpaused)
        >>> unpaused.seq > events(steered, cloaca.events.ExecutionPaused)[0].seq
        True
    """


@dataclass(frozen=True)
class CancelRequested(Request):
    """The cancellation of the execution was requested.

    Example:
        >>> [request] = events(steered, cloaca.events.CancelRequested)
        >>> request.reason
        'not needed any more'
    """


@dataclass(frozen=True)
class ExecutionRecovered(Event):
    """Another process resumed the execution.

    Example:
        >>> [recovered] = events(steered, cloaca.events.ExecutionRecovered)
        >>> sorted(recovered.environment), recovered.definition == steered.events[0].definition
        (['engine', 'host', 'pid', 'python'], True)
    """

    environment: Mapping[str, Any]
    """The process: engine version, host, process id, Python version."""
    definition: str
    """The fingerprint of the definition that it continues with."""


@dataclass(frozen=True)
class ExecutionRetried(Request):
    """The execution had failed or was cancelled, and continues from what failed.

    Example:
        >>> with cloaca.WorkflowBuilder("shaky"):
        ...     @cloaca.task(retry_attempts=1)
        ...     def shake(context, handle):
        ...         if handle.attempt == 1:
        ...             raise ValueError("no")
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     failed = runner.execute("shaky")
        ...     again = runner.retry(failed.execution_id, by="ann", reason="another try").result().history()
        >>> [retried] = events(again, cloaca.events.ExecutionRetried)
        >>> retried.by, retried.reason, retried.definition == again.events[0].definition
        ('ann', 'another try', True)
        >>> [event.kind for event in again.events if isinstance(event, cloaca.events.ExecutionEnded)]
        ['ExecutionFailed', 'ExecutionCompleted']
    """

    environment: Mapping[str, Any] = field(repr=False)
    """The process that continues it: engine version, host, process id, Python version."""
    definition: str
    """The fingerprint of the definition that it continues with."""
    options: Mapping[str, Any] = field(repr=False)
    """The options from then on: timeouts, strict context, recoveries."""


@dataclass(frozen=True)
class ExecutionEnded(Event):
    """The execution ended. Base class of the three outcomes.

    Example:
        >>> [ended] = events(history, cloaca.events.ExecutionEnded)
        >>> ended.kind, ended == history.events[-1], len(ended.context)
        ('ExecutionCompleted', True, 64)
    """

    reason: str
    """The reason; empty if the execution completed."""
    context: str = field(repr=False)
    """The SHA-256 of the final context, in hex."""


@dataclass(frozen=True)
class ExecutionCompleted(ExecutionEnded):
    """The execution completed: no task at the end of its graph failed.

    Example:
        >>> [completed] = events(history, cloaca.events.ExecutionCompleted)
        >>> completed.reason
        ''
    """


@dataclass(frozen=True)
class ExecutionFailed(ExecutionEnded):
    """The execution failed: a task at the end of its graph failed, or it timed out.

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
        ExecutionRetried,
        ExecutionCompleted,
        ExecutionFailed,
        ExecutionCancelled,
    )
}
# Fields that have a class of their own.
_CONVERTERS: dict[str, Any] = {"reads": Reads._of, "error": TaskError._of}


def event_of(raw: Mapping[str, Any]) -> Event:
    """Build an event from the native history's dict. A kind unknown to this version becomes a plain
    [`Event`][cloaca.events.Event]."""
    body: Mapping[str, Any] | None = raw["body"]
    envelope = {name: raw[name] for name in ("seq", "time", "position", "hash", "previous")}
    if body is None:
        return Erased(**envelope, body=None)
    if (erased := raw.get("erased")) is not None and "value" in body:
        body = {**body, "value": _Erased(**erased)}
    kind: Any = _KINDS.get(raw["event"], Event)
    names = kind.__dataclass_fields__.keys() - Event.__dataclass_fields__.keys()
    fields = {name: value if (make := _CONVERTERS.get(name)) is None else make(value) for name, value in body.items()}
    event: Event = kind(**envelope, body=body, **{name: fields.get(name) for name in names})
    return event
