"""The worker processes of a runner, and the attempts that run in them."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from . import _failure, _isolation, _portable
from ._cloaca import Attempt, sighting_of
from .errors import AttemptOverError, Error, WorkerDiedError

# So long a dead worker's end is waited for, in seconds: its line is closed a moment before.
_BURIAL = 10.0


class Worker:
    """A worker process: spawned, used for one attempt after another, and dead at the first that dies with it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [*_interpreter(), "-c", _program(descriptor)],
                stdin=subprocess.DEVNULL,
                pass_fds=[descriptor],
                # Ctrl-C in the terminal is the program's affair, and a kill reaches what the task has started.
                start_new_session=True,
            )
        self._line = Connection(os.dup(self._socket.fileno()))
        self._gone = threading.Event()
        self._lock = threading.Lock()
        # The attempt that runs in it: only that one can have it killed.
        self._attempt: Attempt | None = None
        self._doomed = False
        self.is_new = True
        _workers.add(self)
        threading.Thread(target=self._bury, name=f"cloaca-worker-process-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _bury(self) -> None:
        """Waits for its death, and hangs up: a child of the task's may hold the other end of the line open."""
        self._process.wait()
        self._gone.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def say(self, message: Any) -> None:
        """Says something to it. What it does not hear, since it is dead, the next `hear` tells."""
        with contextlib.suppress(OSError):
            self._line.send_bytes(pickle.dumps(message))

    def hear(self) -> tuple[Any, ...] | None:
        """What it says next; ``None`` if it is dead."""
        try:
            message: tuple[Any, ...] = pickle.loads(self._line.recv_bytes())
        except (EOFError, OSError):
            return None
        return message

    @property
    def is_usable(self) -> bool:
        """Whether it can run another attempt."""
        return not self._doomed and not self._gone.is_set()

    def belongs_to(self, attempt: Attempt | None) -> None:
        """Says which attempt runs in it."""
        with self._lock:
            self._attempt = attempt

    def kill_for(self, attempt: Attempt) -> None:
        """Kills it if that attempt runs in it."""
        with self._lock:
            if self._attempt is attempt:
                self._kill()

    def kill(self) -> None:
        """Kills it, and what its tasks have started."""
        with self._lock:
            self._kill()

    def _kill(self) -> None:
        self._doomed = True
        if not self._gone.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def let_go(self) -> None:
        """Hangs up: it ends, unless something runs in it, which is killed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Lets the line go, without hanging up if somebody else has it, too."""
        with contextlib.suppress(OSError):
            self._line.close()
        self._socket.close()

    def cause_of_death(self) -> str:
        """How it ended, in words."""
        self._gone.wait(_BURIAL)
        code = self._process.returncode
        if code is None:
            return f"the worker process {self.pid} hung up"
        if code >= 0:
            return f"the worker process {self.pid} ended with exit code {code} while the task ran"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        hint = "; the kernel does that to a process when memory runs out" if -code == signal.SIGKILL else ""
        return f"the worker process {self.pid} was killed by signal {-code} ({name}) while the task ran{hint}"


class Processes:
    """The worker processes of a runner. There are as many as attempts have run in them at once."""

    def __init__(self, keep: Callable[[Attempt, BaseException], object]) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    def run(self, attempt: Attempt) -> None:
        """Runs an attempt, and ends it."""
        try:
            self._run(attempt, _job(attempt))
        except Exception as error:
            # No worker could be started, or what it has to know could not be put into words.
            self._fail(attempt, error, _failure.describe(error))

    def _run(self, attempt: Attempt, job: dict[str, Any]) -> None:
        while True:
            worker = self._take()
            worker.belongs_to(attempt)
            try:
                attempt.on_cancel(lambda: worker.kill_for(attempt))  # noqa: B023 - the attempt's last worker
                worker.say(job)
                if worker.hear() is not None:
                    return self._attend(worker, attempt)
                if worker.is_new or attempt.is_over:
                    return self._mourn(worker, attempt)
                # It died while it had nothing to do: that is not this attempt's fault.
            finally:
                worker.belongs_to(None)
                self._put(worker)

    def _attend(self, worker: Worker, attempt: Attempt) -> None:
        """Answers what the attempt asks, until it ends."""
        while (message := worker.hear()) is not None:
            what, *parts = message
            if what == "give_slot_back":
                attempt.give_slot_back()
            elif what == "take_slot":
                worker.say(_has_slot_again(attempt))
            elif what == "completed":
                attempt.repeat(parts[0])
                return attempt.complete(None)
            else:
                described, pickled, deeds = parts
                attempt.repeat(deeds)
                return self._fail(attempt, _portable.unpickled(pickled), described)
        return self._mourn(worker, attempt)

    def _mourn(self, worker: Worker, attempt: Attempt) -> None:
        error = WorkerDiedError(
            worker.cause_of_death(),
            execution_id=attempt.execution_id,
            task_id=attempt.task_id,
            attempt=attempt.attempt,
        )
        self._fail(attempt, error, _failure.describe(error))

    def _fail(self, attempt: Attempt, error: BaseException | None, described: _failure.Described) -> None:
        if error is not None:
            self._keep(attempt, error)
        attempt.fail(described)

    def _take(self) -> Worker:
        with self._lock:
            if self._closed:
                raise Error("the runner is shut down")
            while self._idle:
                worker = self._idle.pop()
                if worker.is_usable:
                    self._busy.add(worker)
                    return worker
                worker.let_go()
        worker = Worker()
        with self._lock:
            self._busy.add(worker)
            if self._closed:
                worker.kill()
        return worker

    def _put(self, worker: Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
            if not self._closed and worker.is_usable:
                worker.is_new = False
                self._idle.append(worker)
                return
        worker.kill()
        worker.let_go()

    def close(self) -> None:
        """Lets idle workers go, and kills the others."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for worker in idle:
            worker.let_go()
        for worker in busy:
            worker.kill()


def _job(attempt: Attempt) -> dict[str, Any]:
    return {
        "function": _isolation.pickled(attempt.function),
        "is_async": attempt.is_async,
        "parameters": attempt.parameters,
        "task_id": attempt.task_id,
        "attempt": attempt.attempt,
        "execution_id": attempt.execution_id,
        "sighting": sighting_of(attempt.context),
        "preparation": _isolation.preparation(),
    }


def _has_slot_again(attempt: Attempt) -> bool:
    try:
        attempt.take_slot()
    except AttemptOverError:
        return False
    return True


def _interpreter() -> list[str]:
    """This interpreter, with the options that it was started with."""
    from multiprocessing import spawn

    command: list[str] = spawn.get_command_line()
    return command[: command.index("-c")] if "-c" in command else command[:1]


def _program(descriptor: int) -> str:
    """What a worker runs. It finds this package where this process found it."""
    return f"import sys; sys.path[:] = {sys.path!r}; from cloaca._worker import main; main({descriptor})"


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def _hang_up_in_fork() -> None:
    """In a fork of this process: the lines are the parent's. While the fork held them open, too, a worker would not
    hear of the parent's end."""
    for worker in list(_workers):
        worker.close_descriptors()


os.register_at_fork(after_in_child=_hang_up_in_fork)
