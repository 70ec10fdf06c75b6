"""The history of an execution."""

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
"""A moment in a history: the ``seq`` of an event (the moment after it), a time, the time since the start, or a task's
id or function (the moment after its last event). Also a string in the format of ``replay --at``."""


class History:
    """The history of one execution, read from its log.

    Returned by [`open`][cloaca.History.open], ``result.history()`` and ``execution.history()``. It is an immutable
    snapshot; a log that a runner holds can be read too. No method runs task code, except
    [`rerun`][cloaca.History.rerun]. [`debug`][cloaca.History.debug] returns a context for running it yourself.

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
        """Read the history of an execution from a log.

        Args:
            path: The log, as for a runner: a path or a ``cloaca:///`` URL.
            execution_id: The execution, as for ``replay``: its id, a unique suffix or prefix of it (as shown in
                hints), ``latest`` or ``@``, or ``@-`` for the one before the latest.

        Raises:
            ExecutionNotFoundError: The log has no such execution.
            ConfigurationError: There is no log at that path.
            LogError: The log cannot be read.
            ValueError: The id is malformed or ambiguous.

        Example:
            >>> with cloaca.DefaultRunner("sums.log") as runner:
            ...     execution_id = runner.execute("sum", {"a": 1, "b": 2}).execution_id
            ...     cloaca.History.open("sums.log", execution_id).status  # even while a runner holds the log
            'Completed'
        """
        location = _url.parse(os.fspath(path))
        if location.path is None:
            raise ConfigurationError("cannot open a log in memory; call get_execution(id).history() on its runner")
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
        """The status when the history was read (see [`Execution.status`][cloaca.Execution.status]); ``"unknown"`` if
        the log's index cannot be read.

        Example:
            >>> history.status
            'Completed'
        """
        status: ExecutionStatus | Literal["unknown"] = self._head["status"]
        return status

    @property
    def info(self) -> Mapping[str, Any]:
        """The summary: id, log, workflow, version, status, times, cause, durability, counts and hash.

        Example:
            >>> history.info["events"], history.info["status"]
            (7, 'Completed')
        """
        return dict(self._head)

    @property
    def trouble(self) -> str | None:
        """Why the events could not be read or folded to the end; ``None`` if there was no problem.

        The history up to that point is accessible; any access beyond it raises this text as a ``LogError``.

        Example:
            >>> print(history.trouble)
            None
        """
        return self._native.trouble()

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """All events, in order. See [`cloaca.events`][cloaca.events].

        Example:
            >>> [event.key for event in history.events if isinstance(event, cloaca.events.ContextWritten)]
            ['a', 'b', 'sum']
        """
        return tuple(event_of(raw) for raw in self._native.events())

    @cached_property
    def tasks(self) -> Mapping[str, TaskHistory]:
        """The history of each task, by id, in the order of their first events.

        Example:
            >>> {task_id: task.outcome for task_id, task in history.tasks.items()}
            {'add': 'completed'}
        """
        return {raw["task"]: TaskHistory._of(raw) for raw in self._native.tasks()}

    def state(self, at: Moment = None) -> State:
        """Return the state of the execution at a moment.

        Args:
            at: The ``seq`` of an event, a ``datetime``, a ``timedelta`` since the start, a task's id or function (its
                last event), or a string in the format of ``replay --at``; by default the end.

        Raises:
            MomentNotFoundError: The history has no such moment. (A ``LookupError``.)
            LogError: An earlier event cannot be read: see ``trouble``.
            ValueError: The moment is not valid.

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
        """Return the context at a moment: what a task depending on all tasks completed by then would see.

        The argument and the errors are those of [`state`][cloaca.History.state].

        Example:
            >>> history.context(at=2), history.context()
            (Context({"a":1,"b":2}), Context({"a":1,"b":2,"sum":3}))
        """
        return self._native.context(*self._moment(at))

    def why(self, key: str, at: Moment = None) -> Why:
        """Trace a value back to the input: the writes that it came from.

        Args:
            key: The context key.
            at: The moment, as for [`state`][cloaca.History.state]; by default the end.

        Raises:
            UnknownKeyError: The context never had the key. (A ``KeyError``.)
            MomentNotFoundError: The history has no such moment.

        Example:
            >>> [(step.key, step.value, step.task or "the input") for step in history.why("sum")]
            [('sum', 3, 'add'), ('a', 1, 'the input'), ('b', 2, 'the input')]
        """
        if not isinstance(key, str):
            raise TypeError(f"a context key must be a str, not {type(key).__name__}")
        return Why(Step._of(raw) for raw in self._native.why(key, *self._moment(at)))

    def diff(self, other: History, ignore: Iterable[Literal["order", "attempts", "time"]] = ()) -> Diff:
        """Compare this execution, A, with another, B. Differences in timing alone do not count.

        Args:
            other: The history of B.
            ignore: What not to compare: the ``order`` of the tasks, their numbers of ``attempts``, their ``time``.

        Raises:
            ValueError: ``ignore`` contains another word.

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
            raise TypeError(f"other must be a History, not {type(other).__name__}")
        raw = self._native.diff(other._native, [ignore] if isinstance(ignore, str) else list(ignore))
        return Diff(raw["same"], raw["first"], tuple(raw["input"]), tuple(raw["tasks"]), tuple(raw["context"]))

    def verify(self) -> Verification:
        """Return whether the records are intact and the events consistent, as checked when the history was read.

        Raises:
            ValueError: The history was read from JSON, which lacks the data that the hashes are computed from.

        Example:
            >>> history.verify().ok
            True
        """
        raw = self._native.verify()
        if raw is None:
            raise ValueError("a history read from JSON cannot be verified; open it from its log")
        return Verification(raw["ok"], raw["records"], raw["chained"], raw["folded"], tuple(raw["verdicts"]))

    def to_json(self) -> str:
        """Return the history as a JSON object with ``"format": "cloaca.replay/1"``, as ``replay ID --json`` prints it.

        Example:
            >>> import json
            >>> exported = json.loads(history.to_json())
            >>> exported["format"], len(exported["events"])
            ('cloaca.replay/1', 7)
        """
        return self._native.to_json()

    @classmethod
    def from_json(cls, text: str) -> History:
        """Read a history from the JSON that [`to_json`][cloaca.History.to_json] returned.

        Raises:
            ValueError: The text is not such JSON.

        Example:
            >>> cloaca.History.from_json(history.to_json()) == history
            True
        """
        return cls(NativeHistory.from_json(text))

    def rerun(self, task: TaskReference, attempt: int | None = None) -> Rerun:
        """Call a task's current function with the recorded context of an attempt, and compare what it writes.

        Nothing is written to the log. Side effects of the function (files, requests) happen again.

        Args:
            task: The task's id or function.
            attempt: The number of the attempt; by default the one that completed, or else the last.

        Raises:
            MomentNotFoundError: The task has no such attempt.
            WorkflowValidationError: This process defines no such task.

        Example:
            >>> history.rerun("add").same
            True
            >>> with cloaca.WorkflowBuilder("sum"):  # the current code
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
        """Provide the recorded context of an attempt, to debug the task's function with it.

        The context is a copy: changes are not written to the log, and do not affect
        [`rerun`][cloaca.History.rerun] or later blocks.

        Args:
            task: The task's id or function.
            attempt: The number of the attempt; by default the one that completed, or else the last.

        Example:
            >>> import cloaca
            >>> with cloaca.WorkflowBuilder("halves"):
            ...     @cloaca.task(retry_attempts=1)
            ...     def halve(context):
            ...         context["half"] = context["whole"] / 2
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     history = runner.execute("halves", {"whole": "10"}).history()
            >>> with history.debug("halve") as context:  # call breakpoint() here
            ...     context["whole"]
            '10'
        """
        yield self._native.attempt(self._task_id(task), attempt)[3]

    def _task_id(self, task: TaskReference) -> str:
        """Return the id of a task of this execution, given its id, its full id or its function."""
        from ._references import task_id_of

        task_id = task_id_of(task)
        if task_id not in self.tasks and is_full_id(task_id):
            full = TaskNamespace.from_string(task_id)
            if full.workflow_id == self.workflow_name:
                return full.task_id
        return task_id

    def _moment(self, at: Moment) -> tuple[str | None, str | None]:
        """Return the moment as (text, task), one of them ``None``."""
        if at is None:
            return None, None
        if isinstance(at, bool):
            raise TypeError("at must be the seq of an event, a time or a task, not a bool")
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
                raise ValueError("at must not be before the start of the execution")
            return f"+{at // timedelta(microseconds=1)}us", None
        if isinstance(at, (str, TaskNamespace)):
            task_id = self._task_id(at)
            return (None, task_id) if task_id in self.tasks else (str(at), None)
        if callable(at):
            return None, self._task_id(at)
        raise TypeError(f"at must be the seq of an event, a time or a task, not {type(at).__name__}")

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
