"""The decorator ``@cloaca.task`` and the registry of decorated tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, KeysView, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, overload

from . import _code, _isolation
from ._cloaca import BackoffStrategy, Context, RetryCondition, RetryPolicy, TaskSpec, nearest
from ._functions import signature
from ._references import Reference, remember, resolve, shown
from ._scope import MODULE_LEVEL, Scope, innermost, location_of
from .conditions import Condition, ConditionTree, TaskReference
from .literals import RetryWhen
from .namespace import TaskNamespace

if TYPE_CHECKING:
    from .inputs import Part
    from .literals import Backoff, Isolation, Rule

Function = TypeVar("Function", bound=Callable[..., Any])
RetryOn: TypeAlias = RetryWhen | type[BaseException] | tuple[type[BaseException], ...]

_HANDLE_NAMES = ("handle", "task_handle")
# The upper bound of timeouts, in seconds.
_MAX_TIMEOUT = 10**9


class _RunnersTimeout(float):
    """The default of ``timeout_seconds``: the runner's timeout applies. (``None`` means no timeout.)"""

    def __repr__(self) -> str:
        return "<the runner's task_timeout_seconds>"


# Compared by identity. A float, to match the type of the parameter.
RUNNERS_TIMEOUT = _RunnersTimeout()
_BACKOFFS: dict[str, Callable[[], BackoffStrategy]] = {
    "fixed": BackoffStrategy.fixed,
    "linear": lambda: BackoffStrategy.linear(1.0),
    "exponential": lambda: BackoffStrategy.exponential(2.0),
}
_CONDITIONS: dict[str, Callable[[], RetryCondition]] = {
    "never": RetryCondition.never,
    "transient": RetryCondition.transient_only,
    "all": RetryCondition.all_errors,
}


class Definition(NamedTuple):
    """The definition of a decorated task."""

    spec: TaskSpec
    scope: Scope
    """The scope that it is defined in."""
    references: tuple[Reference, ...]
    """The tasks that it depends on."""
    location: str
    """``file:line`` of its function."""


class _Registry:
    """The tasks decorated at module level, by id."""

    def __init__(self) -> None:
        # Re-entrant: a finalizer or a signal handler may look up a task while the lock is held.
        self._lock = threading.RLock()
        self._tasks: dict[str, Definition] = {}

    def add(self, definition: Definition) -> None:
        with self._lock:
            self._tasks[definition.spec.id] = definition

    def find(self, task_id: str) -> Definition | None:
        with self._lock:
            return self._tasks.get(task_id)

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._tasks)

    def snapshot(self) -> dict[str, Definition]:
        with self._lock:
            return dict(self._tasks)

    def restore(self, snapshot: dict[str, Definition]) -> None:
        with self._lock:
            self._tasks = dict(snapshot)


registry = _Registry()


def enclosing_workflow() -> str | None:
    """Return the name of the workflow whose ``with`` block the caller is in."""
    collector = innermost()
    return collector.name if collector is not None else None


def declare_in_enclosing(part: Part) -> bool:
    """Declare inputs of the workflow whose ``with`` block the caller is in. Return false outside of one."""
    collector = innermost()
    if collector is None:
        return False
    collector._declare(part)
    return True


@overload
def task(function: Function, /) -> Function: ...


@overload
def task(
    function: None = None,
    /,
    *,
    id: str | None = None,
    dependencies: Sequence[TaskReference] | None = None,
    retry: RetryPolicy | None = None,
    retry_attempts: int | None = None,
    retry_backoff: Backoff | None = None,
    retry_delay_ms: int | None = None,
    retry_max_delay_ms: int | None = None,
    retry_condition: RetryOn | None = None,
    retry_jitter: bool | None = None,
    trigger_rules: ConditionTree | None = None,
    trigger_rule: Rule | None = None,
    timeout_seconds: float | None = RUNNERS_TIMEOUT,
    isolation: Isolation | None = None,
    on_success: Callable[[str, Context], object] | None = None,
    on_failure: Callable[[str, str, Context], object] | None = None,
    on_retry: Callable[[str, str, Context, int], object] | None = None,
) -> Callable[[Function], Function]: ...


