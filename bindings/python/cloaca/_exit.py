"""The end of the interpreter: runners are shut down, and the package lets go of what it keeps of the program.

The handler is registered when ``cloaca`` is imported, and handlers run last in, first out: whatever is registered after
the import can still use runners, and open them.
"""

from __future__ import annotations

import atexit
import sys


def _at_exit() -> None:
    from . import _cloaca

    _cloaca.exit_begins()
    # Only what was imported: a program that defines tasks and runs none has neither runners nor logging.
    host = sys.modules.get("cloaca._host")
    if host is not None:
        host.shut_down_all()
        sys.modules["cloaca._logging"].stop()
    _cloaca.exit_is_near()
    # Functions keep the globals of their module alive: with them registered, the interpreter would free none of the
    # program's objects, and an open file would lose what it has not written yet.
    for module, registry in (("_task", "registry"), ("workflow", "workflows"), ("_trigger", "triggers")):
        if (imported := sys.modules.get(f"cloaca.{module}")) is not None:
            getattr(imported, registry).restore({})


atexit.register(_at_exit)
