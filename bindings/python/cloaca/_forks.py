"""Handling of forks that a task created and that return from the task's function: the attempt belongs to the parent."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from . import _failure


def flush_output() -> None:
    """Flush standard output and standard error."""
    for stream in (sys.stdout, sys.stderr):
        # They may be closed, or replaced by the program.
        with contextlib.suppress(Exception):
            stream.flush()


def exit_fork(error: BaseException | None) -> NoReturn:
    """Exit the fork as a program would, printing the traceback of its exception to standard error.

    The fork reports no outcome, and runs no further code of the parent.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = 1
        with contextlib.suppress(Exception):
            sys.stderr.write(_failure.describe(error)[2] or "")
    flush_output()
    os._exit(code & 0xFF)
