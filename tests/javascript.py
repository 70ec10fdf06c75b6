"""Checks the types of the JavaScript: the pages of replay, and their tests.

Without node and npm it says that nothing was checked; with CLOACA_NOTHING_SKIPPED=1 that is a failure.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BROWSER = ROOT / "tests" / "browser"
PROJECTS = [ROOT / "replay" / "web", BROWSER]


def missing(*programs: str) -> str | None:
    """What the tools of tests/browser lack on this machine, which also needs these programs; None if they can run.

    Installs the packages that package-lock.json names, unless they are there already.
    """
    lacks = [name for name in ("node", "npm", *programs) if shutil.which(name) is None]
    if lacks:
        return f"there is no {' and no '.join(lacks)} here (on Debian: apt-get install nodejs npm chromium)"
    lock = BROWSER / "package-lock.json"
    # What npm writes last, from what it installed.
    installed = BROWSER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        install = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(BROWSER)]
        run = subprocess.run(install, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if run.returncode != 0:
            return f"npm cannot install what tests/browser/package-lock.json names: {run.stdout.strip()[-300:]}"
    return None


def main() -> int:
    """Checks each project; 0 if nothing is wrong."""
    why = missing()
    if why is not None:
        print(f"javascript: SKIPPED, NO TYPES ARE CHECKED: {why}", flush=True)
        return int(bool(os.environ.get("CLOACA_NOTHING_SKIPPED")))
    tsc = BROWSER / "node_modules" / ".bin" / "tsc"
    runs = [subprocess.run([tsc, "--project", project], cwd=ROOT, check=False) for project in PROJECTS]
    return int(any(run.returncode != 0 for run in runs))


if __name__ == "__main__":
    sys.exit(main())
