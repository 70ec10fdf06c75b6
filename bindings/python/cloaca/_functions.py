"""Inspection of the functions that the decorators are applied to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect


def signature(function: Callable[..., Any], what: str, name: str) -> tuple[bool, list[inspect.Parameter] | None]:
    """Return whether a function is a coroutine function, and its parameters; ``None`` if it has no signature.

    Args:
        function: The decorated function.
        what: ``task`` or ``trigger``, for messages.
        name: The name of the task or trigger, for messages.

    Raises:
        TypeError: It is not callable, or it is a generator function.
    """
    import inspect

    if not callable(function):
        raise TypeError(f"@cloaca.{what} decorates functions, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{what} '{name}' is a generator function; a {what} returns, it does not yield")
    call = getattr(type(function), "__call__", None)  # noqa: B004 - an object with an async __call__ is async
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    try:
        return is_async, list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return is_async, None
