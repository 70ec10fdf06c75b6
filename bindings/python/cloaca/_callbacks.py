"""The callbacks of tasks: ``on_success``, ``on_failure`` and ``on_retry``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from ._cloaca import Context, Ending, Endings
from .errors import ContextError, Error, TaskTimeoutError

OnSuccess: TypeAlias = Callable[[str, Context], object]
OnFailure: TypeAlias = Callable[[str, BaseException, Context], object]
OnRetry: TypeAlias = Callable[[str, BaseException, Context, int], object]

#: What each is called with.
_ARGUMENTS = {
    "on_success": ("task_id", "context"),
    "on_failure": ("task_id", "error", "context"),
    "on_retry": ("task_id", "error", "context", "attempt"),
}

#: Errors that the engine makes, and what they are in Python.
_OWN: dict[str, type[Error]] = {"TaskTimeoutError": TaskTimeoutError, "ValueTooLarge": ContextError}

#: The execution whose callback runs here.
_inside: ContextVar[str | None] = ContextVar("cloaca_callback_of", default=None)


class Raised(Protocol):
    """Where the exceptions are that tasks of this process raised."""

    def take(self, execution_id: str, task_id: str, attempt: int, *, keep: bool) -> BaseException | None: ...


def check(name: str, callback: Any) -> None:
    """Checks a callback where it is given, not when it is needed.

    Raises:
        TypeError: It cannot be called, or not with what it will be called with.
    """
    arguments = _ARGUMENTS[name]
    if not callable(callback):
        raise TypeError(f"{name} must be a function of ({', '.join(arguments)}), not {callback!r}")
    import inspect

    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):
        # Nothing is known of it.
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        shown = getattr(callback, "__name__", repr(callback))
        raise TypeError(f"{name} is called with ({', '.join(arguments)}); {shown}{signature}: {error}") from None


def refuse_own_wait(execution_id: str) -> None:
    """A callback cannot wait for its own execution, which waits for the callback.

    Raises:
        Error: It does.
    """
    if _inside.get() == execution_id:
        raise Error(
            f"a callback cannot wait for its own execution {execution_id}, which ends after its callbacks",
            execution_id=execution_id,
        )


def tell(endings: Endings, raised: Raised, run_coroutine: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
    """Calls the callbacks of one task, in order. What they raise is logged, and changes nothing."""
    while (ending := endings.next()) is not None:
        inside = _inside.set(ending.execution_id)
        try:
            _call(ending, raised, run_coroutine)
        except BaseException:
            # SystemExit too: a callback ends neither a thread nor the program.
            import logging

            logging.getLogger("cloaca.runner").exception(
                "%s of task '%s' (attempt %d) raised; that changes nothing",
                ending.name,
                ending.task_id,
                ending.attempt,
            )
        finally:
            _inside.reset(inside)
            ending.done()


def _call(ending: Ending, raised: Raised, run_coroutine: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
    callback, name = ending.callback, ending.name
    if callback is None:
        return
    arguments: tuple[object, ...] = (ending.task_id, ending.context)
    if name != "on_success":
        error = _error(ending, raised, keep=name == "on_failure")
        arguments = (ending.task_id, error, ending.context)
    if name == "on_retry":
        arguments = (*arguments, ending.attempt)
    returned = callback(*arguments)
    if isinstance(returned, Coroutine):
        run_coroutine(returned)


def _error(ending: Ending, raised: Raised, *, keep: bool) -> BaseException:
    """What the attempt raised; made from the record where the object is gone, or was never there."""
    kind, message, _, _, _, hint = ending.error or ("Error", "", None, [], False, None)
    error = raised.take(ending.execution_id, ending.task_id, ending.attempt, keep=keep)
    # An attempt that timed out may have raised something later; that is not why it failed.
    if error is not None and type(error).__name__ == kind:
        return error
    own = _OWN.get(kind)
    text = message if own is not None else ": ".join(part for part in (kind, message) if part)
    if hint:
        text += f" ({hint})"
    return (own or Error)(text, execution_id=ending.execution_id, task_id=ending.task_id, attempt=ending.attempt)
