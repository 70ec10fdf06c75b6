"""The console script of the wheel. The program ``replay`` is in the wheel as it is."""

from __future__ import annotations

import signal
import sys

from ._cloaca import cloaca_main


def cloaca() -> int:
    """Run the program ``cloaca``: ``cloaca log`` changes a log, ``cloaca replay`` does what ``replay`` does."""
    # No Python code that could raise KeyboardInterrupt runs here: Ctrl-C ends the program, like any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return cloaca_main(["cloaca", *sys.argv[1:]])
