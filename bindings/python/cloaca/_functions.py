"""What a decorator has to know of the function that it is put on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect


def shape(function: Callable[..., Any], what: str, name: str) -> tuple[bool, list[inspect.Parameter] | None]:
    """Whether a function is a coroutine function, and its parameters; ``None`` if it does not tell them.

    Args:
        function: What was decorated.
        what: What it becomes, for messages: ``task`` or ``trigger``.
        name: Under which name.

    Raises:
        TypeError: It cannot be called, or it is a generator function.
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
