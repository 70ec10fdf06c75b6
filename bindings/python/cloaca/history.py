"""The past of an execution, and what it can be asked."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from . import _url
from ._cloaca import Context, NativeHistory
from .answers import Diff, State, Step, TaskHistory, TaskState, Verification, Why
from .conditions import TaskReference
from .errors import ConfigurationError
from .events import Event, TaskError, event_of
from .namespace import TaskNamespace, is_full_id

if TYPE_CHECKING:
    from .literals import ExecutionStatus
    from .rerun import Rerun

__all__ = ["History"]

Moment: TypeAlias = int | datetime | timedelta | TaskReference | None
"""A moment: after the event with this ``seq``; at a time; so long after the start; or when a task was done (its id, or
its function), or one of these as text, as ``replay --at`` takes it."""


class History:
    """The past of one execution, as its log has it. Made by [`open`][cloaca.History.open], ``result.history()`` and
    ``execution.history()``.

    It is read once, in whole, and does not change; a log that a runner holds can be read, too. Looking at it runs none
    of the tasks' code: only [`rerun`][cloaca.History.rerun] does, and [`debug`][cloaca.History.debug] lends its
    context to whoever does.

    Example:
        >>> import cloaca
        >>> with cloaca.WorkflowBuilder("sum"):
        ...     @cloaca.task
        ...     def add(context):
        ...         context["sum"] = context["a"] + context["b"]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("sum", {"a": 1, "b": 2}).history()
        >>> len(history), history.events[-1].kind
        (7, 'ExecutionCompleted')
        >>> history.context(at="add")["sum"]
        3
    """

    def __init__(self, native: NativeHistory) -> None:
        self._native = native
        self._head: dict[str, Any] = native.execution()

    @classmethod
    def open(cls, path: str | os.PathLike[str], execution_id: str) -> History:
        """Reads an execution from a log.

        Args:
            path: The log, as a runner takes it: a path or a ``cloaca:///`` URL.
            execution_id: The execution.

        Raises:
            ExecutionNotFoundError: The log has no such execution.
            ConfigurationError: There is no log at that path.
            LogError: It cannot be read.

        Example:
            >>> with cloaca.DefaultRunner("sums.log") as runner:
            ...     execution_id = runner.execute("sum", {"a": 1, "b": 2}).execution_id
            ...     cloaca.History.open("sums.log", execution_id).status  # while the runner has the log, too
            'Completed'
        """
        location = _url.parse(os.fspath(path))
        if location.path is None:
            raise ConfigurationError("a log in memory belongs to its runner: use its get_execution(id).history()")
        return cls(NativeHistory.open(location.path, execution_id))

    @property
    def execution_id(self) -> str:
        """The execution's id.

        Example:
            >>> len(history.execution_id)
            36
        """
        return str(self._head["id"])

    @property
    def workflow_name(self) -> str | None:
        """The workflow's name; ``None`` if the log's index cannot be read.

        Example:
            >>> history.workflow_name
            'sum'
        """
        name: str | None = self._head["workflow"]
        return name

    @property
    def status(self) -> ExecutionStatus | Literal["unknown"]:
        """How it stood when it was read, as in [`cloaca.WorkflowResult`][cloaca.WorkflowResult]; ``"unknown"`` if the
        log's index cannot be read.

        Example:
            >>> history.status
            'Completed'
        """
        status: ExecutionStatus | Literal["unknown"] = self._head["status"]
        return status

    @property
    def info(self) -> Mapping[str, Any]:
        """What the log's index says: id, log, workflow, version, status, times, cause, durability, counts, hash.

        Example:
            >>> history.info["events"], history.info["status"]
            (7, 'Completed')
        """
        return dict(self._head)

    @property
    def trouble(self) -> str | None:
        """Why the events could not be read, or not folded, to the end; ``None`` if they could.

        What was before can be looked at; whatever asks for more raises this as a ``LogError``.

        Example:
            >>> print(history.trouble)
            None
        """
        return self._native.trouble()

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """Every event, in order. See [`cloaca.events`][cloaca.events].

        Example:
            >>> [event.key for event in history.events if isinstance(event, cloaca.events.ContextWritten)]
            ['a', 'b', 'sum']
        """
        return tuple(event_of(raw) for raw in self._native.events())

    @cached_property
    def tasks(self) -> Mapping[str, TaskHistory]:
        """What happened to each task, by id, in the order of their first events.

        Example:
            >>> {task_id: task.outcome for task_id, task in history.tasks.items()}
            {'add': 'completed'}
        """
        return {raw["task"]: TaskHistory._of(raw) for raw in self._native.tasks()}

    def state(self, at: Moment = None) -> State:
        """How the execution stood at a moment.

        Args:
            at: The ``seq`` of an event, a ``datetime``, a ``timedelta`` since the start, a task's id or function (its
                last event), or text as ``replay --at`` takes it; by default the end.

        Raises:
            MomentNotFoundError: There was no such moment. (A ``LookupError``.)
            LogError: An event before it cannot be read: see ``trouble``.
            ValueError: That is no moment.

        Example:
            >>> history.state(at=2).tasks["add"].state, history.state().tasks["add"].state
            ('Pending', 'Completed')
        """
        raw = self._native.state(*self._moment(at))
        states = {
            task["task"]: TaskState(
                state=task["state"],
                attempts=task["attempts"],
                waits_for=tuple(task.get("waits_for", ())),
                due=task.get("due"),
                skipped=task.get("skipped"),
                error=None if task.get("error") is None else TaskError._of(task["error"]),
            )
            for task in raw["tasks"]
        }
        context = self.context(at)
        return State(raw["seq"], raw["time"], raw["status"], states, tuple(raw["ready"]), context)

    def context(self, at: Moment = None) -> Context:
        """The context at a moment (as for [`state`][cloaca.History.state]): what a task after all that was done would
        have seen.

        Example:
            >>> history.context(at=2), history.context()
            (Context({"a":1,"b":2}), Context({"a":1,"b":2,"sum":3}))
        """
        return self._native.context(*self._moment(at))

    def why(self, key: str, at: Moment = None) -> Why:
        """Where a value came from, back to the input.

        Raises:
            UnknownKeyError: The context never had the key. (A ``KeyError``.)
            MomentNotFoundError: There was no such moment.

        Example:
            >>> [(step.key, step.value, step.task or "the input") for step in history.why("sum")]
            [('sum', 3, 'add'), ('a', 1, 'the input'), ('b', 2, 'the input')]
        """
        if not isinstance(key, str):
            raise TypeError(f"a context key must be a str, not {type(key).__name__}")
        return Why(Step._of(raw) for raw in self._native.why(key, *self._moment(at)))

    def diff(self, other: History, ignore: Iterable[Literal["order", "attempts", "time"]] = ()) -> Diff:
        """What differs between this execution, A, and another, B. Timing alone makes no two executions differ.

        Args:
            other: B.
            ignore: What not to compare: the ``order`` of the tasks, how many ``attempts`` they needed, how much
                ``time`` they took.

        Raises:
            ValueError: Something else is to be ignored.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     same = runner.execute("sum", {"a": 1, "b": 2}).history()
            ...     other = runner.execute("sum", {"a": 1, "b": 3}).history()
            >>> history.diff(same).same
            True
            >>> print(history.diff(other))
            the input differs: b is 2 in A and 3 in B
        """
        if not isinstance(other, History):
            raise TypeError(f"a history is compared with another one, not with {type(other).__name__}")
        raw = self._native.diff(other._native, [ignore] if isinstance(ignore, str) else list(ignore))
        return Diff(raw["same"], raw["first"], tuple(raw["input"]), tuple(raw["tasks"]), tuple(raw["context"]))

    def verify(self) -> Verification:
        """Whether the records are what was written, and the events follow from each other; found when it was read.

        Raises:
            ValueError: The history did not come from a log: what the hashes are made from is there alone.

        Example:
            >>> history.verify().ok
            True
        """
        raw = self._native.verify()
        if raw is None:
            raise ValueError("a history that was read from JSON cannot be verified: open it from its log")
        return Verification(raw["ok"], raw["records"], raw["chained"], raw["folded"], tuple(raw["verdicts"]))

    def to_json(self) -> str:
        """All of it as one JSON object, ``"format": "cloaca.replay/1"``; the same that ``replay ID --json`` gives.

        Example:
            >>> import json
            >>> said = json.loads(history.to_json())
            >>> said["format"], len(said["events"])
            ('cloaca.replay/1', 7)
        """
        return self._native.to_json()

    @classmethod
    def from_json(cls, text: str) -> History:
        """What [`to_json`][cloaca.History.to_json] gave.

        Raises:
            ValueError: It is something else.

        Example:
            >>> cloaca.History.from_json(history.to_json()) == history
            True
        """
        return cls(NativeHistory.from_json(text))

    def rerun(self, task: TaskReference, attempt: int | None = None) -> Rerun:
        """Calls today's function of a task with the context that it had then, and compares what it writes.

        Nothing is written to the log. What the function does besides its context (files, requests) it does again.

        Args:
            task: Its id or function.
            attempt: Which attempt; by default the one that completed, or else the last.

        Raises:
            MomentNotFoundError: There was no such attempt.
            WorkflowValidationError: No such task is defined in this process.

        Example:
            >>> history.rerun("add").same
            True
            >>> with cloaca.WorkflowBuilder("sum"):  # the function of today
            ...     @cloaca.task
            ...     def add(context):
            ...         context["sum"] = context["a"] - context["b"]
            >>> again = history.rerun("add")
            >>> again.same, again.recorded, again.writes
            (False, {'sum': 3}, {'sum': -1})
        """
        from .rerun import rerun

        return rerun(self, task, attempt)

    @contextmanager
    def debug(self, task: TaskReference, attempt: int | None = None) -> Iterator[Context]:
        """The context that an attempt had, for a debugger: call the task's function with it, step through it, look at
        what it changed. Nothing is written to the log, and [`rerun`][cloaca.History.rerun] and later blocks see none
        of it.

        Example:
            >>> import cloaca
            >>> with cloaca.WorkflowBuilder("halves"):
            ...     @cloaca.task(retry_attempts=1)
            ...     def halve(context):
            ...         context["half"] = context["whole"] / 2
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     history = runner.execute("halves", {"whole": "10"}).history()
            >>> with history.debug("halve") as context:  # where `breakpoint()` may stand, too
            ...     context["whole"]
            '10'
        """
        yield self._native.attempt(self._task_id(task), attempt)[3]

    def _task_id(self, task: TaskReference) -> str:
        """The id of a task of this execution, however it is named."""
        from ._references import task_id_of

        task_id = task_id_of(task)
        if task_id not in self.tasks and is_full_id(task_id):
            full = TaskNamespace.from_string(task_id)
            if full.workflow_id == self.workflow_name:
                return full.task_id
        return task_id

    def _moment(self, at: Moment) -> tuple[str | None, str | None]:
        """The moment as (text, task)."""
        if at is None:
            return None, None
        if isinstance(at, bool):
            raise TypeError("a moment is the seq of an event, a time, or a task; not a bool")
        if isinstance(at, int):
            if at < 0:
                raise ValueError(f"the seq of an event is 0 or greater, not {at}")
            return str(at), None
        if isinstance(at, datetime):
            if at.tzinfo is None:
                raise ValueError(f"{at!r} has no time zone; use datetime(…, tzinfo=timezone.utc)")
            return at.astimezone(timezone.utc).isoformat(), None
        if isinstance(at, timedelta):
            if at < timedelta(0):
                raise ValueError("a moment before the start is none")
            return f"+{at // timedelta(microseconds=1)}us", None
        if isinstance(at, (str, TaskNamespace)):
            task_id = self._task_id(at)
            return (None, task_id) if task_id in self.tasks else (str(at), None)
        if callable(at):
            return None, self._task_id(at)
        raise TypeError(f"a moment is the seq of an event, a time, or a task; not {type(at).__name__}")

    def __len__(self) -> int:
        return len(self.events)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return self.execution_id == other.execution_id and self.events == other.events

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return History.from_json, (self.to_json(),)

    def _repr_html_(self) -> str:
        rows = "".join(_row(task) for task in self.tasks.values())
        name, when = html.escape(str(self.workflow_name)), html.escape(self._head["started"])
        return (
            f"<p><b>{name}</b> {html.escape(self.status)}<br><small>{self.execution_id}, {when}</small></p>"
            f"<table><thead><tr><th>seq</th><th>task</th><th>outcome</th><th>attempts</th><th>took</th><th>wrote</th>"
            f"<th>error</th></tr></thead><tbody>{rows}</tbody></table>"
        )

    def __repr__(self) -> str:
        return (
            f"History(execution_id={self.execution_id!r}, workflow_name={self.workflow_name!r}, "
            f"status={self.status!r}, events={self._head['events']})"
        )


def _row(task: TaskHistory) -> str:
    last = task.attempts[-1] if task.attempts else None
    took = "" if last is None or last.duration is None else f"{last.duration.total_seconds():.3f} s"
    wrote = "" if last is None else ", ".join(dict.fromkeys(write["key"] for write in last.writes))
    error = "" if last is None or last.error is None else str(last.error)
    cells = (str(task.first), task.task, task.outcome, str(len(task.attempts)), took, wrote, error)
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
