"""The fixtures that pytest finds by itself. See `cloaca.testing`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .config import DefaultRunnerConfig
    from .testing import Crash, Runner, VirtualClock


@pytest.fixture(autouse=True)
def _cloaca_clean_registry() -> Iterator[None]:
    """After each test, the registries of tasks and workflows are what they were before it."""
    from ._task import registry
    from .workflow import workflows

    # Not `clean_registry`: most tests of a project open no runner, and need not import one.
    tasks, registered = registry.snapshot(), workflows.snapshot()
    yield
    registry.restore(tasks)
    workflows.restore(registered)


@pytest.fixture
def cloaca_clock() -> VirtualClock:
    """A clock that stands still until ``cloaca_clock.advance(seconds)`` moves it. The test's ``cloaca_runner`` goes by
    it."""
    from .testing import VirtualClock

    return VirtualClock()


@pytest.fixture
def cloaca_config() -> DefaultRunnerConfig | None:
    """How ``cloaca_runner`` runs: the defaults. Override it in a test module or a ``conftest.py``."""
    return None


@pytest.fixture
def cloaca_runner(
    request: pytest.FixtureRequest, tmp_path: Path, cloaca_config: DefaultRunnerConfig | None
) -> Iterator[Runner]:
    """A runner on a log of its own in ``tmp_path``; by the virtual clock, if the test has ``cloaca_clock``, too."""
    from .testing import Runner

    clock = request.getfixturevalue("cloaca_clock") if "cloaca_clock" in request.fixturenames else None
    with Runner(str(tmp_path / "cloaca"), cloaca_config, clock=clock) as runner:
        yield runner


@pytest.fixture
def crash_after(cloaca_runner: Runner) -> Callable[[int], AbstractContextManager[Crash]]:
    """``with crash_after(seq):`` — see `cloaca.testing.Runner.crash_after`."""
    return cloaca_runner.crash_after
