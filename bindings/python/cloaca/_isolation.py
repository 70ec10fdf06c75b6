"""Which functions can run in another process, and how that process finds them.

A worker process is started anew (spawned, never forked) and imports what it runs, as the processes of
`multiprocessing` do when they are spawned. So the function has to have a name that leads to it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from ._cloaca import TaskSpec

_WORDS = ("thread", "process")

# Set in a worker process while it imports the program's modules: they must not open a runner then.
importing_for: str | None = None


def is_process(isolation: str | None) -> bool:
    """Whether the word means worker processes.

    Raises:
        TypeError, ValueError: It is none of the words.
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
    """What can be seen when a function is decorated.

    Raises:
        ValueError: It is a lambda, or was defined inside another function.
    """
    name = getattr(function, "__qualname__", "")
    kind = None
    if "<lambda>" in name:
        kind = "a lambda"
    elif "<locals>" in name:
        kind = "defined inside a function"
    if kind is not None:
        raise ValueError(
            f"task '{task_id}' cannot run in a worker process: {name} is {kind}, and the process could not import it. "
            f"Define it with def at the top level of a module"
        )


def problem(spec: TaskSpec) -> str | None:
    """Why a worker process would not find a task's function; ``None`` if it will."""
    if not spec.in_process:
        return None
    try:
        text = pickled(spec.function)
    except Exception as error:
        return (
            f"task '{spec.id}' cannot run in a worker process, which could not import its function: {error}. Define it "
            f"with def at the top level of a module, with @cloaca.task as its outermost decorator"
        )
    if needs_main(text) and not _main_can_be_imported():
        return (
            f"task '{spec.id}' cannot run in a worker process: it was defined in an interactive session, which the "
            f"process cannot import. Put it into a module"
        )
    if needs_main(text) and is_under_main_guard(spec.function):
        return (
            f"task '{spec.id}' cannot run in a worker process: it is defined below `if __name__ == \"__main__\":`, "
            f"which a process that imports the program does not run. Define it above that line"
        )
    return None


def is_under_main_guard(function: Callable[..., Any]) -> bool:
    """Whether a function of the main module stands in its ``if __name__ == "__main__":`` block."""
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
    # A decorated function begins at its first decorator, whose line the block's first node may not count.
    return any(first - 1 <= code.co_firstlineno <= last for first, last in lines)


def pickled(function: Callable[..., Any]) -> bytes:
    """The function's name, or what else leads another process to it."""
    import pickle

    return pickle.dumps(function)


def needs_main(pickled: bytes) -> bool:
    """Whether the program's main module is needed to find it."""
    return b"__main__" in pickled


def _main_can_be_imported() -> bool:
    main = sys.modules["__main__"]
    spec_name = getattr(getattr(main, "__spec__", None), "name", None)
    path = getattr(main, "__file__", None)
    return spec_name is not None or (path is not None and not path.startswith("<"))


def preparation() -> dict[str, Any]:
    """What a worker process has to know of this one, in the words of `multiprocessing.spawn`."""
    import os

    data: dict[str, Any] = {"name": "cloaca-worker", "sys_path": list(sys.path), "sys_argv": list(sys.argv)}
    # It may be gone; then the worker stays where it is.
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
