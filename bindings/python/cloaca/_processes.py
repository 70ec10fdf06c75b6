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
import time
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from . import _failure, _isolation, _portable
from ._cloaca import Attempt, OutOfForks, sighting_of
from .errors import AttemptOverError, Error, WorkerDiedError, WorkerStartError

# So long a dead worker's end is waited for, in seconds: its line is closed a moment before.
_BURIAL = 10.0
# So long a worker may take to start and to import what the task needs, in seconds. No timeout of the task counts then.
_START = 300.0

# What a worker says: what it is about, for which attempt it speaks, and the rest. A fork of it is not believed.
Key = tuple[int, str, str, int]


class Worker:
    """A worker process: spawned, used for one attempt after another, and dead at the first that dies with it."""

    def __init__(self) -> None:
        self._gone = threading.Event()
        # Re-entrant, as all locks here: a finalizer or a signal handler may shut the runner down inside.
        self._lock = threading.RLock()
        # The attempt that runs in it: only that one can have it killed.
        self._attempt: Attempt | None = None
        self._doomed = False
        self.is_new = True
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._line = Connection(os.dup(self._socket.fileno()))
                # A fork that had the line open would keep the worker from hearing of this process's end.
                self._out_of_forks = [OutOfForks(end.fileno()) for end in (self._socket, self._line, theirs)]
                self._process = _spawn(theirs.fileno())
                # It is closed now, and another file may get its number.
                self._out_of_forks.pop()
            _workers.add(self)
            threading.Thread(target=self._bury, name=f"cloaca-worker-process-{self.pid}", daemon=True).start()
        except BaseException:
            # What a failed start leaves would be there for as long as somebody keeps the error.
            self.kill()
            self.close_descriptors()
            raise

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

    def hear(self, attempt: Attempt, timeout: float | None = None) -> tuple[Any, ...] | None:
        """What it says next for an attempt; ``None`` if it is dead.

        Raises:
            TimeoutError: It has said nothing within ``timeout`` seconds.
            _ProtocolError: It is not the worker that speaks, or not for this attempt.
        """
        try:
            is_there = timeout is None or self._line.poll(timeout)
            message = self._line.recv_bytes() if is_there else b""
        except (EOFError, BrokenPipeError, ConnectionError):
            return None
        except OSError as error:
            # A message of a negative length, or a line that is closed.
            return None if self._gone.is_set() or self._line.closed else _broken(self, str(error))
        if not is_there:
            raise TimeoutError
        try:
            key, *parts = pickle.loads(message)
        except Exception as error:
            return _broken(self, f"what it said makes no sense: {error}")
        if key != key_of(self.pid, attempt.execution_id, attempt.task_id, attempt.attempt):
            return _broken(self, f"it spoke as process {key[0]} for attempt {key[3]} at task '{key[2]}'")
        return tuple(parts)

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
        if not self._gone.is_set() and hasattr(self, "_process"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def let_go(self) -> None:
        """Hangs up: it ends, unless something runs in it, which is killed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Lets the line go, without hanging up if somebody else has it, too."""
        self._out_of_forks = []
        with contextlib.suppress(OSError, AttributeError):
            self._line.close()
        self._socket.close()

    def cause_of_death(self, when: str) -> str:
        """How it ended, in words."""
        self._gone.wait(_BURIAL)
        code = self._process.returncode
        if code is None:
            return f"the worker process {self.pid} hung up"
        if code >= 0:
            return f"the worker process {self.pid} ended with exit code {code} {when}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        hint = "; the kernel does that to a process when memory runs out" if -code == signal.SIGKILL else ""
        return f"the worker process {self.pid} was killed by signal {-code} ({name}) {when}{hint}"


class _ProtocolError(Exception):
    """A worker said something that is not its to say."""


def _broken(worker: Worker, why: str) -> NoReturn:
    raise _ProtocolError(f"the line to the worker process {worker.pid} is broken: {why}")


def key_of(pid: int, execution_id: str, task_id: str, attempt: int) -> Key:
    """Who speaks, and for which attempt."""
    return pid, execution_id, task_id, attempt


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [*_interpreter(), "-c", _program(descriptor)],
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            # Ctrl-C in the terminal is the program's affair, and a kill reaches what the task has started.
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerStartError(f"a worker process could not be started: {error}") from error


class Processes:
    """The worker processes of a runner. There are as many as attempts have run in them at once."""

    def __init__(self, keep: Callable[[Attempt, BaseException], object]) -> None:
        self._keep = keep
        self._lock = threading.RLock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    def run(self, attempt: Attempt) -> None:
        """Runs an attempt, and ends it."""
        try:
            attempt.hold_timeout()
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
                if worker.hear(attempt, _START) == ("accepted",):
                    return self._attend(worker, attempt)
                if worker.is_new or attempt.is_over:
                    return self._mourn(worker, attempt, "before the task ran")
                # It died while it had nothing to do: that is not this attempt's fault.
            except TimeoutError:
                worker.kill()
                raise WorkerStartError(_too_slow(worker)) from None
            except _ProtocolError as error:
                worker.kill()
                raise WorkerDiedError(f"{error}; it was killed") from None
            finally:
                worker.belongs_to(None)
                self._put(worker)

    def _attend(self, worker: Worker, attempt: Attempt) -> None:
        """Answers what the attempt asks, until it ends."""
        until = time.monotonic() + _START
        starting = True
        while (message := worker.hear(attempt, max(0.0, until - time.monotonic()) if starting else None)) is not None:
            what, *parts = message
            if what == "running":
                starting = False
                attempt.begin_timeout()
            elif what == "give_slot_back":
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
        return self._mourn(worker, attempt, "before the task ran" if starting else "while the task ran")

    def _mourn(self, worker: Worker, attempt: Attempt, when: str) -> None:
        error = WorkerDiedError(
            worker.cause_of_death(when),
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
        "environment": dict(os.environb),
        "preparation": _isolation.preparation(),
    }


def _has_slot_again(attempt: Attempt) -> bool:
    try:
        attempt.take_slot()
    except AttemptOverError:
        return False
    return True


def _too_slow(worker: Worker) -> str:
    return (
        f"the worker process {worker.pid} has not come to the task's function within {_START:g} s, and was killed; it "
        f"imports the module of the task first: see what that waits for"
    )


def _interpreter() -> list[str]:
    """This interpreter, with the options that it was started with."""
    from multiprocessing import spawn

    # Some parts are bytes; compared with text, they are an error under `python -bb`.
    command = [os.fsdecode(part) for part in spawn.get_command_line()]
    return command[: command.index("-c")] if "-c" in command else command[:1]


def _program(descriptor: int) -> str:
    """What a worker runs. It finds this package where this process found it."""
    # What else somebody has put into it cannot be written down, and is no path for the import system either.
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return f"import sys; sys.path[:] = {path!r}; from cloaca._worker import main; main({descriptor})"


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def _hang_up_in_fork() -> None:
    """In a fork of this process: the lines are the parent's. While the fork held them open, too, a worker would not
    hear of the parent's end."""
    for worker in list(_workers):
        worker.close_descriptors()


os.register_at_fork(after_in_child=_hang_up_in_fork)
