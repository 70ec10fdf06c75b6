"""The pytest plugin with cloaca's fixtures. See `cloaca.testing`."""

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
    """Restore the registries of tasks and workflows after each test."""
    from ._task import registry
    from .workflow import workflows

    # Not `clean_registry`, which imports the runner: most tests of a project do not need one.
    tasks, registered = registry.snapshot(), workflows.snapshot()
    yield
    registry.restore(tasks)
    workflows.restore(registered)


@pytest.fixture
def cloaca_clock() -> VirtualClock:
    """A virtual clock, moved only by ``cloaca_clock.advance(seconds)``. The test's ``cloaca_runner`` uses it."""
    from .testing import VirtualClock

    return VirtualClock()


@pytest.fixture
def cloaca_config() -> DefaultRunnerConfig | None:
    """The configuration of ``cloaca_runner``: the defaults. Override it in a test module or a ``conftest.py``."""
    return None


@pytest.fixture
def cloaca_runner(
    request: pytest.FixtureRequest, tmp_path: Path, cloaca_config: DefaultRunnerConfig | None
) -> Iterator[Runner]:
    """A runner on its own log in ``tmp_path``. It uses the virtual clock if the test also requests ``cloaca_clock``."""
    from .testing import Runner

    clock = request.getfixturevalue("cloaca_clock") if "cloaca_clock" in request.fixturenames else None
    with Runner(str(tmp_path / "cloaca"), cloaca_config, clock=clock) as runner:
        yield runner


@pytest.fixture
def crash_after(cloaca_runner: Runner) -> Callable[[int], AbstractContextManager[Crash]]:
    """The method ``crash_after`` of ``cloaca_runner``: ``with crash_after(seq): ...``"""
    return cloaca_runner.crash_after