def task(
    function: Function | None = None,
    /,
    *,
    id: str | None = None,
    dependencies: Sequence[TaskReference] | None = None,
    retry: RetryPolicy | None = None,
    retry_attempts: int | None = None,
    retry_backoff: Backoff | None = None,
    retry_delay_ms: int | None = None,
    retry_max_delay_ms: int | None = None,
    retry_condition: RetryOn | None = None,
    retry_jitter: bool | None = None,
    trigger_rules: ConditionTree | None = None,
    trigger_rule: Rule | None = None,
    timeout_seconds: float | None = RUNNERS_TIMEOUT,
    isolation: Isolation | None = None,
    on_success: Callable[[str, Context], object] | None = None,
    on_failure: Callable[[str, str, Context], object] | None = None,
    on_retry: Callable[[str, str, Context, int], object] | None = None,
    **unknown: Any,
) -> Function | Callable[[Function], Function]:
    """Define a task from a function. The function is returned unchanged, so unit tests can call it directly.

    At module level the task is added to the registry of the process; decorating another function under the same id
    replaces it. Inside ``with WorkflowBuilder(...)`` the task belongs to that workflow, and its id must be unique. A
    module that is imported inside the block defines its tasks at module level.

    The function takes the context, or nothing; a second parameter called ``handle`` or ``task_handle`` receives a
    [`TaskHandle`][cloaca.TaskHandle]. An ``async def`` function runs on the runner's event loop; everything that it
    started there is cancelled when its attempt ends. Each attempt runs in a fresh ``contextvars`` context.

    The function returns ``None`` or its context (its changes to the context are stored), another
    [`Context`][cloaca.Context] (the differences are stored), or a ``dict`` (its keys are set).

    Args:
        id: The task's id; by default the function's name.
        dependencies: A list of ids, full ids or decorated functions. The order matters where several of them wrote the
            same key. For a function that was decorated under several ids, pass the id.
        retry: A complete retry policy; excludes the ``retry_*`` arguments.
        retry_attempts: The maximum number of attempts; 0 and 1 both mean a single one. 3 by default.
        retry_backoff: ``"fixed"``, ``"linear"`` or ``"exponential"`` (the default; doubles the delay).
        retry_delay_ms: The delay after the first failure, in milliseconds. 1,000 by default.
        retry_max_delay_ms: The maximum delay, in milliseconds. 60,000 by default, or ``retry_delay_ms`` if that is
            longer.
        retry_condition: Which errors to retry: ``"never"``, ``"transient"``, ``"all"`` (the default), an exception
            class or a tuple of them. A [`PermanentError`][cloaca.errors.PermanentError] is never retried.
        retry_jitter: Whether to vary each delay randomly by up to 25 %. True by default.
        trigger_rules: A condition tree: see [`cloaca.conditions`][cloaca.conditions].
        trigger_rule: ``"none_failed"`` (the default), ``"all_success"``, ``"all_done"``, ``"all_failed"``,
            ``"one_success"``, ``"one_failed"`` or ``"always"``.
        timeout_seconds: The time limit of an attempt, in seconds; ``None`` is no limit. By default the runner's
            ``task_timeout_seconds``, which is 300. Time in ``handle.defer_until`` does not count. An attempt on a
            thread cannot be stopped: it counts as failed, its result is ignored, and it keeps running beside the next
            attempt until it returns. Check [`handle.is_over`][cloaca.TaskHandle.is_over] to return early.
        isolation: ``"thread"`` (the default) or ``"process"``: attempts run in worker processes, which are spawned,
            reused, and import the function from its module. CPU-bound tasks can then use all cores, a crash fails only
            the attempt ([`WorkerDiedError`][cloaca.errors.WorkerDiedError]), and an attempt that times out or is
            cancelled is killed together with its child processes. The context is passed as JSON. An ``async def``
            function gets an event loop of its own.
        on_success: Called with the task's id and the context after the task, once the task has completed.
        on_failure: Called with the task's id, the error as text and the context that the attempt saw, once the task
            has finally failed.
        on_retry: Called with the task's id, the error as text, the context that the attempt saw, and the number of the
            attempt, when an attempt has failed and will be retried.

    Callbacks run once the outcome is durable and before ``execute`` returns, one at a time within an execution. They
    are lost if the process dies in between. An exception in a callback is logged and otherwise ignored.

    Raises:
        ValueError: An argument is not valid, or two arguments exclude each other.
        TypeError: The function has parameters that a task cannot have, or an argument has the wrong type.

    Example:
        >>> import cloaca
        >>> @cloaca.task(dependencies=["extract"], retry_attempts=5)
        ... def load(context):
        ...     context["rows"] = len(context["data"])
    """
    if function is not None and not callable(function):
        raise TypeError("@cloaca.task takes only keyword arguments, such as @cloaca.task(id=...)")
    if unknown:
        from ._missing import keyword_message

        raise TypeError(keyword_message("@cloaca.task", next(iter(unknown)), list(task.__kwdefaults__ or ())))
    policy = _policy(
        retry,
        retry_attempts=retry_attempts,
        retry_backoff=retry_backoff,
        retry_delay_ms=retry_delay_ms,
        retry_max_delay_ms=retry_max_delay_ms,
        retry_condition=retry_condition,
        retry_jitter=retry_jitter,
    )
    rule = _rule(trigger_rule, trigger_rules)
    timeout_ms = _timeout(timeout_seconds)
    if id is not None and (not isinstance(id, str) or not id):
        raise ValueError("a task id cannot be empty" if id == "" else f"a task id must be a str, not {id!r}")
    timeout_off = timeout_seconds is None
    in_process = _isolation.is_process(isolation)
    references = _dependencies(dependencies)
    _check_callbacks(on_success=on_success, on_failure=on_failure, on_retry=on_retry)

    def decorate(function: Function) -> Function:
        task_id = id if id is not None else getattr(function, "__name__", None)
        if task_id is None:
            raise ValueError(f"{function!r} has no name; pass an id: @cloaca.task(id=...)")
        is_async, parameters = _signature(function, task_id)
        if in_process:
            _isolation.check_name(function, task_id)
        spec = TaskSpec(
            task_id,
            function,
            dependencies=[reference.task_id for reference in references],
            rule=rule,
            retry=policy,
            timeout_ms=timeout_ms,
            timeout_off=timeout_off,
            code=_code.fingerprint(function),
            source=_code.source(function),
            parameters=parameters,
            is_async=is_async,
            in_process=in_process,
            on_success=on_success,
            on_failure=on_failure,
            on_retry=on_retry,
        )
        collector = innermost()
        scope = collector._scope if collector is not None else MODULE_LEVEL
        definition = Definition(spec, scope, references, location_of(function))
        if collector is not None:
            collector._collect(definition)
        else:
            registry.add(definition)
        remember(function, task_id, scope)
        return function

    return decorate if function is None else decorate(function)


