"""Unchanged programs for Cloacina: ours in ``programs/stations.py``, and Cloacina's tutorial if it is beside the
checkout (``CLOACA_SEED`` names its folder). Also tests the effect of their missing dependencies.

In each, one task reads a key of a task that it does not depend on: whether it finds it the first time depends on
timing. Another task reads a key that is certainly written by then, also without a declared dependency.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conftest import LIMIT


@dataclasses.dataclass(frozen=True)
class Program:
    """A program and its expected behaviour."""

    path: Path
    #: The directory that its SQLite URL becomes.
    database: str
    #: Lines of its output.
    prints: tuple[str, ...]
    #: Its output when its workflow fails.
    failed: str
    #: (reader, key, writer) of the missing dependency that makes it depend on timing, and of the other one.
    missing: tuple[tuple[str, str, str], tuple[str, str, str]]
    #: Source text that is replaced to add each of them.
    edits: tuple[tuple[str, str], tuple[str, str]]

    def __str__(self) -> str:
        return self.path.stem


OURS = Program(
    path=Path(__file__).parent / "programs" / "stations.py",
    database="stations.db",
    prints=("Status: Completed", r"Rating: hot, hottest: station \d+", r"Difference: [+-]\d+\.\d degrees", r"Done\."),
    failed="Status: Failed",
    missing=(
        ("split_stations", "readings", "collect_readings"),
        ("write_report", "comparison", "compare_regions"),
    ),
    edits=(
        ('(id="split_stations"', '(id="split_stations", dependencies=["collect_readings"]'),
        ('dependencies=["rate_heat"]', 'dependencies=["rate_heat", "compare_regions"]'),
    ),
)

SEED = Path(os.environ.get("CLOACA_SEED", Path(__file__).resolve().parents[3] / "shared" / "seed"))
TUTORIAL = Program(
    path=SEED / "tutorial_04.py",
    database="tutorial_04.db",
    prints=(
        "Workflow Status: Completed",
        "Customers Analyzed: 100",
        r"Total Customer Value: \$[\d,]+\.\d\d",
        r"Segments Identified: \d",
        r"Key Insights: \d+",
        "Tutorial completed!",
    ),
    failed="Workflow failed with status: Failed",
    missing=(
        ("distribute_workload", "dataset", "prepare_dataset"),
        ("final_comprehensive_report", "customer_report", "generate_customer_report"),
    ),
    edits=(
        ('(id="distribute_workload"', '(id="distribute_workload", dependencies=["prepare_dataset"]'),
        ('["level_4_predictive_insights"]', '["level_4_predictive_insights", "generate_customer_report"]'),
    ),
)

PROGRAMS = [OURS, *([TUTORIAL] if TUTORIAL.path.exists() else [])]
each_program = pytest.mark.parametrize("program", PROGRAMS, ids=str)


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in an empty directory; it must succeed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True, timeout=2 * LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


#: Runs a program's source after a change to it or to the runner, and prints how its tasks ended.
WRAPPER = """
    import sys
    from pathlib import Path
    import cloaca

    source = Path(sys.argv[1]).read_text(encoding="utf-8")
    config = cloaca.DefaultRunnerConfig(strict_context={strict})
    for before, after in {edits}:
        assert before in source, before
        source = source.replace(before, after)

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


def changed(
    directory: Path, program: Program, *edits: tuple[str, str], strict: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs a program after changes to its source."""
    wrapper = textwrap.dedent(WRAPPER.format(edits=edits, strict=strict))
    return run(directory, "-c", wrapper, str(program.path))


@each_program
def test_the_program_runs_unchanged(program: Program, tmp_path: Path) -> None:
    done = run(tmp_path, str(program.path))
    at = 0
    for line in program.prints:
        found = re.compile(f"^{line}$", re.MULTILINE).search(done.stdout, at)
        assert found, line
        at = found.end()
    assert done.stdout[at:] == "\n"
    assert os.listdir(tmp_path) == [program.database]
    assert (tmp_path / program.database).is_dir()
    assert done.stderr.splitlines() == [
        f"`{reader}` reads `{key}`, which `{writer}` writes: add it to its dependencies"
        for reader, key, writer in program.missing
    ]


@each_program
def test_a_strict_context_fails_it_with_that_hint(program: Program, tmp_path: Path) -> None:
    done = changed(tmp_path, program, strict=True)
    assert program.failed in done.stdout
    [error] = [line for line in done.stdout.splitlines() if line.startswith("error:")]
    for part in (*program.missing[0], "dependencies"):
        assert part in error


@each_program
def test_with_the_dependency_it_succeeds_the_first_time(program: Program, tmp_path: Path) -> None:
    done = changed(tmp_path, program, program.edits[0])
    assert re.search(program.prints[0], done.stdout)
    assert "attempts: [1]" in done.stdout
    assert "states: ['Completed']" in done.stdout
    assert program.missing[0][0] not in done.stderr


@each_program
def test_with_both_dependencies_it_succeeds_in_a_strict_context(program: Program, tmp_path: Path) -> None:
    done = changed(tmp_path, program, *program.edits, strict=True)
    assert re.search(program.prints[0], done.stdout)
    assert "attempts: [1]" in done.stdout
    assert done.stderr == ""
