"""Checks for unsupported interpreters.

Free-threaded builds are refused before the native module is loaded, and greenlets in place of threads before anything
is started.
"""

from __future__ import annotations

import _thread
import sys
import threading

_GREENLETS = ("gevent", "eventlet")


def is_free_threaded() -> bool:
    """Return whether this is a free-threaded build of Python.

    Enabling the GIL at run time makes no difference: extension modules are built differently for it.
    """
    flags = getattr(sys, "abiflags", None)
    if flags is not None:
        return "t" in flags
    # Only on Windows before Python 3.14. This is slow elsewhere, because it reads Python's build configuration.
    import sysconfig

    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def check_threads_again() -> None:
    """Check that threads are still native: a program may patch them after it opened a runner. Costs almost nothing.

    Raises:
        Error: As `check_threads`.
    """
    if _thread.start_new_thread is not _START:
        check_threads()


def check_threads() -> None:
    """Check that threads are native.

    Raises:
        Error: gevent or eventlet has patched `threading`.
    """
    functions = (_thread.start_new_thread, *(getattr(threading, name, None) for name in _START_FUNCTIONS))
    _refuse_patched(functions, "threads", "it would wait for its own threads for ever")


def check_loop() -> None:
    """Check that an event loop can wait on a thread of its own.

    Raises:
        Error: gevent has patched `selectors`.
    """
    import selectors

    _refuse_patched((selectors.DefaultSelector,), "selectors", "no coroutine can run on its event loop")


def check_processes() -> None:
    """Check that worker processes can be started and communicated with.

    Raises:
        Error: gevent or eventlet has patched `subprocess` or `socket`.
    """
    import socket
    import subprocess

    _refuse_patched((subprocess.Popen, socket.socket), "processes and sockets", "no task can run in a worker process")


_START = _thread.start_new_thread
_START_FUNCTIONS = ("_start_new_thread", "_start_joinable_thread")


def _refuse_patched(objects: tuple[object, ...], what: str, consequence: str) -> None:
    libraries = {str(getattr(each, "__module__", "")).partition(".")[0] for each in objects}
    for library in _GREENLETS:
        if library in libraries:
            from .errors import OperationError

            raise OperationError(
                f"a runner does not work with Python's {what} monkey-patched by {library}: {consequence}. Open the "
                f"runner in a process that is not patched"
            )


if is_free_threaded():
    raise ImportError(
        f"cloaca does not support free-threaded Python (this is {sys.version.split()[0]}, built without the GIL); use "
        f"the standard build of Python, 3.10 or newer"
    )