def _check_callbacks(**callbacks: Any) -> None:
    import inspect

    for name, callback in callbacks.items():
        if callback is None:
            continue
        if not callable(callback):
            raise TypeError(f"{name} must be a function, not {callback!r}")
        if inspect.iscoroutinefunction(callback):
            raise TypeError(f"{name} must be a plain function, but {shown(callback)} is a coroutine function")


def _is_single(dependencies: object) -> bool:
    """Return whether the argument is a single dependency instead of a list."""
    return isinstance(dependencies, (str, bytes, TaskNamespace)) or callable(dependencies)


def _dependencies(dependencies: Sequence[TaskReference] | None) -> tuple[Reference, ...]:
    if dependencies is None:
        return ()
    if _is_single(dependencies):
        raise TypeError(f"dependencies must be a list of ids or functions: dependencies=[{shown(dependencies)}]")
    if isinstance(dependencies, Set) and not isinstance(dependencies, KeysView):
        raise TypeError(
            f"dependencies must be a list, not a {type(dependencies).__name__}: the order decides which value is kept "
            f"where several of them wrote the same key"
        )
    if not isinstance(dependencies, Sequence):
        kind = type(dependencies).__name__
        raise TypeError(f"dependencies must be a list of ids or functions, not {kind}: dependencies=list(...)")
    references = tuple(resolve(dependency) for dependency in dependencies)
    seen: set[str] = set()
    for reference in references:
        if reference.task_id in seen:
            raise ValueError(f"dependencies contain task '{reference.task_id}' twice")
        seen.add(reference.task_id)
    return references


def _policy(retry: RetryPolicy | None, **given: Any) -> RetryPolicy:
    named = [name for name, value in given.items() if value is not None]
    if retry is not None:
        if named:
            raise ValueError(f"pass retry= or {', '.join(named)}, not both")
        if not isinstance(retry, RetryPolicy):
            raise TypeError(f"retry must be a RetryPolicy, not {type(retry).__name__}; use RetryPolicy.builder()")
        return retry
    builder = RetryPolicy.builder()
    attempts, jitter = given["retry_attempts"], given["retry_jitter"]
    if attempts is not None:
        builder = builder.max_attempts(_count("retry_attempts", attempts))
    if given["retry_delay_ms"] is not None:
        builder = builder.initial_delay(_count("retry_delay_ms", given["retry_delay_ms"]) / 1000)
    if given["retry_max_delay_ms"] is not None:
        builder = builder.max_delay(_count("retry_max_delay_ms", given["retry_max_delay_ms"]) / 1000)
    if given["retry_backoff"] is not None:
        builder = builder.backoff_strategy(_choice("retry_backoff", given["retry_backoff"], _BACKOFFS)())
    if given["retry_condition"] is not None:
        builder = builder.retry_condition(_retry_on(given["retry_condition"]))
    if jitter is not None:
        if not isinstance(jitter, bool):
            raise TypeError(f"retry_jitter must be True or False, not {jitter!r}")
        builder = builder.with_jitter(jitter)
    return builder.build()


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be from 0 to {2**32 - 1}, not {value}")
    return value


