"""The handler for interpreter exit: shuts runners down, and releases the references to the program's objects.

It is registered when ``cloaca`` is imported. Handlers run last in, first out: those registered after the import can
still open and use runners.
"""

from __future__ import annotations

import atexit
import sys


def _at_exit() -> None:
    from . import _cloaca

    _cloaca.exit_begins()
    # Do not import modules here: a program that only defines tasks has neither runners nor logging.
    host = sys.modules.get("cloaca._host")
    if host is not None:
        host.shut_down_all()
        sys.modules["cloaca._logging"].stop()
    _cloaca.runners_closed()
    # Registered functions keep the globals of their modules alive. Without this, the interpreter would not free the
    # program's objects, and buffered data of open files would be lost.
    for module, registry in (("_task", "registry"), ("workflow", "workflows"), ("_trigger", "triggers")):
        if (imported := sys.modules.get(f"cloaca.{module}")) is not None:
            getattr(imported, registry).restore({})


atexit.register(_at_exit)
