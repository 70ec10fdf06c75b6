"""Controlling executions from threads and from coroutines: cancel, pause, resume, wait, list."""

from __future__ import annotations

import asyncio
import threading
import uuid
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT, wait_until


def door_workflow(name: str) -> tuple[threading.Event, threading.Event, list[str]]:
    """Defines a chain whose first task waits for `door`; returns `started`, `door` and the tasks that ran."""
    started, door = threading.Event(), threading.Event()
    ran: list[str] = []
    with cloaca.WorkflowBuilder(name):

        @cloaca.task(on_success=lambda *_: ran.append("on_success"), on_failure=lambda *_: ran.append("on_failure"))
        def first(context: cloaca.Context) -> None:
            ran.append("first")
            started.set()
            assert door.wait(LIMIT)
            context["first"] = True

        @cloaca.task(dependencies=[first])
        def second(context: cloaca.Context) -> None:
            ran.append("second")
            context["second"] = True

    return started, door, ran


def test_a_cancelled_await_leaves_the_execution_alone(runner: cloaca.DefaultRunner) -> None:
    started, door, _ = door_workflow("left_alone")

    async def main() -> None:
        execution = runner.submit("left_alone")
        await asyncio.to_thread(started.wait, LIMIT)

        async def wait() -> cloaca.WorkflowResult:
            return await execution

        by_id = runner.execute_async("left_alone", execution_id=execution.id)
        waiting = [asyncio.create_task(wait()), asyncio.create_task(by_id)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in ended] == [asyncio.CancelledError] * 2
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.01)
        assert execution.status == "Running"
        door.set()
        assert (await execution).final_context == {"first": True, "second": True}
        assert (await asyncio.gather(wait(), wait()))[1].status == "Completed", "an ended one can be awaited again"

    asyncio.run(main())
    assert len(runner.list_executions()) == 1


