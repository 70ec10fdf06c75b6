"""Tasks in worker processes: ``@cloaca.task(isolation="process")``. All tests use real processes."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.spawn
import os
import pickle
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloaca
import pytest

import isolated
from conftest import LIMIT

EXACT = {"big": 2**200, "float": 0.1 + 0.2, "order": {"z": 1, "a": [None, True, "é\n"]}}


def workflow_of(name: str, *tasks: str) -> None:
    builder = cloaca.WorkflowBuilder(name)
    for task in tasks:
        builder.add_task(task)
    cloaca.register_workflow_constructor(name, builder.build)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Waits for an action of another process."""
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.01)
    return found


def wait_for_end_of(pid: int) -> None:
    """Waits for the end of a process that need not be a child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], LIMIT)[0], f"process {pid} lives on"
    finally:
        os.close(descriptor)


def test_the_context_goes_there_and_back_exactly(runner: cloaca.DefaultRunner) -> None:
    workflow_of("double", "double")
    result = runner.execute("double", {"number": 4, "exact": EXACT, "gone": 1}, timeout=LIMIT).raise_for_status()
    context = result.final_context.to_dict()
    assert context.pop("pid") != os.getpid()
    assert context == {"number": 4, "double": 8, "exact": EXACT}
    assert list(context["exact"]["order"]) == ["z", "a"]


def test_a_worker_is_used_again(runner: cloaca.DefaultRunner) -> None:
    workflow_of("double", "double")
    data = {"number": 1, "exact": None}
    pids = {runner.execute("double", data, timeout=LIMIT).final_context["pid"] for _ in range(5)}
    assert len(pids) == 1


def test_an_idle_worker_that_died_costs_no_attempt(runner: cloaca.DefaultRunner) -> None:
    workflow_of("double", "double")
    data = {"number": 1, "exact": None}
    first = runner.execute("double", data, timeout=LIMIT).final_context["pid"]
    os.kill(first, signal.SIGKILL)
    second = runner.execute("double", data, timeout=LIMIT)
    assert second.status == "Completed"
    assert second.final_context["pid"] != first


def test_a_task_without_parameters_and_a_coroutine(runner: cloaca.DefaultRunner) -> None:
    workflow_of("shapes", "nothing", "coroutine")
    assert runner.execute("shapes", timeout=LIMIT).raise_for_status().final_context["held"] is True


def test_an_invalid_return_value_fails_with_the_same_message(runner: cloaca.DefaultRunner) -> None:
    workflow_of("wrong", "wrong")
    result = runner.execute("wrong", timeout=LIMIT)
    assert "task 'wrong' returned a value of type int" in (result.error_message or "")


def test_errors_come_back_with_type_message_and_traceback(runner: cloaca.DefaultRunner) -> None:
    workflow_of("refuse", "refuse")
    result = runner.execute("refuse", timeout=LIMIT)
    task = result.tasks["refuse"]
    assert task.error == "Refused: (403, 'not you')"
    frames = [line.split()[-1] for line in (task.traceback or "").splitlines() if line.startswith("  File")]
    assert frames == ["refuse"]
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    assert isinstance(caught.value.__cause__, isolated.Refused)
    assert caught.value.__cause__.code == 403
    assert "before" not in result.final_context


def test_a_task_cannot_end_its_worker_by_sys_exit(runner: cloaca.DefaultRunner) -> None:
    workflow_of("leave", "leave")
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        runner.execute("leave", timeout=LIMIT).raise_for_status()
    assert isinstance(caught.value.__cause__, SystemExit)
    assert caught.value.__cause__.code == "enough"


def test_an_error_that_cannot_be_pickled_is_described(runner: cloaca.DefaultRunner) -> None:
    workflow_of("unpicklable", "unpicklable")
    result = runner.execute("unpicklable", timeout=LIMIT)
    assert result.tasks["unpicklable"].error == "Unpicklable: kept here"
    assert "raise Unpicklable" in (result.tasks["unpicklable"].traceback or "")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("SIGKILL", "was killed by signal 9 (SIGKILL) while the task ran; the kernel does this"),
        ("SIGSEGV", "was killed by signal 11 (SIGSEGV) while the task ran"),
        ("segfault", "was killed by signal 11 (SIGSEGV) while the task ran"),
        ("exit", "ended with exit code 7 while the task ran"),
    ],
)
def test_the_death_of_a_worker_is_a_failed_attempt(runner: cloaca.DefaultRunner, how: str, says: str) -> None:
    workflow_of("die", "die")
    result = runner.execute("die", {"how": [how, "live"]}, timeout=LIMIT)
    assert result.status == "Completed"
    assert result.final_context["attempt"] == 2
    result = runner.execute("die", {"how": [how, how]}, timeout=LIMIT)
    assert result.status == "Failed"
    assert says in (result.error_message or "")
    assert "lost" not in result.final_context
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    died = caught.value.__cause__
    assert isinstance(died, cloaca.WorkerDiedError)
    assert (died.task_id, died.attempt, died.execution_id) == ("die", 2, result.execution_id)


def test_a_task_that_closes_all_descriptors_fails_at_once(runner: cloaca.DefaultRunner) -> None:
    """Regression: the worker process could not send the outcome, and kept quiet until the timeout."""
    workflow_of("close_descriptors", "close_descriptors")
    result = runner.execute("close_descriptors", timeout=LIMIT)
    assert "WorkerDiedError" in (result.error_message or "")


def test_computations_run_in_two_processes_at_once(runner: cloaca.DefaultRunner, tmp_path: Path) -> None:
    workflow_of("meet", "meet")
    executions = [runner.submit("meet", {"place": str(tmp_path)}) for _ in range(2)]
    # Each saw the other while it computed, without yielding the processor.
    met = [execution.result(LIMIT).raise_for_status().final_context.to_dict() for execution in executions]
    pids = sorted(path.name for path in tmp_path.iterdir())
    assert len(pids) == 2
    assert str(os.getpid()) not in pids
    assert [{key for key in context if key.startswith("pid ")} for context in met] != [set(), set()]
    assert {key for context in met for key in context if key.startswith("pid ")} == {f"pid {pid}" for pid in pids}


@pytest.mark.parametrize("how", ["timeout", "cancel", "shutdown"])
def test_an_abandoned_attempt_is_killed_with_its_children(tmp_path: Path, how: str) -> None:
    name = "hasty" if how == "timeout" else "endless"
    workflow_of(name, name)
    runner = cloaca.DefaultRunner(":memory:")
    execution = runner.submit(name, {"place": str(tmp_path)})
    wait_for((tmp_path / "pids").exists, "the task")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    if how == "cancel":
        execution.cancel()
    if how == "shutdown":
        runner._shutdown(0.0)
    else:
        assert execution.result(LIMIT).status == {"timeout": "Failed", "cancel": "Cancelled"}[how]
    for pid in pids:
        wait_for_end_of(pid)
    runner._shutdown(0.0)


def test_after_a_kill_the_next_attempt_gets_a_new_worker(runner: cloaca.DefaultRunner, tmp_path: Path) -> None:
    workflow_of("endless", "endless")
    workflow_of("double", "double")
    for _ in range(3):
        execution = runner.submit("endless", {"place": str(tmp_path)})
        wait_for((tmp_path / "pids").exists, "the task")
        (tmp_path / "pids").unlink()
        execution.cancel()
        assert runner.execute("double", {"number": 1, "exact": 1}, timeout=LIMIT).status == "Completed"


def test_a_task_in_a_process_gives_its_slot_back_too(tmp_path: Path) -> None:
    workflow_of("wait_without_slot", "wait_without_slot")
    workflow_of("nothing", "nothing")
    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)) as runner:
        execution = runner.submit("wait_without_slot", {"file": str(tmp_path / "come")})
        assert runner.execute("nothing", timeout=LIMIT).status == "Completed"
        (tmp_path / "come").touch()
        assert execution.result(LIMIT).final_context["held"] is True


def test_the_engines_lock_and_log_are_not_inherited(tmp_path: Path) -> None:
    workflow_of("report_descriptors", "report_descriptors")
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        context = runner.execute("report_descriptors", timeout=LIMIT).final_context
    assert context["parent"] == os.getpid()
    assert context["open"]
    assert not [place for place in context["open"] if place.startswith(str(tmp_path))]


def test_reads_are_recorded_as_if_the_task_had_run_here(tmp_path: Path) -> None:
    with cloaca.WorkflowBuilder("reads") as builder:

        @cloaca.task
        def writer() -> dict[str, int]:
            return {"undeclared": 1}

        @cloaca.task
        def gate() -> None: ...

        builder.add_task("read_undeclared")
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(str(tmp_path / "log"), config) as runner:
        result = runner.execute("reads", timeout=LIMIT)
    assert result.final_context["seen"] == 1
    replay = Path(sys.executable).with_name("replay")
    shown = subprocess.run(
        [replay, result.execution_id, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    events = json.loads(shown.stdout)["events"]
    completed = [event["body"] for event in events if event["event"] == "TaskCompleted"]
    (done,) = [body for body in completed if body["task"] == "read_undeclared"]
    written = [event for event in events if event["event"] == "ContextWritten"]
    (write,) = [event["seq"] for event in written if event["body"]["key"] == "undeclared"]
    assert done["reads"]["keys"] == [{"key": "undeclared", "seen": "undeclared", "seqs": [write]}]


def test_with_strict_context_an_undeclared_read_raises_there(tmp_path: Path) -> None:
    with cloaca.WorkflowBuilder("strict") as builder:

        @cloaca.task
        def writer() -> dict[str, int]:
            return {"undeclared": 1}

        builder.add_task("read_undeclared")
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1, strict_context=True)
    with cloaca.DefaultRunner(":memory:", config) as runner:
        result = runner.execute("strict", timeout=LIMIT)
    assert "UndeclaredReadError" in (result.tasks["read_undeclared"].error or "")


def test_a_lambda_and_a_local_function_are_refused_when_they_are_decorated() -> None:
    with pytest.raises(ValueError, match=r"task 'fast' cannot run in a worker process: .*<lambda> is a lambda"):
        cloaca.task(id="fast", isolation="process")(lambda context: None)
    with pytest.raises(ValueError, match=r"local is defined inside a function.*top level of a module"):

        @cloaca.task(isolation="process")
        def local() -> None: ...


def test_a_task_that_cannot_be_imported_is_refused_when_the_workflow_is_built() -> None:
    cloaca.task(id="method", isolation="process")(partial(isolated.nothing, threading.Lock()))
    builder = cloaca.WorkflowBuilder("unimportable")
    builder.add_task("method")
    with pytest.raises(cloaca.WorkflowValidationError, match="task 'method' cannot run in a worker process"):
        builder.build()


@pytest.mark.parametrize(
    ("word", "error", "says"),
    [
        ("processes", ValueError, 'isolation must be "thread" or "process", not "processes"'),
        (True, TypeError, 'isolation must be "thread" or "process", not True'),
    ],
)
def test_the_isolation_argument_is_checked(word: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        cloaca.task(isolation=word)
    assert str(caught.value) == says


SCRIPT = """
    import os
    import cloaca

    TABLE = {"a": 1}

    @cloaca.task(isolation="process")
    def in_main(context):
        context["pid"] = os.getpid()
        context["table"] = TABLE

    with cloaca.WorkflowBuilder("script") as builder:
        builder.add_task("in_main")
