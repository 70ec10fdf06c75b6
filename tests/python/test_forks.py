"""Forks of a program that has a log open: what they inherit, and what they can do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PROGRAM = """
    import concurrent.futures, logging, multiprocessing, os, pty, signal, subprocess, sys, time
    import cloaca

    with cloaca.WorkflowBuilder("forks"):
        @cloaca.task
        def task(context):
            return {"done": True}

        @cloaca.task(isolation="process")
        def elsewhere(context):
            return {"pid": os.getpid()}

    def descriptors():
        return {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                if os.path.lexists(f"/proc/self/fd/{name}")}

    def of_the_log():
        names = descriptors()
        kept = [name for name in names.values() if "/log/" in name or name.endswith("/log")]
        # The parent's listening sockets, and its connections to workers.
        return kept + [name for name in names.values() if name.startswith("socket:") and name in SOCKETS]

    def report(*_):
        print(of_the_log(), flush=True)

    SOCKETS = ()

    if __name__ == "__main__":
        runner = cloaca.DefaultRunner("log")
        runner.execute("forks")
        SOCKETS = tuple(name for name in descriptors().values() if name.startswith("socket:"))
        assert len(of_the_log()) > 4 and len(SOCKETS) >= 2, (descriptors(), of_the_log())
"""

WAYS = {
    "os.fork": """
        if (child := os.fork()) == 0:
            report()
            os._exit(0)
        os.waitpid(child, 0)
    """,
    "a fork of a fork": """
        if (child := os.fork()) == 0:
            if (grandchild := os.fork()) == 0:
                report()
                os._exit(0)
            os.waitpid(grandchild, 0)
            os._exit(0)
        os.waitpid(child, 0)
    """,
    "pty.fork": """
        child, master = pty.fork()
        if child == 0:
            report()
            os._exit(0)
        print(os.read(master, 1000).decode().strip(), flush=True)
        os.waitpid(child, 0)
    """,
    "multiprocessing": """
        process = multiprocessing.get_context("fork").Process(target=report)
        process.start()
        process.join()
    """,
    "a pool of processes": """
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            pool.submit(report).result()
    """,
    "subprocess with preexec_fn": """
        subprocess.run(["true"], preexec_fn=report, close_fds=False, check=True)
    """,
    "a handler that was registered before": """
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
    """,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_fork_holds_nothing_of_the_log(run_python: Run, tmp_path: Path, way: str) -> None:
    """Regression: a program with a process pool, or preloaded by a web server, was killed; its children lived on, and
    no other process could open its log: they had inherited the lock, the socket and the files."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM) + textwrap.indent(textwrap.dedent(WAYS[way]), "    "))
    early = "os.register_at_fork(after_in_child=report)" if "registered before" in way else ""
    done = run_python(f"""
        import os, runpy, sys
        def report():
            print([name for fd in os.listdir("/proc/self/fd") if os.path.lexists(link := f"/proc/self/fd/{{fd}}")
                   for name in [os.readlink(link)] if "/log/" in name], flush=True)
        {early}
        sys.argv = ["program.py"]
        runpy.run_path("program.py", run_name="__main__")
    """)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("spawn", ["subprocess.Popen(['sleep', '60'], close_fds=False)", "posix_spawn"])
def test_a_started_program_holds_nothing_of_the_log(run_python: Run, spawn: str) -> None:
    started = "os.posix_spawn('/bin/sleep', ['sleep', '60'], os.environ)" if spawn == "posix_spawn" else spawn + ".pid"
    done = run_python(f"""
        import os, signal, subprocess, time
        import cloaca
        runner = cloaca.DefaultRunner("log")
        child = {started}
        while os.readlink(f"/proc/{{child}}/exe") == os.readlink("/proc/self/exe"):
            time.sleep(0.01)
        names = [os.readlink(f"/proc/{{child}}/fd/{{name}}") for name in os.listdir(f"/proc/{{child}}/fd")]
        print([name for name in names if "/log" in name])
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    """)
    assert done.stdout == "[]\n"


