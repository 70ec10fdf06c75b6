"""The runner's side of worker processes: a pool of them, and the attempts that run in them."""

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
from ._cloaca import Attempt, ForkGuard, snapshot_of
from .errors import AttemptOverError, Error, WorkerDiedError, WorkerStartError

# How long to wait for the exit status of a dead worker, in seconds: its connection is closed slightly earlier.
_EXIT_TIMEOUT = 10.0
# How long a worker may take to start and to import the task's module, in seconds. The task's timeout does not run yet.
_START_TIMEOUT = 300.0

# The sender of a worker's message: its process id, and the execution, task and number of its attempt. Each message
# starts with it, so that messages from a fork of the worker are rejected.
Sender = tuple[int, str, str, int]


class Worker:
    """A worker process. It is spawned, and reused for further attempts until it dies or is killed."""

    def __init__(self) -> None:
        self._exited = threading.Event()
        # Re-entrant, like all locks here: a finalizer or a signal handler may shut the runner down while it is held.
        self._lock = threading.RLock()
        # The attempt that runs in it. Only that attempt may kill it.
        self._attempt: Attempt | None = None
        self._killed = False
        self.is_new = True
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._connection = Connection(os.dup(self._socket.fileno()))
                # A fork that inherited the connection would keep it open after the end of this process.
                self._fork_guards = [ForkGuard(end.fileno()) for end in (self._socket, self._connection, theirs)]
                self._process = _spawn(theirs.fileno())
                # `theirs` is closed now, and another file may get its descriptor.
                self._fork_guards.pop()
            _workers.add(self)
            threading.Thread(target=self._reap, name=f"cloaca-worker-process-{self.pid}", daemon=True).start()
        except BaseException:
            # Without cleanup, the process and the sockets would exist as long as the exception's traceback.
            self.kill()
            self.close_descriptors()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def _reap(self) -> None:
        """Wait for the process to exit, then shut the socket down.

        A child process of the task may hold the other end open, so the exit alone does not close the connection.
        """
        self._process.wait()
        self._exited.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, message: Any) -> None:
        """Send a message. If the worker is dead, the next `receive` reports it."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(pickle.dumps(message))

    def receive(self, attempt: Attempt, timeout: float | None = None) -> tuple[Any, ...] | None:
        """Return the worker's next message for an attempt; ``None`` if the worker is dead.

        Raises:
            TimeoutError: No message arrived within ``timeout`` seconds.
            _ProtocolError: The message is malformed, or comes from another process or attempt.
        """
        try:
            has_message = timeout is None or self._connection.poll(timeout)
            message = self._connection.recv_bytes() if has_message else b""
        except (EOFError, BrokenPipeError, ConnectionError):
            return None
        except OSError as error:
            # A message of negative length, or a closed connection.
            is_closed = self._exited.is_set() or self._connection.closed
            return None if is_closed else _protocol_error(self, str(error))
        if not has_message:
            raise TimeoutError
        try:
            sender, *parts = pickle.loads(message)
        except Exception as error:
            return _protocol_error(self, f"it sent a malformed message: {error}")
        if sender != sender_of(self.pid, attempt.execution_id, attempt.task_id, attempt.attempt):
            wrong = f"process {sender[0]} for attempt {sender[3]} of task '{sender[2]}'"
            return _protocol_error(self, f"a message came from {wrong}")
        return tuple(parts)

    @property
    def is_usable(self) -> bool:
        """Whether it can run another attempt."""
        return not self._killed and not self._exited.is_set()

    def assign(self, attempt: Attempt | None) -> None:
        """Set the attempt that runs in it."""
        with self._lock:
            self._attempt = attempt

    def kill_for(self, attempt: Attempt) -> None:
        """Kill the process if this attempt runs in it."""
        with self._lock:
            if self._attempt is attempt:
                self._kill()

    def kill(self) -> None:
        """Kill the process and all processes that its tasks have started."""
        with self._lock:
            self._kill()

    def _kill(self) -> None:
        self._killed = True
        if not self._exited.is_set() and hasattr(self, "_process"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def disconnect(self) -> None:
        """Close the connection. An idle worker exits; one that is running an attempt kills itself."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Close this process's descriptors, without shutting down a socket that another process shares."""
        self._fork_guards = []
        with contextlib.suppress(OSError, AttributeError):
            self._connection.close()
        self._socket.close()

    def exit_reason(self, when: str) -> str:
        """Return how the process ended, as text."""
        self._exited.wait(_EXIT_TIMEOUT)
        code = self._process.returncode
        if code is None:
            return f"the worker process {self.pid} closed its connection {when}"
        if code >= 0:
            return f"the worker process {self.pid} ended with exit code {code} {when}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        hint = "; the kernel does this when memory runs out" if -code == signal.SIGKILL else ""
        return f"the worker process {self.pid} was killed by signal {-code} ({name}) {when}{hint}"


class _ProtocolError(Exception):
    """A worker sent an unexpected message."""


