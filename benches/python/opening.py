"""Measures the opening of a log whose schedule has fired ten thousand times, and of one whose schedule never fired.

    .venv/bin/python benches/python/opening.py

The schedule fires under a virtual clock. The difference is the time to read the history of the schedule: its executions
have ended, and are not read.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import cloaca
from cloaca.testing import Runner, VirtualClock

FIRES = 10_000
ROUNDS = 9


def create_log(log: Path, times: int) -> None:
    """Creates a log with a schedule that has fired `times` times."""
    clock = VirtualClock()
    config = cloaca.DefaultRunnerConfig(durability="os")
    with Runner(str(log), config, clock=clock) as runner:
        runner.register_cron_workflow("nothing", "* * * * * *", "UTC")
        clock.advance(times)
        (schedule,) = runner.list_cron_schedules()
        assert len(runner.get_cron_execution_history(schedule["id"])) == times
        runner.set_cron_schedule_enabled(schedule["id"], False)


def time_to_open(log: Path) -> float:
    """Returns the median time to open the log, in milliseconds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        runner = cloaca.DefaultRunner(str(log))
        rounds.append((time.perf_counter() - began) * 1e3)
        runner.shutdown()
    return statistics.median(rounds)


def main() -> None:
    with cloaca.WorkflowBuilder("nothing"):

        @cloaca.task
        async def nothing() -> None: ...

    with tempfile.TemporaryDirectory() as directory:
        for times in (0, FIRES):
            log = Path(directory) / str(times)
            create_log(log, times)
            print(f"a log whose schedule has fired {times:>6} times opens in {time_to_open(log):6.1f} ms", flush=True)


if __name__ == "__main__":
    main()
