"""Tasks for worker processes, in a module that a worker can import."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import decimal
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cloaca


class Refused(Exception):
    """An exception class of the program."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code


class Unpicklable(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


@cloaca.task(isolation="process", retry_attempts=1)
def double(context: cloaca.Context) -> dict[str, Any]:
    context["pid"] = os.getpid()
    if "gone" in context:
        del context["gone"]
    return {"double": context["number"] * 2, "exact": context["exact"]}


@cloaca.task(isolation="process", retry_attempts=1)
def nothing() -> None: ...


@cloaca.task(isolation="process", retry_attempts=1)
async def coroutine(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
    async def condition() -> bool:
        return not handle.is_slot_held()

    await handle.defer_until(condition)
    context["held"] = handle.is_slot_held()


@cloaca.task(isolation="process", retry_attempts=1)
def wrong(context: cloaca.Context) -> int:
    context["written"] = True
    return 3


@cloaca.task(isolation="process", retry_attempts=1)
def refuse(context: cloaca.Context) -> None:
    context["before"] = 1
    raise Refused(403, "not you")


@cloaca.task(isolation="process", retry_attempts=1)
def unpicklable() -> None:
    raise Unpicklable("kept here")


@cloaca.task(isolation="process", retry_attempts=1)
def leave() -> None:
    sys.exit("enough")


@cloaca.task(isolation="process", retry_attempts=2, retry_delay_ms=1)
def die(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
    context["lost"] = True
    how = context["how"][handle.attempt - 1]
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(7)
    elif how != "live":
        os.kill(os.getpid(), getattr(signal, how))
    context["attempt"] = handle.attempt


@cloaca.task(isolation="process", retry_attempts=1)
def meet(context: cloaca.Context) -> None:
    """Computes until another process computes at the same time."""
    place = Path(context["place"])
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < 2:
        sum(range(1_000))
    context[f"pid {os.getpid()}"] = sorted(path.name for path in place.iterdir())


def compute_forever(context: cloaca.Context) -> None:
    """Writes its pid and that of a child, then computes forever."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    place = Path(context["place"])
    (place / "new").write_text(f"{os.getpid()} {child.pid}")
    (place / "new").rename(place / "pids")
    while True:
        sum(range(1_000))


endless = cloaca.task(id="endless", isolation="process", retry_attempts=1)(compute_forever)
hasty = cloaca.task(id="hasty", isolation="process", retry_attempts=1, timeout_seconds=1)(compute_forever)


@cloaca.task(isolation="process", retry_attempts=1)
def wait_without_slot(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
    handle.defer_until(Path(context["file"]).exists, poll_interval_ms=5)
    context["held"] = handle.is_slot_held()


@cloaca.task(isolation="process", retry_attempts=1)
def report_descriptors(context: cloaca.Context) -> None:
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    context["open"] = links
    context["parent"] = os.getppid()
    context["pid"] = os.getpid()


@cloaca.task(isolation="process", retry_attempts=1)
def close_descriptors() -> None:
    """As a function that becomes a daemon does."""
    os.closerange(3, 256)


@cloaca.task(isolation="process", retry_attempts=1)
def read_undeclared(context: cloaca.Context) -> None:
    context["seen"] = context.get("undeclared")


@cloaca.task(isolation="process", retry_attempts=1)
def sleep_forever(context: cloaca.Context) -> None:
    Path(context["file"]).write_text(str(os.getpid()))
    time.sleep(1000)


request_id = contextvars.ContextVar("request_id", default="nobody")


@cloaca.task(isolation="process", retry_attempts=1)
def report_context(context: cloaca.Context) -> None:
    context["pid"] = os.getpid()
    context["seen"] = [request_id.get(), decimal.getcontext().prec]
    request_id.set("somebody")
    decimal.getcontext().prec = 5


@cloaca.task(isolation="process", retry_attempts=2, retry_delay_ms=1)
def hold_port(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
    listening = socket.socket()
    listening.bind(("127.0.0.1", context["port"]))
    listening.listen()
    if handle.attempt == 1:
        raise Delegating("no client")


class Delegating(Exception):
    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


class EndsUnpickling(Exception):
    def __setstate__(self, state: object) -> None:
        raise SystemExit("while it was unpickled")


ODD = {
    "delegates": "Delegating",
    "exits": "SystemExit",
    "async_exits": "SystemExit",
    "ends_unpickling": "EndsUnpickling",
}


@cloaca.task(isolation="process", retry_attempts=1)
def delegates() -> None:
    raise Delegating("in a worker")


@cloaca.task(isolation="process", retry_attempts=1)
def exits() -> None:
    raise SystemExit("in a worker")


@cloaca.task(isolation="process", retry_attempts=1)
async def async_exits() -> None:
    async def child() -> None:
        raise SystemExit("in a worker")

    left_alone = asyncio.create_task(child())
    await asyncio.sleep(1000 if left_alone else 0)


@cloaca.task(isolation="process", retry_attempts=1)
def ends_unpickling() -> None:
    raise EndsUnpickling("in a worker")


def _fork(context: cloaca.Context) -> int:
    """Forks; the parent waits for the child, and returns its exit code."""
    child = os.fork()
    if child:
        context["code"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return child


def _fall_out(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
    if _fork(context):
        return
    context["written by"] = "a fork"
    if context["how"] == "raises":
        raise RuntimeError("in the fork")
    if context["how"] == "exits":
        sys.exit(7)
    if context["how"] == "asks":
        handle.defer_until(lambda: True)


fall_out_of_process = cloaca.task(id="fall_out_of_process", isolation="process", retry_attempts=1)(_fall_out)
fall_out_of_thread = cloaca.task(id="fall_out_of_thread", retry_attempts=1)(_fall_out)


@cloaca.task(isolation="process", retry_attempts=1)
async def fall_out_of_coroutine(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
    await asyncio.sleep(0)
    _fall_out(context, handle)


@cloaca.task(isolation="process", retry_attempts=1)
def report_place(context: cloaca.Context) -> None:
    context["pid"] = os.getpid()
    context["seen"] = [os.environ.get("NOW"), os.environ.get("BEFORE"), os.getcwd()]
    os.environ["NOW"] = "the task's"
    os.chdir("/")
