"""Checks whether a function can run in a worker process, and how that process imports it.

A worker process is spawned, never forked, and imports what it runs, like a spawned process of `multiprocessing`. So the
function must be importable by its name.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from ._cloaca import TaskSpec

_WORDS = ("thread", "process")

# The task for which a worker process imports the program's modules; ``None`` when it does not. The modules must not
# open a runner during the import.
importing_for: str | None = None


def is_process(isolation: str | None) -> bool:
    """Return whether an `isolation` argument means worker processes.

    Raises:
        TypeError, ValueError: The argument is not valid.
    """
    if isolation is None or isolation == "thread":
        return False
    listed = " or ".join(f'"{word}"' for word in _WORDS)
    if not isinstance(isolation, str):
        raise TypeError(f"isolation must be {listed}, not {isolation!r}")
    if isolation != "process":
        raise ValueError(f'isolation must be {listed}, not "{isolation}"')
    return True


def check_name(function: Callable[..., Any], task_id: str) -> None:
    """Check what can be checked when a function is decorated.

    Raises:
        ValueError: It is a lambda, or defined inside another function.
    """
    name = getattr(function, "__qualname__", "")
    kind = None
    if "<lambda>" in name:
        kind = "a lambda"
    elif "<locals>" in name:
        kind = "defined inside a function"
    if kind is not None:
        raise ValueError(
            f"task '{task_id}' cannot run in a worker process: {name} is {kind}, so the process cannot import it. "
            f"Define it with def at the top level of a module"
        )


def problem(spec: TaskSpec) -> str | None:
    """Return why a worker process cannot import a task's function; ``None`` if it can."""
    if not spec.in_process:
        return None
    try:
        text = pickled(spec.function)
    except Exception as error:
        return (
            f"task '{spec.id}' cannot run in a worker process, which cannot import its function: {error}. Define it "
            f"with def at the top level of a module, with @cloaca.task as its outermost decorator"
        )
    if needs_main(text) and not _main_can_be_imported():
        return (
            f"task '{spec.id}' cannot run in a worker process: it was defined in an interactive session, which the "
            f"process cannot import. Move it into a module"
        )
    if needs_main(text) and is_under_main_guard(spec.function):
        return (
            f"task '{spec.id}' cannot run in a worker process: it is defined below `if __name__ == \"__main__\":`, "
            f"which is not executed when the process imports the program. Define it above that line"
        )
    return None


def is_under_main_guard(function: Callable[..., Any]) -> bool:
    """Return whether a function is defined in the main module's ``if __name__ == "__main__":`` block."""
    import ast
    import inspect

    code = getattr(inspect.unwrap(function), "__code__", None)
    path = getattr(sys.modules["__main__"], "__file__", None)
    if code is None or path is None or code.co_filename != path:
        return False
    try:
        with open(path, "rb") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return False
    guards = (node for node in body if isinstance(node, ast.If) and "__name__" in ast.dump(node.test))
    lines = ((node.body[0].lineno, node.body[-1].end_lineno or 0) for node in guards)
    # A decorated function starts at its first decorator, which may be the line before the block's first node.
    return any(first - 1 <= code.co_firstlineno <= last for first, last in lines)


def pickled(function: Callable[..., Any]) -> bytes:
    """Pickle a function: the result contains its name, by which another process imports it."""
    import pickle

    return pickle.dumps(function)


def needs_main(pickled: bytes) -> bool:
    """Return whether unpickling the function requires the program's main module."""
    return b"__main__" in pickled


def _main_can_be_imported() -> bool:
    main = sys.modules["__main__"]
    spec_name = getattr(getattr(main, "__spec__", None), "name", None)
    path = getattr(main, "__file__", None)
    return spec_name is not None or (path is not None and not path.startswith("<"))


def preparation() -> dict[str, Any]:
    """Return the preparation data for a worker process, in the format of `multiprocessing.spawn`."""
    import os

    data: dict[str, Any] = {"name": "cloaca-worker", "sys_path": list(sys.path), "sys_argv": list(sys.argv)}
    # If the directory was deleted, the worker keeps its own.
    with contextlib.suppress(OSError):
        data["dir"] = os.getcwd()
    main = sys.modules["__main__"]
    spec_name = getattr(getattr(main, "__spec__", None), "name", None)
    path = getattr(main, "__file__", None)
    if spec_name is not None:
        data["init_main_from_name"] = spec_name
    elif path is not None:
        data["init_main_from_path"] = os.path.abspath(path)
    return data
