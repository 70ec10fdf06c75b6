"""The console scripts of the wheel."""

from __future__ import annotations

import signal
import sys

from ._cloaca import cloaca_main, replay_main


def replay() -> int:
    """The program ``replay``. It reads logs, and cannot run a task."""
    # Nothing of Python runs that could raise KeyboardInterrupt: Ctrl-C ends the program, as it ends any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return replay_main(["replay", *sys.argv[1:]])


def cloaca() -> int:
    """The program ``cloaca``: ``cloaca log`` changes what is in a log, ``cloaca replay`` is the program ``replay``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return cloaca_main(["cloaca", *sys.argv[1:]])