Choice = TypeVar("Choice")


def _choice(name: str, value: object, choices: dict[str, Choice]) -> Choice:
    listed = ", ".join(f'"{known}"' for known in choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}, not {value!r}")
    if value not in choices:
        near = nearest(value, list(choices))
        hint = f'; did you mean "{near}"?' if near else ""
        raise ValueError(f'{name} must be one of {listed}, not "{value}"{hint}')
    return choices[value]


def _retry_on(condition: object) -> RetryCondition:
    classes: Sequence[object] = condition if isinstance(condition, tuple) else (condition,)
    if classes and all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in classes):
        from ._failure import type_names

        return RetryCondition.error_types([type_names(cls)[-1] for cls in classes if isinstance(cls, type)])
    if not isinstance(condition, str):
        raise TypeError(
            f'retry_condition must be "never", "transient" or "all", an exception class or a tuple of them, '
            f"not {condition!r}"
        )
    return _choice("retry_condition", condition, _CONDITIONS)()


def _rule(name: str | None, tree: ConditionTree | None) -> Any:
    if name is not None and tree is not None:
        raise ValueError("pass trigger_rule= or trigger_rules=, not both")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"trigger_rule must be the name of a rule, not {name!r}; trigger_rules takes a condition tree")
    if tree is None:
        return name if name is not None else "none_failed"
    return Condition.parse(tree)


def _timeout(seconds: float | None) -> int | None:
    if seconds is None or seconds is RUNNERS_TIMEOUT:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"timeout_seconds must be a number, not {seconds!r}")
    if not 0 < seconds < _MAX_TIMEOUT:
        bound = "greater than 0" if not seconds > 0 else f"less than {_MAX_TIMEOUT} (about 31 years)"
        raise ValueError(f"timeout_seconds must be {bound}, not {seconds!r}; None means no timeout")
    return max(1, round(seconds * 1000))


def _is_in_class(function: Callable[..., Any]) -> bool:
    """Return whether a plain function is defined in the body of a class."""
    parent = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(parent) and not parent.endswith("<locals>") and getattr(function, "__self__", None) is None


def _signature(function: Callable[..., Any], task_id: str) -> tuple[bool, int]:
    """Return whether it is a coroutine function, and how many of (context, handle) it takes."""
    import inspect

    is_async, parameters = signature(function, "task", task_id)
    if parameters is None:
        return is_async, 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    if positional and positional[0].name in _HANDLE_NAMES:
        raise TypeError(
            f"the first parameter of task '{task_id}' is called '{positional[0].name}', but gets the context; a task "
            f"that needs a handle takes both: (context, {positional[0].name})"
        )
    taken = positional[:1]
    if len(positional) > 1 and positional[1].name in _HANDLE_NAMES:
        taken = positional[:2]
    if positional and positional[0].name in ("self", "cls") and _is_in_class(function):
        name = getattr(function, "__qualname__", task_id)
        raise TypeError(
            f"task '{task_id}' is a method: its parameter '{positional[0].name}' would get the context. Make {name} a "
            f"@staticmethod, with @cloaca.task below it, or decorate the method of an object: "
            f"cloaca.task(id='{task_id}')(the_object.{name.rpartition('.')[2]})"
        )
    surplus = [str(parameter) for parameter in parameters if parameter not in taken]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if surplus and any(parameter.kind in variadic for parameter in parameters):
        raise TypeError(
            f"task '{task_id}' has parameters that a task cannot have: {', '.join(surplus)}. If another decorator "
            f"wraps the function, use functools.wraps in it to keep the function's signature"
        )
    if surplus:
        raise TypeError(
            f"task '{task_id}' has parameters that a task cannot have: {', '.join(surplus)}. A task takes nothing, the "
            f"context, or the context and a second parameter called 'handle' or 'task_handle'"
        )
    return is_async, len(taken)
