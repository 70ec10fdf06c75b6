"""A program is killed in the middle of a workflow, and a second one finishes it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import LIMIT

EXECUTION = "0192aaaa-0000-7000-8000-000000000002"

PROGRAM = f"""
import os, sys, time
import cloaca

def note(task):
    with open("runs", "a") as file:
        file.write(task + chr(10))

def success(task_id, context):
    note("success " + task_id)

with cloaca.WorkflowBuilder("order"):
    @cloaca.task(on_success=success)
    def reserve(context):
        note("reserve")
        context["reserved"] = context["items"] * 2

    @cloaca.task(dependencies=[reserve], on_success=success)
    async def charge(context, handle):
        note("charge")
        if sys.argv[1] == "first":
            print("charging", flush=True)
            time.sleep(100)
        context["charged_by_attempt"] = handle.attempt

    @cloaca.task(dependencies=[reserve])
    def pack(context):
        note("pack")
        context["packed"] = True

    @cloaca.task(dependencies=[charge, pack])
    def ship(context):
        note("ship")
        context["shipped"] = True

with cloaca.DefaultRunner("log") as runner:
    print("recovered", len(runner.recovered), flush=True)
    result = runner.execute("order", {{"items": 3}}, execution_id="{EXECUTION}")
    print(result.execution_id, result.status, result.final_context)
    print({{id: task.attempts for id, task in result.tasks.items()}})
"""


def test_a_second_program_finishes_what_a_killed_one_began(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    runs = tmp_path / "runs"
    killed = subprocess.Popen([sys.executable, "-c", PROGRAM, "first"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert killed.stdout is not None
        assert [killed.stdout.readline(), killed.stdout.readline()] == ["recovered 0\n", "charging\n"]
        # Wait until the other branch is done, as far as `replay` shows it; the log is checked below.
        run_python("""
            import os, subprocess, sys, time
            replay = os.path.join(os.path.dirname(sys.executable), "replay")
            def packed():
                shown = subprocess.run([replay, "latest"], capture_output=True, text=True)
                return "packed" in shown.stdout and "success reserve" in open("runs").read()
            while not packed():
                time.sleep(0.05)
        """)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    before = runs.read_text().split("\n")
    assert sorted(before) == ["", "charge", "pack", "reserve", "success reserve"]

    def run_again() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "second"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    output = run_again()
    context = 'Context({"charged_by_attempt":2,"items":3,"packed":true,"reserved":6,"shipped":true})'
    assert output == [
        "recovered 1",
        f"{EXECUTION} Completed {context}",
        "{'reserve': 1, 'charge': 2, 'pack': 1, 'ship': 1}",
    ]
    after = runs.read_text().split("\n")
    assert sorted(after[len(before) - 1 :]) == ["", "charge", "ship", "success charge"]
    # A third run: the execution has ended, and nothing runs.
    assert run_again() == ["recovered 0", *output[1:]]
    assert runs.read_text().split("\n") == after
