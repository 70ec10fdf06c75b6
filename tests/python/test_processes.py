"""Complete programs: their start, interruption and end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import LIMIT

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_importing_does_little(run_python: Run) -> None:
    run_python("""
        import sys, threading
        import cloaca
        heavy = {"asyncio", "logging", "inspect", "hashlib", "sqlite3"} & set(sys.modules)
        assert not heavy, heavy
        assert threading.active_count() == 1
    """)


TASK = """
    import sys, threading, time
    import cloaca

    started = threading.Event()

    with cloaca.WorkflowBuilder("long") as builder:
        @cloaca.task
        def long(context):
            started.set()
            {body}
"""


def long(body: str) -> str:
    return TASK.format(body=body)


@pytest.mark.parametrize("body", ["time.sleep(100)", "while True: pass", "threading.Event().wait()"])
def test_a_running_task_does_not_delay_the_exit(run_python: Run, body: str) -> None:
    done = run_python(
        long(body)
        + """
    runner = cloaca.DefaultRunner("log")
    execution = runner.submit("long")
    assert started.wait(10)
    print("the end", flush=True)
    sys.exit(3)
    """,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "the end\n", "")


def test_a_running_async_task_does_not_delay_the_exit(run_python: Run) -> None:
    done = run_python(
        """
        import asyncio, threading
        import cloaca

        started = threading.Event()
        with cloaca.WorkflowBuilder("long"):
            @cloaca.task
            async def long(context):
                started.set()
                await asyncio.sleep(100)

        runner = cloaca.DefaultRunner("log")
        runner.submit("long")
        assert started.wait(10)
        """
    )
    assert done.stderr == ""


def test_a_running_callback_does_not_delay_the_exit(run_python: Run) -> None:
    done = run_python("""
        import threading, time
        import cloaca

        called = threading.Event()

        def slow(task_id, context):
            called.set()
            time.sleep(100)

        with cloaca.WorkflowBuilder("slow_callback"):
            @cloaca.task(on_success=slow)
            def first(context): ...
            @cloaca.task(dependencies=[first], on_success=slow)
            def second(context): ...

        runner = cloaca.DefaultRunner("log")
        runner.submit("slow_callback")
        assert called.wait(10)
    """)
    assert done.stderr == ""


def test_a_waiting_daemon_thread_does_not_delay_the_exit(run_python: Run) -> None:
    for _ in range(3):
        done = run_python(
            long("time.sleep(100)")
            + """
    runner = cloaca.DefaultRunner(":memory:")
    for _ in range(4):
        threading.Thread(target=runner.execute, args=("long",), daemon=True).start()
    assert started.wait(10)
    """
        )
        assert done.stderr == ""


def test_a_runner_that_was_not_shut_down_keeps_what_it_acknowledged(run_python: Run) -> None:
    program = """
        import cloaca
        with cloaca.WorkflowBuilder("quick"):
            @cloaca.task
            def quick(context):
                return {"n": context["n"] + 1}

        runner = cloaca.DefaultRunner("log")
        print(len(runner.list_executions("Completed")))
        assert runner.execute("quick", {"n": 1}).final_context["n"] == 2
    """
    assert [run_python(program).stdout for _ in range(3)] == ["0\n", "1\n", "2\n"]


def test_a_killed_program_is_finished_by_the_next(run_python: Run, tmp_path: Path) -> None:
    program = """
        import os, sys
        import cloaca

        with cloaca.WorkflowBuilder("crash"):
            @cloaca.task
            def first(context):
                with open("first", "a") as file:
                    file.write("x")
                return {"first": True}

            @cloaca.task(dependencies=[first])
            def second(context):
                if not os.path.exists("crashed"):
                    open("crashed", "w").close()
                    os._exit(9)
                return {"second": True}

        with cloaca.DefaultRunner("log") as runner:
            result = runner.execute("crash", execution_id="0192aaaa-0000-7000-8000-000000000001")
            print(result.status, result.final_context)
    """
    assert run_python(program, check=False).returncode == 9
    done = run_python(program)
    assert done.stdout == 'Completed Context({"first":true,"second":true})\n'
    assert (tmp_path / "first").read_text() == "x"


@pytest.mark.parametrize("where", ["execute", "result"])
def test_ctrl_c_leaves_the_wait_at_once_and_the_execution_running(tmp_path: Path, where: str) -> None:
    program = """
import signal, sys, time
import cloaca

# A shell that starts the tests in the background makes them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

with cloaca.WorkflowBuilder("long"):
    @cloaca.task
    def long(context):
        print("started", flush=True)
        input()
        return {"done": True}

runner = cloaca.DefaultRunner("log")
try:
    if sys.argv[1] == "execute":
        runner.execute("long")
    else:
        runner.submit("long").result()
except KeyboardInterrupt:
    print("interrupted", flush=True)
[execution] = runner.list_executions()
print(execution.status, flush=True)
print(runner.get_execution(execution.id).result(10).final_context, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, where],
        cwd=tmp_path,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.stdout.readline() == "Running\n"
        # Only now let the task end.
        out, error = process.communicate("\n", timeout=LIMIT)
        assert (out, error) == ('Context({"done":true})\n', "")
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_a_program_that_does_not_catch_it(tmp_path: Path) -> None:
    program = """
import signal, time
import cloaca

signal.signal(signal.SIGINT, signal.default_int_handler)

with cloaca.WorkflowBuilder("long"):
    @cloaca.task
    def long(context):
        print("started", flush=True)
        time.sleep(100)

cloaca.DefaultRunner("log").execute("long")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=LIMIT)
        assert "KeyboardInterrupt" in error
        assert process.returncode in (1, -signal.SIGINT, 130)
    finally:
        process.kill()
        process.communicate()


def test_the_wheel_has_the_command_replay(run_python: Run, tmp_path: Path) -> None:
    run_python("""
        import cloaca
        with cloaca.WorkflowBuilder("shown"):
            @cloaca.task
            def only(context): ...
        with cloaca.DefaultRunner("log") as runner:
            runner.execute("shown")
    """)
    replay = Path(sys.executable).with_name("replay")
    done = subprocess.run([replay, "latest"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert "shown" in done.stdout
    assert "only" in done.stdout


def test_a_fork_leaves_the_runner_of_its_parent_alone(run_python: Run) -> None:
    done = run_python("""
        import gc, os, sys
        import cloaca

        with cloaca.WorkflowBuilder("forked"):
            @cloaca.task
            def only(context):
                return {"n": 1}

        runner = cloaca.DefaultRunner("log")
        runner.execute("forked")
        child = os.fork()
        if child == 0:
            try:
                runner.execute("forked")
            except cloaca.Error as error:
                print("belongs to" in str(error), flush=True)
            runner.shutdown()
            del runner
            gc.collect()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        print(runner.execute("forked").status)
    """)
    assert done.stdout == "True\nCompleted\n"


def test_an_idle_runner_uses_no_processor_time(run_python: Run) -> None:
    done = run_python("""
        import time
        import cloaca

        with cloaca.WorkflowBuilder("idle"):
            @cloaca.task
            def only(context): ...
            @cloaca.task
            async def other(context): ...

        with cloaca.DefaultRunner("log") as runner:
            runner.execute("idle")
            time.sleep(0.2)
            before = time.process_time()
            time.sleep(1)
            print(time.process_time() - before)
    """)
    assert float(done.stdout) < 0.02
