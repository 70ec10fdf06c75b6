"""Runs a page of the documentation from top to bottom, like a reader who types along.

- ``python`` blocks run in one session for the whole page; a ``text`` block right after one is its expected output.
- A ``python`` block with a ``title`` is saved under that name.
- In a ``console`` block each line after ``$ `` is a command; the lines after it are its expected output.

Times, durations, sizes, ids and process numbers differ from run to run: any other value of the same form matches, and
so do other column widths. Where more differs, ``…`` matches anything within a line, and a line of nothing else matches
any number of lines.

``python page.py --accept PAGE`` writes the actual output into the page wherever it differs.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
#: The time limit of a command, in seconds.
LIMIT = 60.0


@dataclass
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    body: str
    #: The start of the body in the page: its character, and its line from 1.
    start: int
    line: int


class Wrong(AssertionError):
    """The actual output differs from the page."""


def blocks(page: str) -> Iterator[Block]:
    """Yields the fenced blocks of a page in order."""
    for found in FENCE.finditer(page):
        title = TITLE.search(found["options"])
        start = found.start("body")
        yield Block(found["language"], title and title[1], found["body"], start, page.count("\n", 0, start) + 1)


#: Forms that differ from run to run, and the pattern that matches any other value of each.
VARIES = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": r"[0-9a-f-]{36}",
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?",
    r"\bv[0-9a-f]{6}\b": r"v[0-9a-f]{6}",
    r"\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b": r"[0-9a-f]{8}",
    r"\d[\d.]* ?(?:s|ms|min|B|KB|MB)\b": r"\d[\d.]* ?(?:s|ms|min|B|KB|MB)",
    r"\b(?P<word>pid|process) \d+": r"(?:pid|process) \d+",
    r" +": r" +",
    r"…": r"[^\n]*?",
}
TOKEN = re.compile("|".join(f"(?P<t{number}>{form})" for number, form in enumerate(VARIES)))


def pattern(line: str) -> str:
    """Returns the pattern that matches a line in any run."""
    made, end = "", 0
    for token in TOKEN.finditer(line):
        other = next(any_form for number, any_form in enumerate(VARIES.values()) if token[f"t{number}"] is not None)
        made += re.escape(line[end : token.start()]) + other
        end = token.end()
    return made + re.escape(line[end:])


def matches(expected: str, actual: str) -> bool:
    """Whether a text matches the expected one."""
    lines = (
        r"(?:.*\n)*?" if line.strip() == "…" else pattern(line.rstrip()) + r" *\n"
        for line in expected.strip("\n").splitlines()
    )
    return re.fullmatch("".join(lines), actual.strip("\n") + "\n") is not None


class Session:
    """The reader's environment: a Python session, and a shell in the same directory."""

    def __init__(self, page: Path, *, accept: bool = False) -> None:
        self._page = page
        self._accept = accept
        self._module = types.ModuleType("__main__")
        self._printed: str | None = None
        #: Replacements: the start and the end of a part of the page, and its new text.
        self._accepted: list[tuple[int, int, str]] = []

    def run(self) -> int:
        """Runs the page; returns how many of its blocks did something."""
        text = self._page.read_text(encoding="utf-8")
        done = sum(self._process(block) for block in blocks(text))
        for start, end, body in reversed(self._accepted):
            text = f"{text[:start]}{body}{text[end:]}"
        if self._accepted:
            self._page.write_text(text, encoding="utf-8")
        return done

    def _process(self, block: Block) -> bool:
        """Executes a block, or compares the output that it shows. Returns whether there was something to do."""
        printed, self._printed = self._printed, None
        if block.language == "python" and block.title is not None:
            Path(block.title).write_text(block.body, encoding="utf-8")
        elif block.language == "python":
            self._printed = self._execute(block)
        elif block.language == "console":
            self._commands(block)
        elif block.language == "text" and printed is not None:
            self._compare(block, "the code before it", block.body, printed)
        else:
            return False
        return True

    def _execute(self, block: Block) -> str:
        # The source of a task is found by file name and line. The page is not Python, so register the block as a file.
        name = f"<{self._page.name}:{block.line}>"
        linecache.cache[name] = (len(block.body), None, block.body.splitlines(keepends=True), name)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block.body, name, "exec"), vars(self._module))
        return out.getvalue()

    def _commands(self, block: Block) -> None:
        for shown in re.finditer(r"^\$ (?P<command>.*)\n(?P<expected>(?:(?!\$ ).*\n)*)", block.body, re.MULTILINE):
            command = shown["command"]
            done = subprocess.run(
                command,
                shell=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            self._compare(block, f"`{command}`", shown["expected"], done.stdout, shown.start("expected"))

    def _compare(self, block: Block, doing: str, expected: str, actual: str, at: int = 0) -> None:
        if matches(expected, actual):
            return
        if not self._accept:
            raise Wrong(f"line {block.line}: {doing} printed\n{actual}\nexpected\n{expected}")
        start = block.start + at
        self._accepted.append((start, start + len(expected), actual.strip("\n") + "\n" if actual.strip("\n") else ""))


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--accept"]
    try:
        print(Session(Path(arguments[0]), accept=len(arguments) < len(sys.argv) - 1).run())
    except Wrong as wrong:
        sys.exit(f"{arguments[0]}: {wrong}")