"""


def run_script(tmp_path: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    command = [sys.executable, *(arguments or ["script.py"])]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)


@pytest.mark.parametrize("arguments", [("script.py",), ("-m", "script")])
def test_functions_of_a_script_are_found(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run_script(
        tmp_path,
        SCRIPT
        + """
    if __name__ == "__main__":
        with cloaca.DefaultRunner("log") as runner:
            context = runner.execute("script").raise_for_status().final_context
            print(context["table"], context["pid"] != os.getpid())
    """,
        *arguments,
    )
    assert (done.stdout, done.stderr) == ("{'a': 1} True\n", "")


def test_a_script_without_a_main_guard_gets_a_hint(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        SCRIPT
        + """
    with cloaca.DefaultRunner("log", cloaca.DefaultRunnerConfig()) as runner:
        result = runner.execute("script")
        print(result.error_message)
        print(result.tasks["in_main"].attempts)
    """,
    )
    assert 'if __name__ == "__main__":' in done.stdout
    assert "to find task 'in_main'" in done.stdout
    # Regression: it failed only after all of its retries, some seconds later, each with the same error.
    assert "WorkerImportError" in done.stdout
    assert done.stdout.splitlines()[-1] == "1"


def test_an_interactive_session_gets_a_hint_to_use_a_module(tmp_path: Path) -> None:
    done = run_script(tmp_path, SCRIPT, "-c", textwrap.dedent(SCRIPT))
    assert "it was defined in an interactive session" in done.stderr


PROGRAM = """
    import sys
    import cloaca
    import isolated

    with cloaca.WorkflowBuilder("sleep") as builder:
        builder.add_task("{task}")
    runner = cloaca.DefaultRunner("log")
    runner.submit("sleep", {{"file": "pid", "place": "."}})
    {then}
