"""A worker process: runs attempts of the runner that started it, one after another, until that is gone.

It imports the program's modules to find the tasks' functions. It is the leader of a session and process group of its
own: Ctrl-C in the terminal is the program's affair, and whoever kills the worker kills what its tasks have started too.
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
from ._cloaca import Context, OutOfForks, context_of, deeds_of, take_returned
from ._handle import TaskHandle
from .errors import AttemptOverError

if TYPE_CHECKING:
    from ._processes import Key

# The fields of an attempt: function, is_async, parameters, task_id, attempt, execution_id, sighting, environment,
# preparation.
Job = dict[str, Any]


class _Line:
    """The line to the runner. Only one thread reads it, so that the end of the line is seen while a task runs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._process = os.getpid()
        # A fork of the task's must not answer for this process: its end of the line is no line.
        self._out_of_forks = OutOfForks(connection.fileno())
        self._key: Key | None = None
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._saying = threading.Lock()
        self._busy = False
        threading.Thread(target=self._read, name="cloaca-line", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                message = pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                with self._lock:
                    if self._busy:
                        # Nobody wants the result, and whatever the task does would be done behind everybody's back.
                        os.killpg(0, signal.SIGKILL)
                self._messages.put(None)
                return
            self._messages.put(message)

    def next_job(self) -> Job | None:
        """The next attempt; ``None`` when the runner is gone."""
        job: Job | None = self._messages.get()
        with self._lock:
            self._busy = job is not None
        if job is not None:
            self._key = (self._process, job["execution_id"], job["task_id"], job["attempt"])
        return job

    @property
    def is_in_fork(self) -> bool:
        """Whether this is a fork of the worker process."""
        return os.getpid() != self._process

    def ask(self, *message: Any) -> Any:
        """Says something to the runner and waits for its answer."""
        self.say(*message)
        return self._messages.get()

    def say(self, *message: Any) -> None:
        """Says something to the runner. If that is gone, the reader hears of it."""
        text = pickle.dumps((self._key, *message))
        # Threads of the task may ask for slots at the same time.
        with self._saying, contextlib.suppress(OSError):
            self._connection.send_bytes(text)

    def end(self, *message: Any) -> None:
        """Says how the attempt ended."""
        with self._lock:
            self._busy = False
        self.say(*message)


class _Attempt:
    """What a `TaskHandle` asks, over the line."""

    def __init__(self, line: _Line, job: Job) -> None:
        self._line = line
        self._job = job
        self.is_async: bool = job["is_async"]
        self.is_over = False
        self.is_slot_held = True

    def _check_process(self) -> None:
        if self._line.is_in_fork:
            raise self.over("a fork of the worker process cannot ask for it")

    def give_slot_back(self) -> None:
        self._check_process()
        self.is_slot_held = False
        self._line.say("give_slot_back")

    def take_slot(self) -> None:
        self._check_process()
        self.is_slot_held = bool(self._line.ask("take_slot"))
        if not self.is_slot_held:
            raise self.over()

    def take_slot_then(self, call: Callable[[], object]) -> None:
        def wait() -> None:
            with contextlib.suppress(AttemptOverError):
                self.take_slot()
            call()

        threading.Thread(target=wait, name="cloaca-slot", daemon=True).start()

    def sleep(self, seconds: float) -> None:
        # When the attempt is over, the process is killed.
        time.sleep(seconds)

    def over(self, why: str = "counts no more") -> AttemptOverError:
        job = self._job
        return AttemptOverError(
            f"attempt {job['attempt']} at task '{job['task_id']}' of execution {job['execution_id']}: {why}",
            execution_id=job["execution_id"],
            task_id=job["task_id"],
            attempt=job["attempt"],
        )


def main(descriptor: int) -> None:
    """Runs attempts until the runner is gone."""
    os.set_inheritable(descriptor, False)
    _print_at_once()
    line = _Line(Connection(descriptor))
    while (job := line.next_job()) is not None:
        line.say("accepted")
        context = context_of(job["sighting"])
        outcome: tuple[Any, ...] = ("completed",)
        try:
            contextvars.Context().run(_run, job, context, line)
            if line.is_in_fork:
                _forks.leave(None)
        except BaseException as error:
            if line.is_in_fork:
                _forks.leave(error)
            # SystemExit too: a task ends its attempt, and the process is for the next one.
            _failure.strip(error)
            outcome = ("failed", _failure.describe(error), _portable.pickled(error))
            _failure.release(error)
        _forks.flush_output()
        line.end(*outcome, deeds_of(context))


def _print_at_once() -> None:
    """Has each line appear when it is printed, as on a terminal: a worker may be killed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _run(job: Job, context: Context, line: _Line) -> None:
    function = _function(job)
    handle = TaskHandle(job["task_id"], job["attempt"], job["execution_id"])
    handle._native = _Attempt(line, job)  # type: ignore[assignment]
    call = partial(function, *(context, handle)[: job["parameters"]])
    line.say("running")
    if job["is_async"]:
        from . import _loop

        returned = _loop.run(f"attempt {job['attempt']} at task '{job['task_id']}'", call)
    else:
        returned = call()
    take_returned(context, returned, job["task_id"])


def _be_as_now(job: Job) -> None:
    """Takes over the environment of the runner's process. (Its directory comes with the preparation.)"""
    environment: dict[bytes, bytes] = job["environment"]
    for name in os.environb.keys() - environment.keys():
        del os.environb[name]
    for name, value in environment.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _function(job: Job) -> Any:
    from multiprocessing import spawn

    preparation = job["preparation"]
    if not _isolation.needs_main(job["function"]):
        preparation = {key: value for key, value in preparation.items() if not key.startswith("init_main")}
    _be_as_now(job)
    _isolation.importing_for = job["task_id"]
    try:
        # It imports the main module once; later calls find that it is there.
        spawn.prepare(preparation)
        return pickle.loads(job["function"])
    finally:
        _isolation.importing_for = None
