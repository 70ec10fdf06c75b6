"""The console scripts of the wheel."""

from __future__ import annotations

import signal
import sys

from ._cloaca import cloaca_main, replay_main


def replay() -> int:
    """Run the program ``replay``, which reads logs and cannot run tasks."""
    # No Python code runs that could raise KeyboardInterrupt: let Ctrl-C end the program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return replay_main(["replay", *sys.argv[1:]])


def cloaca() -> int:
    """Run the program ``cloaca``: ``cloaca log`` manages logs, ``cloaca replay`` is the same as ``replay``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return cloaca_main(["cloaca", *sys.argv[1:]])