"""


@pytest.mark.parametrize(("task", "file"), [("sleep_forever", "pid"), ("endless", "pids")])
def test_workers_die_with_a_program_that_is_killed(tmp_path: Path, task: str, file: str) -> None:
    program = textwrap.dedent(PROGRAM.format(task=task, then="input()"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdin=subprocess.PIPE, text=True, env=environment
    )
    try:
        wait_for(lambda: (tmp_path / file).exists() and (tmp_path / file).read_text(), "the task")
        pids = [int(pid) for pid in (tmp_path / file).read_text().split()]
        process.kill()
        process.wait(LIMIT)
        # The log is free, whatever happens to the worker.
        cloaca.DefaultRunner(str(tmp_path / "log"), cloaca.DefaultRunnerConfig(enable_recovery=False)).shutdown()
        for pid in pids:
            wait_for_end_of(pid)
    finally:
        process.kill()
        process.communicate()


def test_an_exit_with_running_and_idle_workers_leaves_none(tmp_path: Path) -> None:
    then = """
    import os, time
    while not os.path.exists("pid") or not os.path.getsize("pid"):
        time.sleep(0.01)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).format(task="sleep_forever", then=textwrap.dedent(then))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    wait_for_end_of(int((tmp_path / "pid").read_text()))


def test_errors_of_workers_can_be_pickled() -> None:
    error = cloaca.WorkerDiedError("dead", task_id="a", attempt=2)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.task_id, again.attempt) == (cloaca.WorkerDiedError, "dead", "a", 2)


