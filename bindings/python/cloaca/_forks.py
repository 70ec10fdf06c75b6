"""A fork that a task made, and that came out of the task's function: the attempt is its parent's."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from . import _failure


def flush_output() -> None:
    """Has what was printed appear."""
    for stream in (sys.stdout, sys.stderr):
        # They may be closed, or the program's own code.
        with contextlib.suppress(Exception):
            stream.flush()


def leave(error: BaseException | None) -> NoReturn:
    """Ends the fork, as the end of a program does, with what it raised on standard error. It reports to nobody, and
    nothing else of its parent's runs in it."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = 1
        with contextlib.suppress(Exception):
            sys.stderr.write(_failure.describe(error)[2] or "")
    flush_output()
    os._exit(code & 0xFF)
