"""Environment variables that a deployment sets for its workflows."""

from __future__ import annotations

import os

_PREFIX = "CLOACINA_VAR_"


def var(name: str) -> str:
    """Return the environment variable ``CLOACINA_VAR_<name>``.

    Use it for settings and secrets of the machine. They do not belong in a context, which the log stores.

    Raises:
        KeyError: The variable is not set.

    Example:
        >>> import os
        >>> os.environ["CLOACINA_VAR_BROKER"] = "localhost:9092"
        >>> cloaca.var("BROKER")
        'localhost:9092'
        >>> cloaca.var("BORKER")
        Traceback (most recent call last):
        KeyError: "required variable 'BORKER' is not set: set the environment variable CLOACINA_VAR_BORKER"
    """
    try:
        return os.environ[_key(name)]
    except KeyError:
        raise KeyError(f"required variable '{name}' is not set: set the environment variable {_PREFIX}{name}") from None


def var_or(name: str, default: str) -> str:
    """Return the environment variable ``CLOACINA_VAR_<name>``, or ``default`` if it is not set.

    Example:
        >>> cloaca.var_or("REGION", "eu-central-1")
        'eu-central-1'
    """
    return os.environ.get(_key(name), default)


def _key(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a variable must be a str, not {name!r}")
    return _PREFIX + name
