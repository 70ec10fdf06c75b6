"""Isolation of attempts: nothing leaks into the next one, and odd exceptions are recorded like any other."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import decimal
import gc
import pickle
import socket
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import cloaca
import pytest
from cloaca._trigger import triggers

import isolated
from conftest import LIMIT

request_id = contextvars.ContextVar("request_id", default="nobody")


class Delegates(Exception):
    """An error that wraps a response, and delegates unknown attributes to it."""

    def __init__(self, response: dict[str, Any]) -> None:
        super().__init__("the service said no")
        self.response = response

    def __getattr__(self, name: str) -> Any:
        return self.response[name]


class Recursive(Exception):
    """An exception whose `__getattr__` uses an attribute that was never set."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.response, name)


class HasEverything(Exception):
    def __getattr__(self, name: str) -> Any:
        return HasEverything


class Exits(Exception):
    """An exception whose every method raises what `except Exception` does not catch."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise SystemExit("asked")

    __str__ = __repr__ = __eq__ = __hash__ = __reduce_ex__ = __getattribute__ = with_traceback = _refuse  # type: ignore[assignment]


class Meta(type):
    """A metaclass whose classes refuse every attribute access."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)

    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("no instances")


class Nameless(Exception, metaclass=Meta): ...


class Pretends(Exception):
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise KeyError("class")

    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise KeyError("cause")

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise KeyError("traceback")

    @property
    def __notes__(self) -> list[str]:
        raise KeyError("notes")


class Shouts(str):
    def __len__(self) -> int:
        return -1

    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        raise RuntimeError("no bytes")


class SaysAStr(Exception):
    def __str__(self) -> str:
        return Shouts("its own kind of text")


def circular() -> Exception:
    error, other = ValueError("a circle"), KeyError("other")
    error.__cause__, other.__cause__ = other, error
    error.__context__ = other
    return error


def noted() -> Exception:
    error = ValueError("noted")
    error.__notes__ = 7  # type: ignore[attr-defined]
    return error


def far() -> Exception:
    error: Exception = ValueError("the last of many")
    first = error
    for number in range(5_000):
        error.__cause__ = ValueError(number)
        error = error.__cause__
    return first


ODD = [
    (lambda: Delegates({"status": 500}), "Delegates: the service said no"),
    (lambda: Recursive("nothing"), "Recursive: nothing"),
    (lambda: HasEverything("everything"), "HasEverything: everything"),
    (lambda: Exits("never"), "Exits: <str() of it raised SystemExit>"),
    (lambda: Nameless("has no name"), "Nameless: has no name"),
    (lambda: Pretends("to be another"), "Pretends: to be another"),
    (lambda: SaysAStr(), "SaysAStr: its own kind of text"),
    (circular, "ValueError: a circle"),
    (noted, "ValueError: noted"),
    (far, "ValueError: the last of many"),
]
ExceptionGroup = getattr(builtins, "ExceptionGroup", None)
if ExceptionGroup is not None:

    def deep() -> Exception:
        group = ExceptionGroup("innermost", [KeyError("leaf")])
        for _ in range(3_000):
            group = ExceptionGroup("a group", [group])
        return group

    def wide() -> Exception:
        """2 ** 60 paths lead through it."""
        group = ExceptionGroup("innermost", [KeyError("leaf")])
        for _ in range(60):
            group = ExceptionGroup("a group", [group, group])
        return group

    ODD += [
        (deep, "ExceptionGroup: a group (1 sub-exception)"),
        (wide, "ExceptionGroup: a group (2 sub-exceptions)"),
    ]


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "coroutine"])
@pytest.mark.parametrize(("make", "says"), ODD, ids=[says.partition(":")[0] for _, says in ODD])
def test_an_odd_exception_is_recorded_like_any_other(  # type: ignore[no-untyped-def]
    runner: cloaca.DefaultRunner, make, says: str, is_async: bool
) -> None:
    """Regression: an exception whose `__getattr__` raises KeyError, as wrappers of responses do, was never recorded:
    the thread died, and the attempt hung until its timeout, which became its error (celery #2943, mars #2913)."""
    raised = make()

    def fail() -> None:
        raise raised

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise raised

    with cloaca.WorkflowBuilder("odd"):
        cloaca.task(id="odd", retry_attempts=1)(fail_later if is_async else fail)

    result = runner.execute("odd", timeout=LIMIT)
    task = result.tasks["odd"]
    assert task.error == says
    assert f", in {'fail_later' if is_async else 'fail'}\n" in (task.traceback or "")
    assert len(task.traceback or "") < 300_000
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    assert BaseException.__dict__["__cause__"].__get__(caught.value) is raised
    del caught
    back = pickle.loads(pickle.dumps(result))
    assert back.tasks == result.tasks


