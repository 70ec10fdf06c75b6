"""Shutting down a runner: what it still does, and what the next one resumes."""

from __future__ import annotations

import gc
import subprocess
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import cloaca
import pytest
from cloaca.testing import clean_registry

from conftest import LIMIT

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_after_shutdown_nothing_is_started(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("down"):

        @cloaca.task
        def task() -> None: ...

    runner.shutdown()
    runner.shutdown()
    with pytest.raises(cloaca.Error, match="shut down"):
        runner.execute("down")
    assert repr(runner) == "DefaultRunner(':memory:', durability='sync', shut down)"


class ShutdownFails(cloaca.DefaultRunner):
    """A runner whose shutdown fails."""

    def shutdown(self) -> None:
        super().shutdown()
        raise cloaca.LogError("the disk went away")


def test_an_error_in_the_block_is_not_replaced_by_one_of_the_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError, match="of the program"), ShutdownFails(":memory:") as runner:
        raise KeyError("of the program")
    assert repr(runner).endswith("shut down)")
    assert "the disk went away" in caplog.text


def test_an_error_of_the_shutdown_is_raised_if_there_is_no_other() -> None:
    with pytest.raises(cloaca.LogError, match="the disk went away"), ShutdownFails(":memory:"):
        pass


def test_shutdown_wakes_waiting_callers() -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("wakes"):

        @cloaca.task
        def task() -> None:
            release.wait(LIMIT)

    runner = cloaca.DefaultRunner(":memory:")
    execution = runner.submit("wakes")
    caught = []

    def wait() -> None:
        try:
            execution.result()
        except cloaca.Error as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    runner._shutdown(0.05)
    thread.join(LIMIT)
    release.set()
    assert "shut down before" in str(caught[0])
    assert caught[0].execution_id == execution.id


def test_the_next_runner_finishes_unfinished_executions(tmp_path: Path) -> None:
    first_run, release = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("left"):

        @cloaca.task
        def done(context: cloaca.Context) -> dict[str, int]:
            return {"done": context.get("done", 0) + 1}

        @cloaca.task(dependencies=[done])
        def interrupted(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            if not first_run.is_set():
                first_run.set()
                release.wait(LIMIT)
                return
            context["attempt"] = handle.attempt

    path = tmp_path / "log"
    runner = cloaca.DefaultRunner(f"cloaca:///{path}")
    execution = runner.submit("left")
    assert first_run.wait(LIMIT)
    runner._shutdown(0.0)
    release.set()
    with cloaca.DefaultRunner(str(path)) as second:
        assert [recovered.id for recovered in second.recovered] == [execution.id]
        result = second.recovered[0].result(LIMIT)
        assert result.final_context == {"done": 1, "attempt": 2}


PROGRAM = """
    import asyncio, atexit, os, signal, sys, threading, time, weakref
    {before}
    import cloaca

    with cloaca.WorkflowBuilder("cleanup"):
        @cloaca.task
        def tidy(context):
            context["tidied"] = True

    with cloaca.WorkflowBuilder("slow"):
        @cloaca.task
        def work(context):
            time.sleep(60)

    def tries(call):
        try:
            print(call(), flush=True)
        except cloaca.Error as error:
            print("Error:", error, flush=True)
"""

NEW = "cloaca.DefaultRunner(':memory:').execute('cleanup', timeout=20).status"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("runner.execute('cleanup', timeout=20).status", "Completed"),
        (NEW, "Completed"),
        ("execution.status", "Completed"),
        ("execution.result(20).status", "Completed"),
        ("asyncio.run(runner.execute_async('cleanup')).status", "Completed"),
    ],
)
def test_a_runner_works_in_an_atexit_handler(run_python: Run, call: str, says: str) -> None:
    """Regression: a runner in an atexit handler waited forever for threads that were already gone: such programs had to
    be killed."""
    done = run_python(
        PROGRAM.format(before="")
        + f"""
    atexit.register(lambda: tries(lambda: {call}))
    threading._register_atexit(lambda: tries(lambda: {call}))
    runner = cloaca.DefaultRunner(":memory:")
    execution = runner.submit("cleanup")
    execution.result()
    """
    )
    assert done.stdout.splitlines() == [says, says]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("runner.execute('cleanup', timeout=20).status", "shut down"),
        (NEW, "the interpreter is ending"),
        ("execution.status", "Completed"),
        ("execution.result(20).status", "Completed"),
        ("runner.shutdown()", "None"),
    ],
)
@pytest.mark.parametrize(
    "how", ["in a handler", "in a thread of a handler", "in a finalizer", "in a weakref's callback"]
)
def test_after_its_shutdown_at_exit_a_runner_answers_at_once(run_python: Run, how: str, call: str, says: str) -> None:
    """Handlers that were registered before the import, finalizers of globals and callbacks of weak references run when
    the runners are gone: they get an error, and the process ends."""
    handler = "lambda: tries(lambda: " + call + ")"
    before = {
        "in a handler": f"atexit.register({handler})",
        "in a thread of a handler": f"""
    def in_a_thread():
        thread = threading.Thread(target={handler})
        thread.start()
        thread.join()
    atexit.register(in_a_thread)""",
    }
    after = {
        "in a finalizer": f"""
    class Resource:
        def __del__(self, tries=tries, runner=runner, execution=execution, cloaca=cloaca):
            ({handler})()
    resource = Resource()""",
        "in a weakref's callback": f"""
    class Resource: ...
    resource = Resource()
    def gone(_, tries=tries, runner=runner, execution=execution, cloaca=cloaca):
        ({handler})()
    reference = weakref.ref(resource, gone)
    # It is freed together with the registry of modules, after all handlers.
    sys.modules["resource of the program"] = resource
    del resource""",
    }
    done = run_python(
        PROGRAM.format(before=before.get(how, ""))
        + f"""
    runner = cloaca.DefaultRunner(":memory:")
    execution = runner.submit("cleanup")
    execution.result()
    {after.get(how, "")}
    """
    )
    if how == "in a thread of a handler" and call.startswith("execution."):
        # Only the thread that ends the interpreter can wait.
        assert says in done.stdout or "the interpreter is ending" in done.stdout
    else:
        assert says in done.stdout, done.stdout + done.stderr


