"""Refuses an interpreter that this package is not made for: free-threaded, before anything native is loaded; or with
greenlets in the place of threads, before anything is started."""

from __future__ import annotations

import _thread
import sys
import threading

_GREENLETS = ("gevent", "eventlet")


def is_free_threaded() -> bool:
    """Whether this is a build of Python without the GIL. (Whether the GIL is switched on again makes no difference:
    other extension modules are built for it.)"""
    flags = getattr(sys, "abiflags", None)
    if flags is not None:
        return "t" in flags
    # On Windows, before Python 3.14. Elsewhere this would be slow: it reads how Python was built.
    import sysconfig

    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def check_threads() -> None:
    """Makes sure that a thread is a thread.

    Raises:
        Error: gevent or eventlet has patched `threading`.
    """
    starts = (_thread.start_new_thread, *(getattr(threading, name, None) for name in _STARTS))
    _refuse(starts, "threads", "it would wait for its own threads for ever")


def check_loop() -> None:
    """Makes sure that an event loop can wait on a thread of its own.

    Raises:
        Error: gevent has patched `selectors`.
    """
    import selectors

    _refuse((selectors.DefaultSelector,), "selectors", "no coroutine can run on its event loop")


def check_processes() -> None:
    """Makes sure that worker processes can be started and talked to.

    Raises:
        Error: gevent or eventlet has patched `subprocess` or `socket`.
    """
    import socket
    import subprocess

    _refuse((subprocess.Popen, socket.socket), "processes and sockets", "no task can run in a worker process")


_STARTS = ("_start_new_thread", "_start_joinable_thread")


def _refuse(parts: tuple[object, ...], what: str, so: str) -> None:
    libraries = {str(getattr(part, "__module__", "")).partition(".")[0] for part in parts}
    for library in _GREENLETS:
        if library in libraries:
            from .errors import Error

            raise Error(
                f"{library} has replaced Python's {what} by its own (monkey patching), with which a runner does not "
                f"work: {so}. Open the runner in a process that is not patched"
            )


if is_free_threaded():
    raise ImportError(
        f"cloaca does not support free-threaded Python (this is {sys.version.split()[0]}, built without the GIL): its "
        f"native module was not tested there. Use the ordinary build of Python, 3.10 or newer"
    )