def test_an_odd_exception_of_a_trigger_ends_its_poll(runner: cloaca.DefaultRunner) -> None:
    polls = 0
    polled_again = threading.Event()
    with cloaca.WorkflowBuilder("polled"):

        @cloaca.task
        def polled() -> None: ...

        @cloaca.trigger(poll_interval="1ms")
        def odd() -> bool:
            nonlocal polls
            polls += 1
            if polls > 2:
                polled_again.set()
                return False
            raise (Delegates({}), Exits())[polls - 1]

    try:
        assert polled_again.wait(LIMIT)
    finally:
        triggers.unregister("odd")


def test_an_odd_exception_of_a_callback_changes_nothing(runner: cloaca.DefaultRunner) -> None:
    def odd(*_: object) -> None:
        raise Exits

    with cloaca.WorkflowBuilder("callback"):

        @cloaca.task(on_success=odd)
        def callback() -> None: ...

    for _ in range(3):
        assert runner.execute("callback", timeout=LIMIT).status == "Completed"


def test_a_huge_message_is_cut_in_the_middle(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("huge"):

        @cloaca.task(retry_attempts=1)
        def huge() -> None:
            raise ValueError("first " + 20_000_000 * "x" + " last")

    error = runner.execute("huge", timeout=LIMIT).tasks["huge"].error or ""
    assert error.startswith("ValueError: first ")
    assert error.endswith(" last")
    assert "characters left out" in error
    assert len(error) < 100_000


class Held:
    """Represents an exclusive resource: a port, a lock, or memory on a device."""

    taken: weakref.ref[Held] | None = None

    def __init__(self) -> None:
        if Held.taken is not None and Held.taken() is not None:
            raise RuntimeError("it is taken")
        Held.taken = weakref.ref(self)


@contextlib.contextmanager
def lending() -> Iterator[Held]:
    yield Held()


def hold_and_fail(how: str) -> None:
    held = Held()
    if how == "cause":
        try:
            raise ConnectionError
        except ConnectionError as cause:
            raise ValueError(held is None) from cause
    if how == "context":
        try:
            raise ConnectionError
        finally:
            raise ValueError
    if how == "cycle":
        error = ConnectionError()
        error.itself = error, sys._getframe()  # type: ignore[attr-defined]
        raise error
    if how == "group" and ExceptionGroup is not None:
        try:
            hold_and_fail_inside(held)
        except ConnectionError as error:
            raise ExceptionGroup("several", [ExceptionGroup("inner", [error])]) from None
    raise ConnectionError


def hold_and_fail_inside(held: Held) -> None:
    raise ConnectionError


HOWS = ["plain", "cause", "context", "cycle", "group"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "coroutine"])
def test_resources_of_a_failed_attempt_are_free_for_the_next(
    runner: cloaca.DefaultRunner, how: str, is_async: bool
) -> None:
    """Regression: a retry found the port taken and the file locked by the previous attempt, whose frames were kept with
    its error (celery #8882)."""

    def holds(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        if handle.attempt == 1:
            hold_and_fail(how)
        Held()

    async def holds_later(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        async def inner() -> None:
            with lending() as held:
                await asyncio.sleep(0)
                assert held
                if handle.attempt == 1:
                    raise ConnectionError

        if handle.attempt == 1 and how != "plain":
            hold_and_fail(how)
        await asyncio.gather(inner(), asyncio.sleep(0))

    with cloaca.WorkflowBuilder("holds"):
        cloaca.task(id="holds", retry_attempts=2, retry_delay_ms=1)(holds_later if is_async else holds)

    gc.disable()
    try:
        for _ in range(2):
            result = runner.execute("holds", timeout=LIMIT)
            assert result.status == "Completed", result.error_message
            assert result.tasks["holds"].attempts == 2
    finally:
        gc.enable()


def test_the_cause_keeps_its_traceback_and_not_its_variables(runner: cloaca.DefaultRunner) -> None:
    kept: list[weakref.ref[Held]] = []
    raised = ConnectionError("refused")
    with cloaca.WorkflowBuilder("kept"):

        @cloaca.task(retry_attempts=1)
        def fails() -> None:
            held = Held()
            kept.append(weakref.ref(held))
            raise raised

    for _ in range(3):
        result = runner.execute("kept")
        with pytest.raises(cloaca.WorkflowFailedError) as caught:
            result.raise_for_status()
        cause = caught.value.__cause__
        assert cause is raised
        assert kept[-1]() is None
        # An exception object that is raised repeatedly has the frames of its last attempt only.
        frames = []
        at = cause.__traceback__
        while at is not None:
            frames.append(at.tb_frame.f_code.co_name)
            at = at.tb_next
        assert frames == ["fails"]
        assert (result.tasks["fails"].traceback or "").count("in fails") == 1


def test_a_generator_that_caught_the_error_is_not_closed(runner: cloaca.DefaultRunner) -> None:
    """Up to Python 3.12, clearing the frame of a suspended generator closes it: a generator that had caught the error
    and still served others would silently end."""
    caught: list[BaseException] = []
    served: list[str] = []

    def serve() -> Iterator[None]:
        while True:
            try:
                if not caught:
                    raise ConnectionError
            except ConnectionError as error:
                caught.append(error)
            yield
            served.append("again")

    async def serve_async(asked: asyncio.Event) -> None:
        try:
            raise ConnectionError
        except ConnectionError as error:
            caught.append(error)
        await asked.wait()
        served.append("async")

    service = serve()
    next(service)
    with cloaca.WorkflowBuilder("served"):

        @cloaca.task(retry_attempts=1)
        async def fails() -> None:
            asked = asyncio.Event()
            coroutine = serve_async(asked)
            waits = contextvars.Context().run(asyncio.ensure_future, coroutine)
            await asyncio.sleep(0)
            contextvars.Context().run(asyncio.get_running_loop().call_later, 0.01, asked.set)
            waits.add_done_callback(lambda _: ended.set())
            try:
                raise caught[0]
            finally:
                raise caught[1]

    ended = threading.Event()
    assert runner.execute("served").status == "Failed"
    assert ended.wait(LIMIT)
    next(service)
    assert sorted(served) == ["again", "async"]


def test_memory_does_not_grow_with_failures(runner: cloaca.DefaultRunner) -> None:
    again = ConnectionError("the same object, again and again")
    with cloaca.WorkflowBuilder("fails"):

        @cloaca.task(retry_attempts=3, retry_delay_ms=0)
        def fails() -> None:
            held = bytearray(100_000)
            raise again if held and len(sizes) % 2 else ValueError("another one")

    sizes: list[int] = []
    tracemalloc.start()
    try:
        for number in range(120):
            runner.execute("fails")
            if number in (30, 119):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 1_000_000


def seen_and_set(name: str) -> tuple[str, int]:
    seen = request_id.get(), decimal.getcontext().prec
    request_id.set(name)
    decimal.getcontext().prec = 5
    return seen


def test_each_attempt_has_a_fresh_context(runner: cloaca.DefaultRunner) -> None:
    """Regression: a task on the same thread saw the request id that another execution's task had set, and computed with
    its decimal precision (celery #1976, hatchet #1711)."""
    seen: list[tuple[str, int]] = []

    def callback(task_id: str, *_: object) -> None:
        seen.append(seen_and_set(f"callback of {task_id}"))

    fresh = request_id.get(), decimal.DefaultContext.prec
    with cloaca.WorkflowBuilder("fresh"):

        @cloaca.task(retry_delay_ms=1, on_success=callback, on_retry=callback)
        def thread(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            seen.append(seen_and_set("thread"))
            handle.defer_until(lambda: request_id.get() == "thread")
            if handle.attempt == 1:
                raise ConnectionError

        @cloaca.task(dependencies=[thread], retry_delay_ms=1, on_success=callback)
        async def coroutine(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            seen.append(seen_and_set("coroutine"))
            assert await asyncio.gather(child()) == ["coroutine"]
            if handle.attempt == 1:
                raise ConnectionError

        async def child() -> str:
            return request_id.get()

        @cloaca.trigger(poll_interval="1ms")
        def polls() -> bool:
            seen.append(seen_and_set("trigger"))
            return False

    try:
        token = request_id.set("the caller")
        for _ in range(3):
            assert runner.execute("fresh", timeout=LIMIT).status == "Completed"
        request_id.reset(token)
    finally:
        triggers.unregister("polls")
    assert len(seen) >= 3 * 7
    assert set(seen) == {fresh}


def test_each_attempt_in_a_worker_process_has_a_fresh_context(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("fresh_process") as builder:
        builder.add_task(isolated.report_context)

    results = [runner.execute("fresh_process", timeout=LIMIT) for _ in range(2)]
    assert {result.final_context["pid"] for result in results} == {results[0].final_context["pid"]}
    assert [result.final_context["seen"] for result in results] == [["nobody", decimal.DefaultContext.prec]] * 2


def test_a_worker_process_frees_the_resources_of_a_failed_attempt(runner: cloaca.DefaultRunner, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with cloaca.WorkflowBuilder("port") as builder:
        builder.add_task(isolated.hold_port)
    result = runner.execute("port", {"port": port}, timeout=LIMIT)
    assert (result.status, result.tasks["hold_port"].attempts) == ("Completed", 2), result.error_message


@pytest.mark.parametrize("task", ["delegates", "exits", "async_exits", "ends_unpickling"])
def test_an_odd_exception_of_a_worker_process_is_recorded_like_any_other(
    runner: cloaca.DefaultRunner, task: str
) -> None:
    with cloaca.WorkflowBuilder("odd_process") as builder:
        builder.add_task(getattr(isolated, task))
    result = runner.execute("odd_process", timeout=LIMIT)
    assert result.tasks[task].error == f"{isolated.ODD[task]}: in a worker"


FLAKY = """
import cloaca

class Flaky(Exception): ...
class Flakier(Flaky):
    def __init__(self, code, body):
        super().__init__(f"{code}: {body}")
        self.code = code

def fail():
    raise Flakier(503, "again")

for isolation in ("thread", "process"):
    with cloaca.WorkflowBuilder(isolation):
        cloaca.task(id="fail", retry_condition=(KeyError, Flaky), retry_delay_ms=1, isolation=isolation)(fail)

if __name__ == "__main__":
    with cloaca.DefaultRunner(":memory:") as runner:
        for isolation in ("thread", "process"):
            result = runner.execute(isolation, timeout=20)
            [error] = {event.error for event in result.history().events if event.kind == "TaskFailed"}
            try:
                result.raise_for_status()
            except cloaca.WorkflowFailedError as failed:
                cause = failed.__cause__
            print(result.tasks["fail"].attempts, error.lineage, cause.code, isinstance(cause, Flaky))
            print(result.tasks["fail"].traceback)
"""


@pytest.mark.parametrize("how", [["flaky.py"], ["-m", "flaky"]], ids=["script", "module"])
def test_a_class_of_the_script_is_one_class_in_threads_and_in_worker_processes(tmp_path: Path, how: list[str]) -> None:
    """Regression: a worker process imports the script as `__mp_main__`, so `retry_condition=Flaky` never matched there,
    and nothing was retried (Prefect #14745)."""
    (tmp_path / "flaky.py").write_text(FLAKY)
    done = subprocess.run(
        [sys.executable, *how], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    thread, process = done.stdout[: len(done.stdout) // 2], done.stdout[len(done.stdout) // 2 :]
    assert thread == process
    assert thread.startswith("3 ('Flakier', '__main__.Flakier', 'Flaky', '__main__.Flaky', 'Exception'")
    assert "503 True" in thread