def test_an_execution_can_be_awaited_in_two_loops_at_once(runner: cloaca.DefaultRunner) -> None:
    """Regression: the second waiter heard that the execution still runs, because the first was reading the result."""
    started, door, _ = door_workflow("two_loops")
    execution = runner.submit("two_loops")
    assert started.wait(LIMIT)
    statuses: list[str] = []

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(door.set)
        statuses.append((await execution).status)

    threads = [threading.Thread(target=lambda: asyncio.run(wait())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert statuses == ["Completed", "Completed"]


def test_after_a_cancel_nothing_starts_and_running_threads_are_ignored(
    runner: cloaca.DefaultRunner,
) -> None:
    started, door, ran = door_workflow("cancelled")
    execution = runner.submit("cancelled", {"given": 1})
    assert started.wait(LIMIT)
    execution.cancel("not needed any more")
    result = execution.result(LIMIT)
    assert (result.status, result.final_context.to_dict()) == ("Cancelled", {"given": 1})
    assert result.error_message == "cancelled by user: not needed any more"
    assert {task: it.state for task, it in result.tasks.items()} == {"first": "Cancelled", "second": "Cancelled"}
    door.set()
    # Run another execution: by its end, the thread of the cancelled one has run as well.
    assert runner.execute("cancelled").status == "Completed"
    assert ran.count("second") == 1, "only that of the other execution"
    assert ran.count("on_failure") == 0
    assert runner.get_execution(execution.id).result(0).final_context == {"given": 1}
    for act in (execution.cancel, execution.pause, execution.resume):
        with pytest.raises(cloaca.Error, match=r"the execution has ended \(Cancelled\)"):
            act()


def test_an_async_task_that_swallows_its_cancellation_is_ignored(runner: cloaca.DefaultRunner) -> None:
    started, swallowed = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("stubborn"):

        @cloaca.task
        async def stubborn(context: cloaca.Context) -> dict[str, bool]:
            started.set()
            try:
                await asyncio.sleep(LIMIT)
            except asyncio.CancelledError:
                swallowed.set()
            return {"late": True}

    execution = runner.submit("stubborn")
    assert started.wait(LIMIT)
    execution.cancel()
    assert execution.result(LIMIT).error_message == "cancelled by user"
    assert swallowed.wait(LIMIT)
    assert execution.result(0).final_context == {}


def test_a_paused_execution_can_be_cancelled_and_invalid_steps_are_refused(
    runner: cloaca.DefaultRunner,
) -> None:
    started, door, ran = door_workflow("paused")
    execution = runner.submit("paused")
    assert started.wait(LIMIT)
    with pytest.raises(cloaca.Error, match=execution.id):
        execution.resume()
    execution.pause()
    with pytest.raises(cloaca.Error, match=execution.id):
        execution.pause()
    assert [info.id for info in runner.list_executions("paused")] == [execution.id], "in any case"
    execution.cancel()
    door.set()
    assert execution.result(LIMIT).status == "Cancelled"
    assert "second" not in ran


def test_every_status_can_be_listed(runner: cloaca.DefaultRunner) -> None:
    doors = []
    ids: dict[str, str] = {}
    for status in ("Running", "Paused", "Cancelled"):
        started, door, _ = door_workflow(status)
        doors.append(door)
        execution = runner.submit(status)
        assert started.wait(LIMIT)
        ids[status] = execution.id
    runner.get_execution(ids["Paused"]).pause()
    runner.get_execution(ids["Cancelled"]).cancel()
    for status, execution_id in ids.items():
        info = runner.list_executions(status)
        assert [it.id for it in info] == [execution_id]
        assert (info[0].workflow_name, info[0].status, info[0].blocked) == (status, status, None)
        assert (info[0].end_time is None) == (status != "Cancelled")
        assert runner.get_execution(execution_id).status == status
    for door in doors:
        door.set()


def test_a_long_listing_is_read_page_by_page(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("paged"):

        @cloaca.task
        def task() -> None: ...

    ids = [runner.execute("paged").execution_id for _ in range(7)][::-1]
    assert runner.list_executions(limit=0) == []
    seen, page = [], runner.list_executions(limit=3)
    while page:
        seen += [info.id for info in page]
        page = runner.list_executions(limit=3, before=page[-1])  # type: ignore[arg-type]
    assert seen == ids
    assert [info.id for info in runner.list_executions(before=runner.get_execution(ids[4]))] == ids[5:]


def test_a_blocked_execution_says_why_until_it_is_resumed_explicitly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: it was held silently: no log record of the program, and ``Running`` in every view of ``replay``."""
    started, door, _ = door_workflow("blocked")
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        execution_id = runner.submit("blocked").id
        assert started.wait(LIMIT)
        runner._shutdown(0.0)
    door.set()
    with cloaca.WorkflowBuilder("blocked"):

        @cloaca.task
        def first(context: cloaca.Context) -> None:
            context["first"] = "again"

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        assert [execution.id for execution in runner.recovered] == [execution_id]
        wait_until(lambda: any("is unfinished and blocked" in record.getMessage() for record in caplog.records))
        [warning] = [record for record in caplog.records if "is unfinished and blocked" in record.getMessage()]
        assert (warning.levelname, warning.name) == ("WARNING", "cloaca.engine.execution")
        assert "graph of workflow" in warning.getMessage()
        assert f"runner.resume('{execution_id}')" in warning.getMessage()
        [info] = runner.list_executions("Blocked")
        assert runner.list_executions("Pending") == [info], "the name in programs for other engines"
        assert info.id == execution_id
        assert f"runner.resume('{execution_id}')" in (info.next_step or "")
        assert info.blocked is not None
        assert "graph of workflow" in info.blocked
        execution = runner.get_execution(execution_id)
        assert execution.status == "Blocked"
        assert (info.blocked or "?") in (execution.blocked or "")
        assert "status='Blocked', reason=\"the graph of workflow" in repr(execution)
        assert execution.history().status == "Blocked"
        assert cloaca.History.open(tmp_path / "log", execution_id).status == "Blocked", "also from outside"
        with pytest.raises(cloaca.Error, match=r"is blocked: .*graph of workflow"):
            execution.result(LIMIT)
        with pytest.raises(cloaca.Error, match="is blocked"):
            runner.execute("blocked", execution_id=execution_id)
        for act in (execution.pause, execution.resume):
            with pytest.raises(cloaca.Error, match=r"it is blocked: .*graph of workflow.*resume"):
                act()

        async def main() -> None:
            with pytest.raises(cloaca.Error, match="is blocked"):
                await execution

        asyncio.run(main())
        assert runner.resume(execution_id) == execution
        assert execution.result(LIMIT).final_context == {"first": "again"}
        with pytest.raises(cloaca.Error, match=r"the execution has ended \(Completed\)"):
            runner.resume(execution_id)
        missing = str(uuid.uuid4())
        for act in (runner.resume, runner.get_execution, cloaca.Execution(runner._host, missing).cancel):
            with pytest.raises(cloaca.ExecutionNotFoundError, match=missing):
                act() if act.__name__ == "cancel" else act(missing)  # type: ignore[operator]


def test_a_waiting_execution_says_what_for_and_runs_again_afterwards(tmp_path: Path) -> None:
    """Regression: an execution whose tasks waited for a retry or in ``defer_until`` was ``Running`` like any other."""
    door = threading.Event()

    with cloaca.WorkflowBuilder("defers"):

        @cloaca.task
        def ask(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            handle.defer_until(door.is_set, poll_interval_ms=5)

    with cloaca.WorkflowBuilder("retries"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=3_600_000, retry_max_delay_ms=3_600_000)
        def stumble() -> None:
            raise ValueError("no")

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        defers, retries = runner.submit("defers"), runner.submit("retries")
        wait_until(lambda: defers.status == "Deferred" and retries.status == "Waiting")
        [deferred] = runner.list_executions("Deferred")
        assert (deferred.id, deferred.reason) == (defers.id, "task 'ask' waits for something outside")
        [waiting] = runner.list_executions("Waiting")
        assert (waiting.id, waiting.reason) == (retries.id, "task 'stumble' waits for its next attempt")
        assert (waiting.until or "") > waiting.start_time
        assert (waiting.blocked, defers.blocked, waiting.next_step) == (None, None, None)
        assert cloaca.History.open(tmp_path / "log", defers.id).status == "Deferred"
        door.set()
        assert defers.result(LIMIT).status == "Completed"
        assert runner.get_execution(defers.id).status == "Completed"
        retries.cancel()
        assert runner.list_executions("Waiting") == runner.list_executions("Deferred") == []


def test_damaged_executions_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Regression: each damaged execution has a reason of its own, so a log with thousands gave as many warnings."""
    started, door, _ = door_workflow("many")
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        ids = {runner.submit("many", {"input": f"marker {number}"}).id for number in range(20)}
        assert started.wait(LIMIT)
        runner._shutdown(0.0)
    door.set()
    [segment] = (tmp_path / "log" / "segments").iterdir()
    segment.write_bytes(segment.read_bytes().replace(b"marker", b"marked"))
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        wait_until(lambda: len(runner.list_executions("Damaged")) == len(ids))
        warnings = [it.getMessage() for it in caplog.records if "unfinished and damaged" in it.getMessage()]
        assert len(warnings) == 1
        assert "so are 19 others" in warnings[0]


def test_a_hundred_executions_held_for_one_reason_are_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started, door, _ = door_workflow("many")
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        ids = {runner.submit("many").id for _ in range(100)}
        assert started.wait(LIMIT)
        runner._shutdown(0.0)
    door.set()
    with cloaca.WorkflowBuilder("many"):

        @cloaca.task
        def other() -> None: ...

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:

        def blocked_warnings() -> list[str]:
            return [record.getMessage() for record in caplog.records if "unfinished and blocked" in record.getMessage()]

        wait_until(lambda: bool(blocked_warnings()))
        [warning] = blocked_warnings()
        assert "so are 99 others" in warning
        assert {info.id for info in runner.list_executions("Blocked")} == ids