@pytest.mark.parametrize(
    ("how", "code", "task"),
    [
        (how, code, task)
        for how, code in [("returns", 0), ("raises", 1), ("exits", 7), ("asks", 1)]
        for task in ("fall_out_of_process", "fall_out_of_thread", "fall_out_of_coroutine")
        if (how, task) != ("asks", "fall_out_of_coroutine")
    ],
)
def test_a_fork_does_not_answer_for_its_parent(runner: cloaca.DefaultRunner, how: str, code: int, task: str) -> None:
    """Regression: a task forked, and its child returned from the task's function: it reported the end of the attempt to
    the runner, and later attempts in that worker got the answers of earlier ones."""
    workflow_of("forks", task)
    result = runner.execute("forks", {"how": how}, timeout=LIMIT)
    assert result.error_message is None
    context = result.final_context.to_dict()
    assert "written by" not in context
    assert context["code"] == code
    workflow_of("next", "double")
    for number in range(3):
        assert (
            runner.execute("next", {"number": number, "exact": 0}, timeout=LIMIT).final_context["double"] == 2 * number
        )


def test_a_worker_has_the_current_environment_and_directory(
    runner: cloaca.DefaultRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a worker kept the environment from its start, whatever the program had set since."""
    workflow_of("place", "report_place")
    monkeypatch.setenv("BEFORE", "1")
    monkeypatch.setenv("NOW", "first")
    first = runner.execute("place", timeout=LIMIT).final_context
    monkeypatch.delenv("BEFORE")
    monkeypatch.setenv("NOW", "second")
    monkeypatch.chdir(tmp_path)
    second = runner.execute("place", timeout=LIMIT).final_context
    assert first["pid"] == second["pid"]
    assert first["seen"][:2] == ["first", "1"]
    assert second["seen"] == ["second", None, str(tmp_path)]


SLOW_START = """
    import sys, time
    if __name__ != "__main__":
        time.sleep({import_takes})  # imports something large
    import cloaca

    with cloaca.WorkflowBuilder("starts"):
        @cloaca.task(isolation="process", timeout_seconds=1, retry_attempts=2, retry_delay_ms=1)
        def quick(context, handle):
            time.sleep({task_takes})

    if __name__ == "__main__":
        from cloaca import _processes
        _processes._START_TIMEOUT = {limit}
        with cloaca.DefaultRunner(":memory:") as runner:
            result = runner.execute("starts", timeout=25)
            print(result.status, result.tasks["quick"].attempts, result.error_message)
"""


@pytest.mark.parametrize(
    ("import_takes", "task_takes", "limit", "says"),
    [
        (1.3, 0, 300.0, "Completed 1 None"),
        (
            0,
            60,
            300.0,
            "Failed 2 task 'quick' failed, attempt 2 of 2: TaskTimeoutError: the attempt ran longer than 1 s",
        ),
        (60, 0, 0.5, "Failed 2 task 'quick' failed, attempt 2 of 2: WorkerStartError: the worker process"),
    ],
)
def test_the_start_of_a_worker_does_not_count_towards_the_timeout(
    tmp_path: Path, import_takes: float, task_takes: float, limit: float, says: str
) -> None:
    """Regression: a module that took longer to import than the timeout of a task could never run that task: each
    attempt started a new worker, and timed out during the import."""
    done = run_script(tmp_path, SLOW_START.format(import_takes=import_takes, task_takes=task_takes, limit=limit))
    assert done.stdout.startswith(says), done.stdout + done.stderr


PRINTS = """
    import os, sys, time
    import cloaca

    with cloaca.WorkflowBuilder("prints"):
        @cloaca.task(isolation="process", retry_attempts=1, timeout_seconds=1)
        def says(context):
            print("printed", context["how"])
            print("warned", context["how"], file=sys.stderr)
            if context["how"] == "timeout":
                time.sleep(60)
            if context["how"] == "kill":
                os._exit(9)

    if __name__ == "__main__":
        with cloaca.DefaultRunner(":memory:") as runner:
            for how in ("ok", "kill", "timeout"):
                runner.execute("prints", {"how": how}, timeout=25)
                print("after", how, flush=True)
"""


def test_the_output_of_a_task_in_a_worker_appears_at_once(tmp_path: Path) -> None:
    """Regression: with standard output in a pipe or a file, the output of a task appeared at the end of its worker, and
    not at all if that was killed."""
    done = run_script(tmp_path, PRINTS)
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines == [line for how in ("ok", "kill", "timeout") for line in (f"printed {how}", f"after {how}")]
    assert [line for line in done.stderr.splitlines() if line.startswith("warned")] == [
        f"warned {how}" for how in ("ok", "kill", "timeout")
    ]


@pytest.mark.parametrize("flags", [["-bb"], ["-W", "error"], ["-X", "dev", "-bb", "-W", "error"], ["-I"], ["-O", "-E"]])
def test_workers_start_under_every_option_of_the_interpreter(tmp_path: Path, flags: list[str]) -> None:
    """Regression: under ``python -bb`` no worker could start."""
    done = run_script(tmp_path, SLOW_START.format(import_takes=0, task_takes=0, limit=300.0), *flags, "script.py")
    assert done.stdout == "Completed 1 None\n", done.stdout + done.stderr


@pytest.mark.parametrize("executable", ["/no/such/python", "/bin/false"])
def test_workers_that_cannot_start_leave_nothing_open(runner: cloaca.DefaultRunner, executable: str) -> None:
    """Regression: each attempt whose worker could not start leaked a descriptor, until none were left."""
    workflow_of("cannot", "nothing")
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(executable)
    try:
        runner.execute("cannot", timeout=LIMIT)
        opened = len(os.listdir("/proc/self/fd"))
        results = [runner.execute("cannot", timeout=LIMIT) for _ in range(20)]
        # A dead worker is released by its own thread.
        until = time.monotonic() + LIMIT
        while len(os.listdir("/proc/self/fd")) > opened and time.monotonic() < until:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= opened
    finally:
        multiprocessing.set_executable(before)
    expected = (
        "WorkerStartError: a worker process could not" if "no" in executable else "with exit code 1 before the task"
    )
    assert all(expected in (result.error_message or "") for result in results), results[0].error_message