def test_a_daemon_thread_that_submits_at_interpreter_exit_delays_nobody(run_python: Run) -> None:
    """Regression: a thread whose wait ended during the interpreter's teardown could crash or hang the process."""
    done = run_python(
        PROGRAM.format(before="")
        + """
    runner = cloaca.DefaultRunner("log")

    def submits():
        while True:
            try:
                runner.execute("cleanup")
            except cloaca.Error:
                pass

    for _ in range(4):
        threading.Thread(target=submits, daemon=True).start()
    while len(runner.list_executions()) < 5:
        time.sleep(0.01)
    print("main ends", flush=True)
    """
    )
    assert (done.stdout, done.stderr) == ("main ends\n", "")


@pytest.mark.parametrize("log", [":memory:", "log"])
def test_a_signal_handler_may_shut_down_a_runner_during_its_shutdown(run_python: Run, log: str) -> None:
    """Regression: SIGTERM arrived during a shutdown, and its handler shut the runner down as well: the program hung,
    and only SIGKILL helped."""
    done = run_python(
        PROGRAM.format(before="")
        + f"""
    runner = cloaca.DefaultRunner({log!r})

    def on_term(signum, frame):
        print("SIGTERM", flush=True)
        # Shut down from here, and from a thread that is joined here.
        thread = threading.Thread(target=runner.shutdown)
        thread.start()
        runner._shutdown(0.1)
        thread.join()
        print("handled", flush=True)

    signal.signal(signal.SIGTERM, on_term)
    runner.submit("slow")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    runner._shutdown(60)
    print("shut down", flush=True)
    """
    )
    assert done.stdout.split("\n") == ["SIGTERM", "handled", "shut down", ""]


def test_a_second_ctrl_c_ends_the_grace_period_of_running_tasks(run_python: Run) -> None:
    """Regression: Ctrl-C left the block, whose end gave the running task 5 seconds, and nothing could shorten them:
    users killed the process in the end, without an orderly close of the log."""
    done = run_python(
        PROGRAM.format(before="")
        + """
    class Patient(cloaca.DefaultRunner):
        def shutdown(self):
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            self._shutdown(60)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Patient("log") as runner:
            execution = runner.submit("slow")
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)
    except KeyboardInterrupt:
        print("interrupted", runner.is_shut_down, flush=True)
    with cloaca.DefaultRunner("log") as runner:
        [left] = runner.recovered
        print(left == runner.get_execution(execution.id))
        runner._shutdown(0)
    """
    )
    assert done.stdout == "interrupted True\nTrue\n"


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("of", ["task", "callback", "trigger", "workflow", "handle"])
def test_globals_of_a_program_are_freed_at_its_end(run_python: Run, of: str, runs: bool) -> None:
    """Regression: the registries kept the functions of a script alive, and with them its globals: finalizers did not
    run, and files that were never closed were not flushed."""
    program = f"""
    import os, threading, time
    import cloaca

    class Connection:
        def __del__(self):
            print("closed", flush=True)

    connection = Connection()
    out = open("report.txt", "w")
    handles = []

    def note(*_):
        out.write("a callback\\n")

    with cloaca.WorkflowBuilder("keeps") as builder:
        @cloaca.task(on_success=note if {of == "callback"} else None)
        def writes(context, handle):
            out.write("a task\\n")
            if {of == "handle"}:
                handles.append(handle)

    if {of == "trigger"}:
        @cloaca.trigger("keeps", poll_interval="1h")
        def looks():
            out.write("a trigger\\n")
            return cloaca.TriggerResult.skip()

    if {of == "workflow"}:
        with cloaca.WorkflowBuilder("other") as other:
            @cloaca.task
            def also(context): ...

    if {runs}:
        runner = cloaca.DefaultRunner(":memory:")
        runner.execute("keeps")
    """
    done = run_python(program)
    assert done.stdout == "closed\n"


def test_an_unclosed_file_is_flushed_at_the_end(run_python: Run, tmp_path: Path) -> None:
    run_python("""
        import cloaca
        out = open("report.txt", "w")
        out.write("the report\\n")
        with cloaca.WorkflowBuilder("reports"):
            @cloaca.task
            def task(context):
                out.write("a line of the task\\n")
        with cloaca.DefaultRunner(":memory:") as runner:
            runner.execute("reports")
    """)
    assert (tmp_path / "report.txt").read_text() == "the report\na line of the task\n"


def test_a_workflow_that_its_own_function_refers_to_is_collected() -> None:
    """Regression: native objects hid their references from the garbage collector: a cycle through a task was leaked."""

    class Kept: ...

    def define() -> weakref.ref[Kept]:
        kept = Kept()
        builder = cloaca.WorkflowBuilder("cycle")

        @cloaca.task(on_failure=lambda *_: workflow)
        def task() -> None:
            print(kept, workflow)

        spec = builder.add_task(task)
        workflow = spec.build()
        with cloaca.DefaultRunner(":memory:") as runner:
            from cloaca.workflow import workflows

            workflows.register(workflow)
            runner.execute("cycle")
        return weakref.ref(kept)

    with clean_registry():
        reference = define()
    gc.collect()
    assert reference() is None