def _protocol_error(worker: Worker, problem: str) -> NoReturn:
    raise _ProtocolError(f"the connection to worker process {worker.pid} is broken: {problem}")


def sender_of(pid: int, execution_id: str, task_id: str, attempt: int) -> Sender:
    """Return the identification of a message's sender."""
    return pid, execution_id, task_id, attempt


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [*_interpreter(), "-c", _program(descriptor)],
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            # Keeps Ctrl-C in the terminal from the worker, and lets a kill of its group reach the task's children.
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerStartError(f"a worker process could not be started: {error}") from error


class Processes:
    """The worker processes of a runner: as many as the most attempts that have run in them at once."""

    def __init__(self, keep_error: Callable[[Attempt, BaseException], object]) -> None:
        self._keep_error = keep_error
        self._lock = threading.RLock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    def run(self, attempt: Attempt) -> None:
        """Run an attempt to its end, and report its outcome."""
        try:
            attempt.hold_timeout()
            self._run(attempt, _job(attempt))
        except Exception as error:
            # No worker could be started, or the job could not be pickled.
            self._fail(attempt, error, _failure.describe(error))

    def _run(self, attempt: Attempt, job: dict[str, Any]) -> None:
        while True:
            worker = self._take()
            worker.assign(attempt)
            try:
                attempt.on_cancel(lambda: worker.kill_for(attempt))  # noqa: B023 - the attempt's last worker
                worker.send(job)
                if worker.receive(attempt, _START_TIMEOUT) == ("accepted",):
                    return self._serve(worker, attempt)
                if worker.is_new or attempt.is_over:
                    return self._report_death(worker, attempt, "before the task ran")
                # An idle worker died. That is not the attempt's fault: try another worker.
            except TimeoutError:
                worker.kill()
                raise WorkerStartError(_start_timed_out(worker)) from None
            except _ProtocolError as error:
                worker.kill()
                raise WorkerDiedError(f"{error}; it was killed") from None
            finally:
                worker.assign(None)
                self._put(worker)

    def _serve(self, worker: Worker, attempt: Attempt) -> None:
        """Handle the requests of a running attempt until it ends."""
        until = time.monotonic() + _START_TIMEOUT
        starting = True
        while True:
            message = worker.receive(attempt, max(0.0, until - time.monotonic()) if starting else None)
            if message is None:
                break
            kind, *parts = message
            if kind == "running":
                starting = False
                attempt.begin_timeout()
            elif kind == "release_slot":
                attempt.release_slot()
            elif kind == "take_slot":
                worker.send(_take_slot(attempt))
            elif kind == "completed":
                attempt.apply(parts[0])
                return attempt.complete(None)
            else:
                described, pickled, changes = parts
                attempt.apply(changes)
                return self._fail(attempt, _portable.unpickled(pickled), described)
        return self._report_death(worker, attempt, "before the task ran" if starting else "while the task ran")

    def _report_death(self, worker: Worker, attempt: Attempt, when: str) -> None:
        error = WorkerDiedError(
            worker.exit_reason(when),
            execution_id=attempt.execution_id,
            task_id=attempt.task_id,
            attempt=attempt.attempt,
        )
        self._fail(attempt, error, _failure.describe(error))

    def _fail(self, attempt: Attempt, error: BaseException | None, described: _failure.Described) -> None:
        if error is not None:
            self._keep_error(attempt, error)
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
                worker.disconnect()
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
        worker.disconnect()

    def close(self) -> None:
        """Disconnect idle workers and kill busy ones."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for worker in idle:
            worker.disconnect()
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
        "snapshot": snapshot_of(attempt.context),
        "environment": dict(os.environb),
        "preparation": _isolation.preparation(),
    }


def _take_slot(attempt: Attempt) -> bool:
    """Wait for a slot. Return false if the attempt is over."""
    try:
        attempt.take_slot()
    except AttemptOverError:
        return False
    return True


def _start_timed_out(worker: Worker) -> str:
    return (
        f"the worker process {worker.pid} did not reach the task's function within {_START_TIMEOUT:g} s and was "
        f"killed; check what the import of the task's module waits for"
    )


def _interpreter() -> list[str]:
    """Return the command line of this interpreter with its options."""
    from multiprocessing import spawn

    # Some parts are bytes; comparing bytes with str is an error under `python -bb`.
    command = [os.fsdecode(part) for part in spawn.get_command_line()]
    return command[: command.index("-c")] if "-c" in command else command[:1]


def _program(descriptor: int) -> str:
    """Return the code that a worker runs. It imports this package from the same path as this process."""
    # Other objects in `sys.path` have no literal, and the import system ignores them too.
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return f"import sys; sys.path[:] = {path!r}; from cloaca._worker import main; main({descriptor})"


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def _close_in_fork() -> None:
    """Close the parent's connections in a fork: an inherited copy would hide the parent's end from its workers."""
    for worker in list(_workers):
        worker.close_descriptors()


os.register_at_fork(after_in_child=_close_in_fork)
