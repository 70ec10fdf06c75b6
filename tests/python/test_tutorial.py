"""The tutorial of the programs that exist, unchanged; and what its missing dependencies mean.

Its `distribute_workload` reads what `prepare_dataset` writes, and does not say that it depends on it: whether it finds
it is luck. Its `final_comprehensive_report` reads what `generate_customer_report` writes; that is done by then.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conftest import LIMIT

SEED = Path(os.environ.get("CLOACA_SEED", Path(__file__).resolve().parents[3] / "shared" / "seed"))
TUTORIAL = SEED / "tutorial_04.py"

pytestmark = pytest.mark.skipif(
    not TUTORIAL.exists(),
    reason=f"NOT TESTED: {TUTORIAL.name} is not beside the checkout (CLOACA_SEED names its folder)",
)


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in an empty directory, to its good end."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True, timeout=2 * LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


#: Runs the tutorial's source as a program would, after a change to it or to the runner; then says how the tasks went.
WRAPPER = """
    import sys
    from pathlib import Path
    import cloaca

    source = Path(sys.argv[1]).read_text(encoding="utf-8")
    config = cloaca.DefaultRunnerConfig()
    {change}
    class Runner(cloaca.DefaultRunner):
        def __init__(self, url):
            super().__init__(url, config)

        def execute(self, *arguments):
            result = super().execute(*arguments)
            print("error:", result.error_message)
            print("attempts:", sorted({{task.attempts for task in result.tasks.values()}}))
            print("states:", sorted({{task.state for task in result.tasks.values()}}))
            return result

    cloaca.DefaultRunner = Runner
    exec(compile(source, sys.argv[1], "exec"), {{"__name__": "__main__"}})
"""


def changed(directory: Path, change: str) -> subprocess.CompletedProcess[str]:
    """Runs the tutorial after a change."""
    return run(directory, "-c", textwrap.dedent(WRAPPER.format(change=change)), str(TUTORIAL))


def test_it_runs_unchanged(tmp_path: Path) -> None:
    done = run(tmp_path, str(TUTORIAL))
    assert "Workflow Status: Completed" in done.stdout
    block = done.stdout.split("=== Workflow Results ===\n")[1]
    for line in (r"Customers Analyzed: 100", r"Total Customer Value: \$[\d,]+\.\d\d", r"Segments Identified: \d"):
        assert re.search(f"^{line}$", block, re.MULTILINE), line
    assert "=== Insights Generated ===\nKey Insights: " in block
    assert done.stdout.endswith("Tutorial completed!\n")
    assert os.listdir(tmp_path) == ["tutorial_04.db"]
    assert (tmp_path / "tutorial_04.db").is_dir()


def test_the_log_says_which_dependency_is_missing(tmp_path: Path) -> None:
    done = run(tmp_path, str(TUTORIAL))
    assert done.stderr.splitlines() == [
        "`distribute_workload` reads `dataset`, which `prepare_dataset` writes: add it to its dependencies",
        "`final_comprehensive_report` reads `customer_report`, which `generate_customer_report` writes: "
        "add it to its dependencies",
    ]


def test_a_strict_context_fails_it_with_that_hint(tmp_path: Path) -> None:
    done = changed(tmp_path, "config.strict_context = True")
    assert "Workflow failed with status: Failed" in done.stdout
    [error] = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    for part in ("distribute_workload", "dataset", "prepare_dataset", "dependencies"):
        assert part in error


#: Adds the dependency without which the tutorial needs luck.
FIRST = """edge = '(id="distribute_workload"'
    source = source.replace(edge, edge + ', dependencies=["prepare_dataset"]')
    assert 'dependencies=["prepare_dataset"])\\ndef distribute_workload' in source
"""
#: Adds the other one.
SECOND = """
    chain = '["level_4_predictive_insights"'
    source = source.replace(chain, chain + ', "generate_customer_report"')
    assert '"generate_customer_report"])\\ndef final_comprehensive_report' in source
"""


def test_with_the_dependency_it_is_right_the_first_time(tmp_path: Path) -> None:
    done = changed(tmp_path, FIRST)
    assert "Workflow Status: Completed" in done.stdout
    assert "attempts: [1]" in done.stdout
    assert "states: ['Completed']" in done.stdout
    assert "distribute_workload" not in done.stderr


def test_with_both_dependencies_it_is_right_in_a_strict_context(tmp_path: Path) -> None:
    done = changed(tmp_path, FIRST + SECOND + "    config.strict_context = True\n")
    assert "Workflow Status: Completed" in done.stdout
    assert "attempts: [1]" in done.stdout
    assert done.stderr == ""
