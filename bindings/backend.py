"""The build backend of the package: maturin, after the program ``replay`` was built for the wheel.

maturin packs either a Python module or programs, not both. So cargo builds the program first, and maturin packs it
with the files of ``[tool.maturin] data``, where a wheel has the programs that are no Python scripts.

    python bindings/backend.py [--profile PROFILE]

builds the program alone; ``make build`` and ``make develop`` go on with maturin's own commands.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: What ``[tool.maturin] data`` names, by the layout of a wheel.
SCRIPTS = HERE / "data" / "scripts"


def build_program(profile: str = "release") -> None:
    """Build ``replay`` and put it where maturin packs it from.

    It is built as one of two packages, so that its dependencies have the features that they have in the module, and
    are compiled once for both.

    Raises:
        SystemExit: This Python has no GIL, or cargo failed; cargo has said why.
    """
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        sys.exit(
            "cloaca does not support free-threaded Python (a build without the GIL). "
            "Build it with an ordinary Python, 3.10 or newer."
        )
    command = ["cargo", "build", "--quiet", "--locked", "--profile", profile]
    command += ["--package", "cloacina-replay", "--package", "cloaca", "--bin", "replay"]
    command += ["--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        sys.exit(built.returncode)
    artifacts = (json.loads(line) for line in built.stdout.splitlines())
    programs = [artifact["executable"] for artifact in artifacts if artifact.get("executable")]
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(programs[-1], SCRIPTS)


def build_wheel(directory: str, settings: dict[str, Any] | None = None, metadata: str | None = None) -> str:
    """Build the wheel, for ``pip wheel`` and ``pip install`` (PEP 517)."""
    import maturin  # type: ignore[import-untyped]  # It has no types.

    build_program()
    name: str = maturin.build_wheel(directory, settings, metadata)
    return name


def build_editable(directory: str, settings: dict[str, Any] | None = None, metadata: str | None = None) -> str:
    """Build a wheel that leads to the sources, for ``pip install --editable`` (PEP 660)."""
    import maturin

    build_program()
    name: str = maturin.build_editable(directory, settings, metadata)
    return name


def get_requires_for_build_wheel(settings: dict[str, Any] | None = None) -> list[str]:
    """Name nothing more than ``[build-system] requires`` does."""
    return []


get_requires_for_build_editable = get_requires_for_build_wheel


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="release", help="cargo's profile (release)")
    build_program(parser.parse_args().profile)
