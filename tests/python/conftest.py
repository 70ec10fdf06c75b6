"""Shared fixtures. The tests run on the installed package."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cloaca
import pytest
from hypothesis import HealthCheck, settings

# No deadline per example: the machine may be busy. `.ci/run` tries the same examples each time (see there).
settings.register_profile(
    "suite",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CLOACA_NOTHING_SKIPPED" in os.environ,
)
settings.load_profile("suite")

#: The longest wait of any test, in seconds.
LIMIT = 30.0


def wait_until(holds: Callable[[], bool], what: str = "a condition", within: float = LIMIT) -> None:
    """Waits until `holds` returns True; fails after `within` seconds."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.005)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps the logs of tests out of the user's state directory, in which runners register them."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
def runner() -> Iterator[cloaca.DefaultRunner]:
    """A runner on a log in memory."""
    with cloaca.DefaultRunner(":memory:") as runner:
        yield runner


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an empty directory."""

    def run(program: str, *, check: bool = True, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env={**os.environ, **(env or {})},
        )
        if check and result.returncode != 0:
            pytest.fail(f"the program ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    return run
