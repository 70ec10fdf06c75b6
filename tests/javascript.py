"""Checks the types of the JavaScript: the pages of replay, and their tests.

Without node and npm it prints that nothing was checked; with CLOACA_NOTHING_SKIPPED=1 that is a failure.
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
    """Returns why the tools of tests/browser, and these programs, cannot run on this machine; None if they can.

    Installs the packages of package-lock.json unless they are installed.
    """
    lacks = [name for name in ("node", "npm", *programs) if shutil.which(name) is None]
    if lacks:
        return f"{' and '.join(lacks)} not found (on Debian: apt-get install nodejs npm chromium)"
    lock = BROWSER / "package-lock.json"
    # npm writes this file last.
    installed = BROWSER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        install = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(BROWSER)]
        run = subprocess.run(install, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if run.returncode != 0:
            return f"npm cannot install the packages of tests/browser/package-lock.json: {run.stdout.strip()[-300:]}"
    return None


def main() -> int:
    """Checks each project; returns 0 if nothing is wrong."""
    why = missing()
    if why is not None:
        print(f"javascript: SKIPPED, NO TYPES ARE CHECKED: {why}", flush=True)
        return int(bool(os.environ.get("CLOACA_NOTHING_SKIPPED")))
    tsc = BROWSER / "node_modules" / ".bin" / "tsc"
    runs = [subprocess.run([tsc, "--project", project], cwd=ROOT, check=False) for project in PROJECTS]
    return int(any(run.returncode != 0 for run in runs))


if __name__ == "__main__":
    sys.exit(main())
