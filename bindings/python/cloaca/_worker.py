"""The main program of a worker process: runs attempts one after another until its runner is gone.

It imports the program's modules to find the tasks' functions. It leads a session and process group of its own:
Ctrl-C in the terminal does not reach it, and a kill of the group includes the child processes of its tasks.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from . import _failure, _forks, _isolation, _portable
from ._cloaca import Context, ForkGuard, changes_of, context_of, take_returned
from ._handle import TaskHandle
from .errors import AttemptOverError

if TYPE_CHECKING:
    from ._processes import Sender

# An attempt to run: function, is_async, parameters, task_id, attempt, execution_id, snapshot, environment, preparation.
Job = dict[str, Any]


class _RunnerConnection:
    """The connection to the runner. A single thread reads it, so that its end is noticed while a task is running."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._process = os.getpid()
        # Closes the connection in forks that the task creates: they must not answer for this process.
        self._fork_guard = ForkGuard(connection.fileno())
        self._sender: Sender | None = None
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._busy = False
        threading.Thread(target=self._read, name="cloaca-connection", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                message = pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                with self._lock:
                    if self._busy:
                        # The runner is gone: the result has no recipient, and the task must not run unsupervised.
                        os.killpg(0, signal.SIGKILL)
                self._messages.put(None)
                return
            self._messages.put(message)

    def next_job(self) -> Job | None:
        """Return the next attempt; ``None`` when the runner is gone."""
        job: Job | None = self._messages.get()
        with self._lock:
            self._busy = job is not None
        if job is not None:
            self._sender = (self._process, job["execution_id"], job["task_id"], job["attempt"])
        return job

    @property
    def is_in_fork(self) -> bool:
        """Whether this is a fork of the worker process."""
        return os.getpid() != self._process

    def request(self, *message: Any) -> Any:
        """Send a message to the runner and return its answer."""
        self.send(*message)
        return self._messages.get()

    def send(self, *message: Any) -> bool:
        """Send a message to the runner, and return whether that worked. The reading thread notices if it is gone."""
        pickled = pickle.dumps((self._sender, *message))
        # Several threads of the task may request slots at the same time.
        with self._send_lock:
            try:
                self._connection.send_bytes(pickled)
            except OSError:
                return False
        return True

    def end(self, *message: Any) -> None:
        """Send the outcome of the attempt."""
        with self._lock:
            self._busy = False
        if not self.send(*message):
            # The task has closed the connection. The runner notices only that the process ends.
            os._exit(1)


class _Attempt:
    """The attempt behind a `TaskHandle` in a worker process: forwards the handle's calls to the runner."""

    def __init__(self, connection: _RunnerConnection, job: Job) -> None:
        self._connection = connection
        self._job = job
        self.is_async: bool = job["is_async"]
        self.is_over = False
        self.is_slot_held = True

    def _check_process(self) -> None:
        if self._connection.is_in_fork:
            raise self.over("cannot be used in a fork of the worker process")

    def release_slot(self) -> None:
        self._check_process()
        self.is_slot_held = False
        self._connection.send("release_slot")

    def take_slot(self) -> None:
        self._check_process()
        self.is_slot_held = bool(self._connection.request("take_slot"))
        if not self.is_slot_held:
            raise self.over()

    def take_slot_then(self, call: Callable[[], object]) -> None:
        def wait() -> None:
            with contextlib.suppress(AttemptOverError):
                self.take_slot()
            call()

        threading.Thread(target=wait, name="cloaca-slot", daemon=True).start()

    def sleep(self, seconds: float) -> None:
        # No need to wake up early: the process is killed when the attempt is over.
        time.sleep(seconds)

    def over(self, state: str = "is over") -> AttemptOverError:
        job = self._job
        return AttemptOverError(
            f"attempt {job['attempt']} of task '{job['task_id']}' in execution {job['execution_id']} {state}",
            execution_id=job["execution_id"],
            task_id=job["task_id"],
            attempt=job["attempt"],
        )


def main(descriptor: int) -> None:
    """Run attempts until the runner is gone."""
    os.set_inheritable(descriptor, False)
    _enable_line_buffering()
    connection = _RunnerConnection(Connection(descriptor))
    while (job := connection.next_job()) is not None:
        connection.send("accepted")
        context = context_of(job["snapshot"])
        outcome: tuple[Any, ...] = ("completed",)
        try:
            contextvars.Context().run(_run, job, context, connection)
            if connection.is_in_fork:
                _forks.exit_fork(None)
        except BaseException as error:
            if connection.is_in_fork:
                _forks.exit_fork(error)
            # SystemExit too ends only the attempt: the process is reused.
            _failure.strip(error)
            outcome = ("failed", _failure.describe(error), _portable.pickled(error))
            _failure.release(error)
        _forks.flush_output()
        connection.end(*outcome, changes_of(context))


def _enable_line_buffering() -> None:
    """Flush output after each line, as on a terminal: a killed worker would lose buffered output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _run(job: Job, context: Context, connection: _RunnerConnection) -> None:
    function = _import_function(job)
    handle = TaskHandle(job["task_id"], job["attempt"], job["execution_id"])
    handle._native = _Attempt(connection, job)  # type: ignore[assignment]
    call = partial(function, *(context, handle)[: job["parameters"]])
    connection.send("running")
    if job["is_async"]:
        from . import _loop

        returned = _loop.run(f"attempt {job['attempt']} of task '{job['task_id']}'", call)
    else:
        returned = call()
    take_returned(context, returned, job["task_id"])


def _copy_environment(job: Job) -> None:
    """Set the environment variables of the runner's process. (The preparation sets the working directory.)"""
    environment: dict[bytes, bytes] = job["environment"]
    for name in os.environb.keys() - environment.keys():
        del os.environb[name]
    for name, value in environment.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _import_function(job: Job) -> Any:
    from multiprocessing import spawn

    preparation = job["preparation"]
    if not _isolation.needs_main(job["function"]):
        preparation = {key: value for key, value in preparation.items() if not key.startswith("init_main")}
    _copy_environment(job)
    _isolation.importing_for = job["task_id"]
    try:
        # Imports the main module on the first call only.
        spawn.prepare(preparation)
        return pickle.loads(job["function"])
    finally:
        _isolation.importing_for = None
