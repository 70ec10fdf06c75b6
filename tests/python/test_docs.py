"""The documentation is correct: each page is run from top to bottom, and its links are checked."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import page
from conftest import LIMIT

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "pages"
PAGES = sorted(DOCS.rglob("*.md"))


def name(path: Path) -> str:
    return str(path.relative_to(DOCS))


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_runs_as_written(path: Path, tmp_path: Path) -> None:
    tools = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "python" / "page.py"), str(path)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=4 * LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shows = any(block.language in ("python", "console") for block in page.blocks(path.read_text(encoding="utf-8")))
    assert int(done.stdout) > 0 or not shows


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_the_links_of_a_page_are_valid(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).is_file(), target


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == [name(path) for path in PAGES]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    config = str(ROOT / "docs" / "mkdocs.yml")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        config,
        "--site-dir",
        str(tmp_path),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=4 * LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    api = (tmp_path / "reference" / "api.html").read_text(encoding="utf-8")
    assert "register_workflow_constructor" in api
    assert "retry_delay_ms" in api
    text = html.unescape(re.sub(r"<[^>]+>", "", api))
    # Docstrings of the native module and of config fields, which static analysis of the package does not find.
    for doc in (
        "a mutable mapping from strings to JSON values",
        "Sets a new key.",
        "Whether schedules fire in this runner.",
    ):
        assert doc in text
    assert "The number of its events." in text, "the docstring of an attribute"
    # Regression: Markdown takes a prompt for a quotation, so examples were shown as nested quotations.
    assert "<blockquote>" not in api
    assert api.count('<span class="gp">&gt;&gt;&gt; </span>') == text.count(">>> ") > 400
    assert "_trigger_unregistered" not in text
    # Markup of other tools, and broken links, would be shown literally.
    prose = re.sub(r"<[^>]+>", "", re.sub(r"<pre>.*?</pre>", "", api, flags=re.DOTALL))
    assert re.findall(r":\w+:`|#: |\]\[", html.unescape(prose)) == []


@pytest.mark.parametrize(
    ("expected", "actual", "fits"),
    [
        ("done in … s", "done in 0.2 s", True),
        ("done in … s", "done in 0.2 min", False),
        ("took 0.21 s", "took  12.5 ms", True),
        ("took 0.21 s", "took 3", False),
        ("…0b4cc215 started", "…1f1c1847 started", True),
        ("seq 4", "seq 5", False),
        ("first\n…\nlast", "first\nlast", True),
        ("first\n…\nlast", "first\nand\nmore\nlast", True),
        ("first\n…", "second\n", False),
        ("a.c", "abc", False),
    ],
)
def test_matching_of_expected_output(expected: str, actual: str, fits: bool) -> None:
    assert page.matches(expected, actual) is fits


def test_a_page_with_other_output_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = tmp_path / "wrong.md"
    wrong.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", encoding="utf-8")
    with pytest.raises(page.Wrong, match="line 6"):
        page.Session(wrong).run()