@contextmanager
def killed_with_a_child(program: str, directory: Path) -> Iterator[int]:
    """Runs a program until it prints the pid of a child that outlives it, then kills the program."""
    program = textwrap.dedent(program)
    running = subprocess.Popen([sys.executable, "-c", program], cwd=directory, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    child = int(running.stdout.readline())
    running.kill()
    running.wait()
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        running.stdout.close()


def test_a_killed_program_leaves_its_log_to_the_next_one(tmp_path: Path) -> None:
    program = """
        import os, time
        import cloaca
        runner = cloaca.DefaultRunner("log")
        if (child := os.fork()) == 0:
            time.sleep(60)
            os._exit(0)
        print(child, flush=True)
        time.sleep(60)
    """
    with killed_with_a_child(program, tmp_path) as child:
        with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
            assert runner.recovered == []
        assert os.path.exists(f"/proc/{child}"), "the child must live all the time"


def test_a_foreign_holder_of_the_lock_is_named(tmp_path: Path) -> None:
    """Regression: the error named a process that no longer existed as the holder of the lock."""
    program = """
        import fcntl, os, subprocess, time
        import cloaca
        cloaca.DefaultRunner("log").shutdown()
        with open("log/lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            child = subprocess.Popen(["sleep", "60"], stdin=lock)
        print(child.pid, flush=True)
        time.sleep(60)
    """
    with killed_with_a_child(program, tmp_path) as child:
        with pytest.raises(cloaca.LogLockedError) as caught:
            cloaca.DefaultRunner(str(tmp_path / "log"))
        assert f"process {child} (sleep 60)" in str(caught.value)


def test_a_runner_in_a_fork_is_refused_where_it_could_not_work(run_python: Run) -> None:
    """Regression: a runner in a fork whose parent had opened one waited forever for the parent's threads."""
    done = run_python("""
        import os
        import cloaca
        with cloaca.WorkflowBuilder("forked"):
            @cloaca.task
            def task(context): ...
        runner = cloaca.DefaultRunner("log")
        if (child := os.fork()) == 0:
            try:
                cloaca.DefaultRunner("other")
            except cloaca.LogError as error:
                print(error, os.path.exists("other"), flush=True)
            # A log in memory needs none of those threads.
            with cloaca.DefaultRunner(":memory:") as own:
                print(own.execute("forked", timeout=20).status, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """)
    assert "is a fork of process" in done.stdout
    assert done.stdout.endswith("'forkserver') False\nCompleted\n")


def test_forks_that_come_before_the_first_log_have_logs_of_their_own(run_python: Run) -> None:
    done = run_python("""
        import os
        import cloaca
        with cloaca.WorkflowBuilder("forked"):
            @cloaca.task
            def task(context): ...
        children = []
        for n in range(2):
            if (child := os.fork()) == 0:
                with cloaca.DefaultRunner(f"log{n}") as own:
                    print(own.execute("forked", timeout=20).status, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
    """)
    assert done.stdout == "Completed\nCompleted\n"


def test_a_holder_that_is_suspended_is_named_as_not_answering(tmp_path: Path) -> None:
    """Regression: when the program that had the log was suspended by Ctrl-Z, others waited silently: `replay` for a
    minute, `cloaca log prune` for an hour."""
    program = """
        import cloaca, os, signal, time
        with cloaca.WorkflowBuilder("suspended"):
            @cloaca.task
            def task(context): ...
        runner = cloaca.DefaultRunner("log")
        runner.execute("suspended")
        print(flush=True)
        time.sleep(600)
    """
    running = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGSTOP)
    commands = [
        ["replay", "--log", "log", "list"],
        ["replay", "--log", "log", "verify", "--all"],
        ["replay", "--log", "log", "doctor"],
        ["cloaca", "log", "prune", "--keep", "0", "--log", "log", "-y"],
    ]
    try:
        asked = [
            subprocess.Popen(
                [Path(sys.executable).with_name(name), *arguments],
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for name, *arguments in commands
        ]
        for command, process in zip(commands, asked, strict=True):
            output = " ".join(process.communicate(timeout=LIMIT)[0].split())
            assert f"process {running.pid} (" in output, (command, output)
            assert "does not answer: it is suspended" in output, (command, output)
            assert f"kill -CONT {running.pid}" in output, (command, output)
    finally:
        running.send_signal(signal.SIGCONT)
    # It continues, and has lost nothing.
    listed = subprocess.run(
        [Path(sys.executable).with_name("replay"), "--log", "log", "list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert "suspended" in listed.stdout
    running.kill()
    running.wait()
    running.stdout.close()


def test_too_few_threads_are_an_error_at_the_open(run_python: Run) -> None:
    """Regression: under `ulimit -u`, or a container's process limit, opening a log waited forever for threads that
    could not be started, or the runner opened silently and never ran a task."""
    done = run_python("""
        import asyncio, logging, os, resource, signal, tempfile
        import cloaca, cloaca.runner, cloaca.result
        logging.disable()
        place = tempfile.TemporaryDirectory()
        os.chdir(place.name)
        os.environ["XDG_STATE_HOME"] = os.getcwd() + "/state"

        with cloaca.WorkflowBuilder("needs"):
            @cloaca.task(retry_attempts=1)
            def threads(context): ...

        def threads_of_this_user():
            if os.geteuid() == 0:
                # The limit does not apply to root.
                os.chmod(".", 0o777)
                os.setuid(54321)
            count = 0
            for process in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if os.stat(f"/proc/{process}").st_uid == os.getuid():
                        count += len(os.listdir(f"/proc/{process}/task"))
                except OSError:
                    pass
            return count

        def try_it(where, more):
            limit = threads_of_this_user() + more
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
            try:
                with cloaca.DefaultRunner(where) as runner:
                    return runner.execute("needs", timeout=20).status
            except cloaca.Error as error:
                return f"{type(error).__name__} {error}"

        for where in (":memory:", "log"):
            for more in (0, 1, 2, 4, 8, 13, 14, 15, 16, 64):
                reader, writer = os.pipe()
                if (child := os.fork()) == 0:
                    signal.alarm(25)
                    os.write(writer, try_it(f"{where}{more}" if where == "log" else where, more).encode())
                    os._exit(0)
                os.close(writer)
                output = os.read(reader, 2000).decode() or "nothing"
                print(where, more, os.waitpid(child, 0)[1], output, flush=True)
        place.cleanup()
    """)
    output = [line.split(" ", 3) for line in done.stdout.splitlines()]
    assert len(output) == 20, done.stdout + done.stderr
    for where, more, code, what in output:
        assert code == "0", (where, more, what)
        assert what == "Completed" or "thread" in what, (where, more, what)
        assert (what == "Completed") == (more == "64") or 2 < int(more) < 64, (where, more, what)
        assert where != "log" or what == "Completed" or "ulimit -u" in what, (more, what)
    assert "panicked" not in done.stderr, done.stderr
