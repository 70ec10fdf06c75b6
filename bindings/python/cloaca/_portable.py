"""Exceptions on their way to another process.

Many exceptions can be pickled and not unpickled, or come back saying something else: pickle calls the class with
``args``, which need not be what its constructor takes. Those are rebuilt without their constructor.
"""

from __future__ import annotations

import pickle
from typing import Any

from ._failure import message_of


def pickled(error: BaseException | None) -> bytes | None:
    """The exception as bytes for `unpickled`; ``None`` if another process could not have it.

    Whatever its class does, this raises nothing.
    """
    if error is None:
        return None
    for form in (_as_it_is, _with_its_arguments, _with_its_message):
        try:
            text = pickle.dumps(form(error))
            if _is_same(_built(text), error):
                return text
        except BaseException:
            # The next form asks less of it.
            continue
    return None


def unpickled(text: bytes | None) -> BaseException | None:
    """The exception in what `pickled` returned; ``None`` if its class cannot be imported here."""
    if text is None:
        return None
    try:
        built = _built(text)
    except BaseException:
        return None
    return built if issubclass(type(built), BaseException) else None


def _as_it_is(error: BaseException) -> Any:
    return error


def _with_its_arguments(error: BaseException) -> Any:
    return type(error), error.args, _state(error)


def _with_its_message(error: BaseException) -> Any:
    return type(error), (message_of(error),), _state(error)


def _state(error: BaseException) -> dict[str, Any]:
    """Those of its attributes that can be pickled and unpickled."""
    kept = {}
    for name, value in object.__getattribute__(error, "__dict__").items():
        try:
            pickle.loads(pickle.dumps(value))
        except BaseException:
            continue
        kept[name] = value
    return kept


def _built(text: bytes) -> BaseException:
    form = pickle.loads(text)
    if type(form) is not tuple:
        built: BaseException = form
        return built
    cls, arguments, state = form
    # The class's own __new__ may take something else, too; that of a built-in exception takes anything.
    base: Any = next(base for base in type.mro(cls) if base.__module__ == "builtins")
    rebuilt: BaseException = base.__new__(cls, *arguments)
    object.__getattribute__(rebuilt, "__dict__").update(state)
    return rebuilt


def _is_same(built: BaseException, error: BaseException) -> bool:
    return type(built) is type(error) and message_of(built) == message_of(error)
