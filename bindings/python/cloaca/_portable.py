"""Pickling of exceptions for another process.

Many exceptions can be pickled but not unpickled, or change their text: pickle calls the class with ``args``, which may
not be the constructor's arguments. Such exceptions are rebuilt without calling their constructor.
"""

from __future__ import annotations

import pickle
from typing import Any

from ._failure import message_of


def pickled(error: BaseException | None) -> bytes | None:
    """Return the exception as bytes for `unpickled`; ``None`` if it cannot be pickled.

    Never raises, whatever the exception's class does.
    """
    if error is None:
        return None
    for form in (_unchanged, _with_arguments, _with_message):
        try:
            data = pickle.dumps(form(error))
            if _is_same(_rebuild(data), error):
                return data
        except BaseException:
            # The next form requires less of the exception.
            continue
    return None


def unpickled(data: bytes | None) -> BaseException | None:
    """Return the exception pickled by `pickled`; ``None`` if its class cannot be imported here."""
    if data is None:
        return None
    try:
        error = _rebuild(data)
    except BaseException:
        return None
    return error if issubclass(type(error), BaseException) else None


def _unchanged(error: BaseException) -> Any:
    return error


def _with_arguments(error: BaseException) -> Any:
    return type(error), error.args, _state(error)


def _with_message(error: BaseException) -> Any:
    return type(error), (message_of(error),), _state(error)


def _state(error: BaseException) -> dict[str, Any]:
    """Return those of its attributes that can be pickled and unpickled."""
    kept = {}
    for name, value in object.__getattribute__(error, "__dict__").items():
        try:
            pickle.loads(pickle.dumps(value))
        except BaseException:
            continue
        kept[name] = value
    return kept


def _rebuild(data: bytes) -> BaseException:
    form = pickle.loads(data)
    if type(form) is not tuple:
        unchanged: BaseException = form
        return unchanged
    cls, arguments, state = form
    # The class may override __new__ with other parameters; that of a built-in exception accepts any.
    base: Any = next(base for base in type.mro(cls) if base.__module__ == "builtins")
    rebuilt: BaseException = base.__new__(cls, *arguments)
    object.__getattribute__(rebuilt, "__dict__").update(state)
    return rebuilt


def _is_same(rebuilt: BaseException, error: BaseException) -> bool:
    return type(rebuilt) is type(error) and message_of(rebuilt) == message_of(error)
