"""Eight broken workflows with the output of `replay` for each, as shown in `replay/EXAMPLES.md`.

`UPDATE_EXAMPLES=1 pytest test_replay_examples.py` writes the output of this run into that file.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import LIMIT

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "replay" / "examples"
DOCUMENT = ROOT / "replay" / "EXAMPLES.md"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))

#: A block of the document: an example's name, and the console below it.
BLOCK = re.compile(r"(<!-- (\w+) -->\n```console\n)(.*?)(```)", re.DOTALL)

#: Patterns that differ from run to run, and their placeholders for a comparison.
VARIES = [
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID"),
    (r"v[0-9a-f]{6}\b", "VERSION"),
    (r"\d+(\.\d+)? (s|ms|min)\b", "SPAN"),
    (r"\bpid \d+ on \S+", "pid PID on HOST"),
    (r"\bworker \d+", "worker N"),
    (r"\d+ %", "SHARE"),
    (r" +", " "),
]


def alike(text: str) -> list[str]:
    """Returns the words of an output, with placeholders for what differs from run to run."""
    for pattern, stands in VARIES:
        text = re.sub(pattern, stands, text)
    # Line breaks move if a duration has another length, so they are ignored.
    return text.split()


def replay(directory: Path, *arguments: str) -> str:
    """Returns the standard output and standard error of `replay`, without the names of this machine."""
    program = Path(sys.executable).with_name("replay")
    done = subprocess.run(
        [program, *arguments], cwd=directory, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    output = done.stdout + done.stderr
    return output.replace(f"{directory}{os.sep}", "").replace(f" on {socket.gethostname()}\n", " on db01\n")


def run(directory: Path, name: str) -> None:
    """Runs an example, repeatedly if it kills its process."""
    program = shutil.copy(EXAMPLES / f"{name}.py", directory)
    for _ in range(8):
        done = subprocess.run(
            [sys.executable, program],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if done.returncode == 0:
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
    raise AssertionError(f"{name} never ended")


def commands(console: str) -> list[list[str]]:
    """Returns the `replay` commands of a console."""
    lines = [line.removeprefix("$ ") for line in console.splitlines() if line.startswith("$ replay ")]
    return [line.split()[1:] for line in lines]


def blocks() -> dict[str, str]:
    """Returns the console of each example."""
    return {found.group(2): found.group(3) for found in BLOCK.finditer(DOCUMENT.read_text(encoding="utf-8"))}


def test_the_document_shows_every_example() -> None:
    assert sorted(blocks()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_document_shows_the_output_of_replay(name: str, tmp_path: Path) -> None:
    console = blocks()[name]
    run(tmp_path, name)
    lines = [line for line in console.splitlines() if line.startswith("$ ") and not line.startswith("$ replay ")]
    shown = "".join(f"{line}\n" for line in lines)
    for arguments in commands(console):
        shown += f"$ replay {' '.join(arguments)}\n{replay(tmp_path, *arguments).rstrip()}\n\n"
    shown = shown.rstrip() + "\n"
    if os.environ.get("UPDATE_EXAMPLES"):
        text = DOCUMENT.read_text(encoding="utf-8")
        text = BLOCK.sub(
            lambda found: f"{found.group(1)}{shown}{found.group(4)}" if found.group(2) == name else found.group(0), text
        )
        DOCUMENT.write_text(text, encoding="utf-8")
        return
    short = re.compile(r"(?<![0-9a-f])(?=[0-9a-f]*\d)[0-9a-f]{8}(?![0-9a-f])")
    assert alike(short.sub("ID", console)) == alike(short.sub("ID", shown))
