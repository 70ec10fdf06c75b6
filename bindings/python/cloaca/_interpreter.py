"""Refuses an interpreter that this package is not made for, before anything native is loaded."""

from __future__ import annotations

import sys


def is_free_threaded() -> bool:
    """Whether this is a build of Python without the GIL. (Whether the GIL is switched on again makes no difference:
    other extension modules are built for it.)"""
    flags = getattr(sys, "abiflags", None)
    if flags is not None:
        return "t" in flags
    # On Windows, before Python 3.14. Elsewhere this would be slow: it reads how Python was built.
    import sysconfig

    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


if is_free_threaded():
    raise ImportError(
        f"cloaca does not support free-threaded Python (this is {sys.version.split()[0]}, built without the GIL): its "
        f"native module was not tested there. Use the ordinary build of Python, 3.10 or newer"
    )
