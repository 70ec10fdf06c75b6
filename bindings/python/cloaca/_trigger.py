"""The decorator ``@cloaca.trigger``, the results that triggers return, and the registry of decorated triggers."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, overload

from . import _task
from ._cloaca import Context, TriggerSpec
from ._functions import signature

Function = TypeVar("Function", bound=Callable[..., Any])

_DURATION = re.compile(r"(\d+)(ms|s|m|h)", re.ASCII)
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DEFAULT_INTERVAL = "5s"
# The longest poll interval, in milliseconds: ten years.
_MAX_INTERVAL = 10 * 365 * 24 * 3_600_000


class TriggerResult:
    """The result of a trigger's poll: start the workflow, or skip.

    Example:
        >>> import cloaca
        >>> cloaca.TriggerResult.fire({"file": "a.csv"}).is_fire_result()
        True
        >>> cloaca.TriggerResult.skip()
        TriggerResult.Skip
    """

    __slots__ = ("_context",)

    _context: Context | None

    def __init__(self) -> None:
        raise TypeError("create a TriggerResult with TriggerResult.fire(...) or TriggerResult.skip()")

    @classmethod
    def _of(cls, context: Context | None) -> TriggerResult:
        result = cls.__new__(cls)
        result._context = context
        return result

    @staticmethod
    def skip() -> TriggerResult:
        """Return a result that does not start the workflow.

        Example:
            >>> cloaca.TriggerResult.skip()
            TriggerResult.Skip
        """
        return TriggerResult._of(None)

    @staticmethod
    def fire(context: Context | Mapping[str, Any] | None = None) -> TriggerResult:
        """Return a result that starts the workflow.

        Args:
            context: The workflow's input: a context, or a dict of JSON values. It is copied: later changes have no
                effect.

        Raises:
            TypeError, ValueError: The input is not a context, or not JSON.

        Example:
            >>> cloaca.TriggerResult.fire({"file": "a.csv"})
            TriggerResult.Fire(Context({"file":"a.csv"}))
        """
        return TriggerResult._of(Context(context))

    def is_fire_result(self) -> bool:
        """Return whether this result starts the workflow.

        Example:
            >>> cloaca.TriggerResult.fire().is_fire_result(), cloaca.TriggerResult.skip().is_fire_result()
            (True, False)
        """
        return self._context is not None

    def is_skip_result(self) -> bool:
        """Return whether this result does not start the workflow.

        Example:
            >>> cloaca.TriggerResult.fire().is_skip_result(), cloaca.TriggerResult.skip().is_skip_result()
            (False, True)
        """
        return self._context is None

    @property
    def context(self) -> Context | None:
        """A copy of the workflow's input; ``None`` for a skip.

        Example:
            >>> cloaca.TriggerResult.fire({"file": "a.csv"}).context["file"]
            'a.csv'
            >>> cloaca.TriggerResult.fire().context, cloaca.TriggerResult.skip().context
            (Context({}), None)
        """
        return None if self._context is None else self._context.copy()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TriggerResult):
            return NotImplemented
        return self._context == other._context

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "TriggerResult.Skip" if self._context is None else f"TriggerResult.Fire({self._context!r})"


class Subscriber(Protocol):
    """A runner, notified of triggers that are registered or unregistered while it is open."""

    def _trigger_registered(self, trigger: TriggerSpec) -> None: ...

    def _trigger_unregistered(self, name: str) -> None: ...


class _Triggers:
    """The triggers of the process, by name, and the runners that poll them."""

    def __init__(self) -> None:
        # Re-entrant: a subscriber may be garbage-collected while the lock is held.
        self._lock = threading.RLock()
        self._triggers: dict[str, TriggerSpec] = {}
        self._subscribers: weakref.WeakSet[Subscriber] = weakref.WeakSet()

    def register(self, trigger: TriggerSpec) -> None:
        with self._lock:
            self._triggers[trigger.name] = trigger
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            subscriber._trigger_registered(trigger)

    def unregister(self, name: str) -> None:
        """Remove a trigger, also from every open runner. Used by tests to clean up."""
        with self._lock:
            self._triggers.pop(name, None)
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            subscriber._trigger_unregistered(name)

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._triggers)

    def find(self, name: str) -> TriggerSpec | None:
        with self._lock:
            return self._triggers.get(name)

    def restore(self, snapshot: dict[str, TriggerSpec]) -> None:
        """Replace all registrations by those of a snapshot, without notifying the runners."""
        with self._lock:
            self._triggers = dict(snapshot)

    def subscribe(self, subscriber: Subscriber) -> list[TriggerSpec]:
        """Return the registered triggers, and notify the subscriber of later changes."""
        with self._lock:
            self._subscribers.add(subscriber)
            return list(self._triggers.values())

    def unsubscribe(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._subscribers.discard(subscriber)


triggers = _Triggers()


@overload
def trigger(workflow: Function, /) -> Function: ...


@overload
def trigger(
    workflow: str | None = None,
    *,
    on: str | None = None,
    name: str | None = None,
    poll_interval: str | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    allow_concurrent: bool = False,
) -> Callable[[Function], Function]: ...


def trigger(
    workflow: str | Function | None = None,
    *,
    on: str | None = None,
    name: str | None = None,
    poll_interval: str | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    allow_concurrent: bool = False,
) -> Function | Callable[[Function], Function]:
    """Define a trigger: a function that every runner of this process polls, and that decides when to start a workflow.

    The function is returned unchanged, so unit tests can call it directly. It takes no arguments and returns a
    [`TriggerResult`][cloaca.TriggerResult] or a ``bool``; ``True`` fires with an empty context. It runs on a thread of
    the runner (an ``async def`` function on the runner's event loop); polls of one runner never overlap. An exception
    is logged, and polling continues. Polling starts once the workflow is registered.

    The event log records fires, including dropped ones, but not polls. If the process dies between a poll and its fire,
    the fire is lost: consume messages or files in the workflow, not in the trigger.

    Decorating another function under the same name replaces the trigger.

    Args:
        workflow: The name of the workflow to start. By default that of the enclosing ``with WorkflowBuilder(...)``
            block, and outside of one the trigger's own name.
        on: Another name for ``workflow``.
        name: The trigger's name; by default the function's name.
        poll_interval: The time from the start of one poll to the start of the next: an integer and ``ms``, ``s``, ``m``
            or ``h``. Five seconds by default, unless ``cron`` is given. A poll never starts before the previous one
            ends.
        cron: A cron expression that determines the times of the polls, instead of an interval. A function that returns
            ``None`` then fires too. Times missed while no runner was open are not caught up; for that, use
            [`DefaultRunner.register_cron_workflow`][cloaca.scheduling.Scheduling.register_cron_workflow].
        timezone: The IANA time zone of ``cron``; ``"UTC"`` by default.
        allow_concurrent: Whether to fire while an execution that this trigger started with an equal context is still
            running. By default such a fire is dropped.

    Raises:
        ValueError: An argument is not valid, or two arguments exclude each other.
        TypeError: The function takes parameters, or an argument has the wrong type.

    Example:
        >>> import cloaca, pathlib
        >>> @cloaca.trigger(on="import_file", poll_interval="30s")
        ... def inbox():
        ...     for file in pathlib.Path("inbox").glob("*.csv"):
        ...         return cloaca.TriggerResult.fire({"file": str(file)})
        ...     return cloaca.TriggerResult.skip()
        >>> inbox().is_skip_result()
        True
    """
    if callable(workflow):
        return trigger()(workflow)
    workflow = _workflow_of(workflow, on)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"a trigger's name must be a str, not {name!r}")
    interval_ms = _parse_interval(_DEFAULT_INTERVAL if poll_interval is None else poll_interval)
    by_cron = _cron(cron, timezone, poll_interval)
    if not isinstance(allow_concurrent, bool):
        raise TypeError(f"allow_concurrent must be True or False, not {allow_concurrent!r}")

    def decorate(function: Function) -> Function:
        trigger_name = name if name is not None else getattr(function, "__name__", None)
        if trigger_name is None:
            raise ValueError(f"{function!r} has no name; pass one: @cloaca.trigger(name=...)")
        is_async = _check_signature(function, trigger_name)
        triggers.register(
            TriggerSpec(
                trigger_name,
                workflow or _task.enclosing_workflow() or trigger_name,
                function,
                interval_ms=interval_ms,
                cron=by_cron,
                allow_concurrent=allow_concurrent,
                is_async=is_async,
            )
        )
        return function

    return decorate


def _workflow_of(workflow: object, on: object) -> str | None:
    if workflow is not None and on is not None:
        raise ValueError("pass workflow= or on=, not both: they are the same")
    named = workflow if workflow is not None else on
    if named is not None and not isinstance(named, str):
        raise TypeError(f"the workflow of a trigger must be a name, a str, not {named!r}")
    if named == "":
        raise ValueError("the name of a trigger's workflow cannot be empty")
    return named


def _parse_interval(text: object) -> int:
    if not isinstance(text, str):
        raise TypeError(f'poll_interval must be a str like "5s", not {text!r}')
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"Invalid poll_interval: '{text}' is not an integer and one of ms, s, m, h, as in \"500ms\"")
    millis = int(match[1]) * _UNITS[match[2]]
    if not 0 < millis <= _MAX_INTERVAL:
        raise ValueError(f"Invalid poll_interval: '{text}' must be greater than 0 and at most ten years")
    return millis


def _cron(cron: object, timezone: object, poll_interval: str | None) -> tuple[str, str] | None:
    if cron is None:
        if timezone is not None:
            raise ValueError("timezone= requires cron=")
        return None
    if not isinstance(cron, str):
        raise TypeError(f"cron must be a str, not {cron!r}")
    if poll_interval is not None:
        raise ValueError("pass poll_interval= or cron=, not both")
    if timezone is not None and not isinstance(timezone, str):
        raise TypeError(f"timezone must be a str, not {timezone!r}")
    return cron, "UTC" if timezone is None else timezone


def _check_signature(function: Callable[..., Any], name: str) -> bool:
    """Return whether the function is a coroutine function, after checking that it takes no arguments."""
    import inspect

    is_async, parameters = signature(function, "trigger", name)
    if parameters is None:
        return is_async
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [str(it) for it in parameters if it.default is inspect.Parameter.empty and it.kind not in optional]
    if wanted:
        raise TypeError(f"trigger '{name}' takes {', '.join(wanted)}; a trigger is called without arguments")
    return is_async


def fire_context(name: str, returned: object, *, none_fires: bool) -> Context | None:
    """Return the context that a trigger's return value fires with; ``None`` if it does not fire.

    Raises:
        TypeError: A trigger cannot return this type.
    """
    if isinstance(returned, TriggerResult):
        return returned._context
    if isinstance(returned, bool):
        return Context() if returned else None
    if returned is None and none_fires:
        return Context()
    raise TypeError(
        f"trigger '{name}' returned a value of type {type(returned).__name__}; a trigger returns "
        f"TriggerResult.fire(...), TriggerResult.skip(), True or False"
    )
