"""A runner executes workflows in order, in parallel and with retries, and returns their results."""

from __future__ import annotations

import datetime
import threading
import time
import uuid

import cloaca
import pytest

from conftest import LIMIT


def test_a_workflow_runs_and_returns_its_context(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("runs"):

        @cloaca.task
        def extract(context: cloaca.Context) -> cloaca.Context:
            context.set("rows", list(range(context.get("count"))))
            return context

        @cloaca.task(dependencies=[extract])
        def load(context: cloaca.Context) -> None:
            context["sum"] = sum(context["rows"])

    result = runner.execute("runs", cloaca.Context({"count": 4}))
    assert result.status == "Completed"
    assert result.final_context.to_dict() == {"count": 4, "rows": [0, 1, 2, 3], "sum": 6}
    assert result.error is None
    assert result.error_message is None
    assert result.workflow_name == "runs"
    assert uuid.UUID(result.execution_id).version == 7
    assert result.raise_for_status() is result


def test_a_result_knows_its_times_and_tasks(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("times"):

        @cloaca.task
        def sleep() -> None:
            time.sleep(0.05)

        @cloaca.task(trigger_rules=cloaca.context_value("missing", "exists"))
        def skipped() -> None: ...

    result = runner.execute("times")
    start = datetime.datetime.fromisoformat(result.start_time)
    assert result.end_time is not None
    assert result.duration == datetime.datetime.fromisoformat(result.end_time) - start
    assert result.duration >= datetime.timedelta(seconds=0.05)
    assert start.tzinfo is not None
    assert abs((datetime.datetime.now(datetime.timezone.utc) - start).total_seconds()) < LIMIT
    assert list(result.tasks) == ["sleep", "skipped"]
    task = result.tasks["sleep"]
    assert (task.state, task.attempts, task.error, task.traceback) == ("Completed", 1, None, None)
    assert task.started is not None
    assert result.start_time <= task.started <= task.ended <= result.end_time  # type: ignore[operator]
    assert result.tasks["skipped"].state == "Skipped"
    assert "missing" in (result.tasks["skipped"].error or "")
    assert repr(result).startswith("WorkflowResult(status='Completed', workflow_name='times', execution_id='")
    assert isinstance(result, cloaca.PipelineResult)


def test_a_dict_is_accepted_as_the_context(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("dict"):

        @cloaca.task
        def task(context: cloaca.Context) -> dict[str, int]:
            return {"m": context["n"] + 1}

    given = {"n": 1}
    assert runner.execute("dict", given).final_context == {"n": 1, "m": 2}
    assert given == {"n": 1}
    with pytest.raises(TypeError, match="a context is made from a dict, not from list"):
        runner.execute("dict", [1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("returned", "final"),
    [
        ("context", {"old": 1, "written": 1}),
        ("None", {"old": 1, "written": 1}),
        ("{'new': 3}", {"old": 1, "written": 1, "new": 3}),
        ("cloaca.Context({'old': 1, 'new': 3})", {"old": 1, "new": 3}),
        ("cloaca.Context({'new': 3})", {"new": 3}),
        ("context.copy()", {"old": 1, "written": 1}),
    ],
)
def test_valid_return_values_of_a_task(runner: cloaca.DefaultRunner, returned: str, final: dict[str, int]) -> None:
    with cloaca.WorkflowBuilder("returns"):

        @cloaca.task
        def task(context: cloaca.Context) -> object:
            context["written"] = 1
            value: object = eval(returned, {"context": context, "cloaca": cloaca})
            return value

    assert runner.execute("returns", {"old": 1}).final_context == final


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("5", "task 'task' returned a value of type int; a task returns the context, None"),
        ("[1]", "task 'task' returned a value of type list"),
        ("{'a': {1}}", "context key 'a': set is not a JSON value"),
        ("{1: 1}", "a context key must be a str, not int"),
    ],
)
def test_an_invalid_return_value_fails_the_attempt(runner: cloaca.DefaultRunner, returned: str, says: str) -> None:
    with cloaca.WorkflowBuilder("may_not"):

        @cloaca.task(retry_attempts=1)
        def task(context: cloaca.Context) -> object:
            value: object = eval(returned)
            return value

    result = runner.execute("may_not")
    assert result.status == "Failed"
    assert says in (result.error_message or "")
    assert result.final_context == {}


def test_four_tasks_that_wait_for_each_other_run_together(runner: cloaca.DefaultRunner) -> None:
    together = threading.Barrier(4)
    with cloaca.WorkflowBuilder("together"):
        for number in range(4):

            @cloaca.task(id=f"sleep_{number}")
            def sleep() -> None:
                together.wait(LIMIT)

    assert runner.execute("together").status == "Completed"


def test_concurrent_attempts_are_limited_by_the_config() -> None:
    running, most, lock = 0, 0, threading.Lock()
    with cloaca.WorkflowBuilder("slots"):
        for number in range(6):

            @cloaca.task(id=f"task_{number}")
            def task() -> None:
                nonlocal running, most
                with lock:
                    running += 1
                    most = max(most, running)
                time.sleep(0.02)
                with lock:
                    running -= 1

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
    with cloaca.DefaultRunner.with_config(":memory:", config) as runner:
        assert runner.execute("slots").status == "Completed"
    assert most == 2


def test_execute_can_be_called_from_many_threads(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("threads"):

        @cloaca.task
        def square(context: cloaca.Context) -> None:
            context["square"] = context["n"] ** 2

    results: dict[int, int] = {}

    def execute(n: int) -> None:
        results[n] = runner.execute("threads", {"n": n}).final_context["square"]

    threads = [threading.Thread(target=execute, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert results == {n: n * n for n in range(20)}


def test_a_waiting_caller_does_not_hold_the_gil(runner: cloaca.DefaultRunner) -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("gil"):

        @cloaca.task
        def wait() -> None:
            assert release.wait(LIMIT)

    threading.Timer(0.1, release.set).start()
    assert runner.execute("gil").status == "Completed"


def test_a_handle_knows_its_attempt(runner: cloaca.DefaultRunner) -> None:
    seen = []
    with cloaca.WorkflowBuilder("handle"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def task(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            seen.append((handle, handle.attempt, handle.execution_id, handle.is_slot_held()))
            if handle.attempt == 1:
                raise ValueError

    result = runner.execute("handle")
    assert [entry[1:] for entry in seen] == [(1, result.execution_id, True), (2, result.execution_id, True)]
    assert repr(seen[0][0]) == f"TaskHandle(task_id='task', attempt=1, execution_id={result.execution_id!r})"
    assert not seen[0][0].is_slot_held()


def test_a_rule_runs_a_task_after_a_failure(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("rules"):

        @cloaca.task(retry_attempts=1)
        def fails() -> None:
            raise ValueError

        @cloaca.task(dependencies=["fails"], trigger_rules=cloaca.task_failed(fails))
        def clean_up(context: cloaca.Context) -> None:
            context["cleaned"] = True

        @cloaca.task(
            dependencies=["clean_up"],
            trigger_rules=cloaca.all_of(cloaca.context_value("cleaned", "==", True), cloaca.context_value("n", ">", 3)),
        )
        def report(context: cloaca.Context) -> None:
            context["reported"] = True

    assert runner.execute("rules", {"n": 5}).final_context == {"n": 5, "cleaned": True, "reported": True}
    few = runner.execute("rules", {"n": 1})
    assert few.status == "Completed"
    assert few.tasks["report"].state == "Skipped"


def test_an_unknown_workflow_is_refused_with_the_nearest_name() -> None:
    with cloaca.DefaultRunner(":memory:") as runner:
        with cloaca.WorkflowBuilder("customer_analysis"):

            @cloaca.task
            def task() -> None: ...

        with pytest.raises(cloaca.WorkflowNotFoundError, match="did you mean 'customer_analysis'") as caught:
            runner.execute("customer_analisys")
        assert isinstance(caught.value, ValueError)
        assert caught.value.workflow == "customer_analisys"


def test_workflows_that_are_registered_later_are_found(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("later"):

        @cloaca.task
        def task() -> None: ...

    assert runner.execute("later").status == "Completed"


def test_a_wait_can_end_before_the_execution(runner: cloaca.DefaultRunner) -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("wait"):

        @cloaca.task
        def task() -> None:
            release.wait(LIMIT)

    with pytest.raises(cloaca.WaitTimeoutError, match="still running after") as caught:
        runner.execute("wait", timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    execution = runner.get_execution(caught.value.execution_id or "")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            execution.result(timeout=0.01)
    assert execution.status == "Running"
    release.set()
    assert execution.result(timeout=LIMIT).status == "Completed"
    assert execution.status == "Completed"


def test_a_submitted_execution_can_be_cancelled(runner: cloaca.DefaultRunner) -> None:
    started, release = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("cancel"):

        @cloaca.task
        def task() -> None:
            started.set()
            release.wait(LIMIT)

    execution = runner.submit("cancel")
    assert started.wait(LIMIT)
    execution.cancel("not needed")
    result = execution.result(LIMIT)
    release.set()
    assert result.status == "Cancelled"
    with pytest.raises(cloaca.WorkflowFailedError):
        result.raise_for_status()
    with pytest.raises(cloaca.Error):
        execution.cancel()


def test_a_paused_execution_starts_nothing_until_it_is_resumed(runner: cloaca.DefaultRunner) -> None:
    started, release = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("pause"):

        @cloaca.task
        def first() -> None:
            started.set()
            release.wait(LIMIT)

        @cloaca.task(dependencies=[first])
        def second(context: cloaca.Context) -> None:
            context["second"] = True

    execution = runner.submit("pause")
    assert started.wait(LIMIT)
    execution.pause()
    release.set()
    with pytest.raises(TimeoutError):
        execution.result(0.1)
    assert execution.status == "Paused"
    execution.resume()
    assert execution.result(LIMIT).final_context == {"second": True}


def test_an_execution_with_a_known_id_is_attached_to(runner: cloaca.DefaultRunner) -> None:
    runs = []
    with cloaca.WorkflowBuilder("attach"):

        @cloaca.task
        def task(context: cloaca.Context) -> dict[str, int]:
            runs.append(1)
            return {"n": len(runs)}

    execution_id = str(uuid.uuid4())
    first = runner.execute("attach", execution_id=execution_id)
    second = runner.execute("attach", execution_id=execution_id)
    assert first.execution_id == second.execution_id == execution_id
    assert second.final_context == {"n": 1}
    assert runs == [1]
    with pytest.raises(ValueError, match="'x' is not an execution id"):
        runner.execute("attach", execution_id="x")


def test_executions_are_listed_newest_first(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("listed"):

        @cloaca.task(retry_attempts=1)
        def task(context: cloaca.Context) -> None:
            assert context["ok"]

    ids = [runner.execute("listed", {"ok": ok}).execution_id for ok in (True, False, True)]
    listed = runner.list_executions()
    assert [info.id for info in listed] == ids[::-1]
    assert [info.status for info in listed] == ["Completed", "Failed", "Completed"]
    assert [info.id for info in runner.list_executions("Failed")] == [ids[1]]
    assert [info.id for info in runner.list_executions(workflow="listed", limit=1)] == [ids[2]]
    assert [info.id for info in runner.list_executions(before=ids[2])] == [ids[1], ids[0]]
    assert runner.list_executions(workflow="other") == []
    with pytest.raises(ValueError, match="unknown status 'Done'"):
        runner.list_executions("Done")
    with pytest.raises(ValueError, match="limit must be"):
        runner.list_executions(limit=-1)
    with pytest.raises(cloaca.ExecutionNotFoundError, match="there is no execution"):
        runner.get_execution(str(uuid.uuid4()))


def test_strict_context_refuses_undeclared_reads() -> None:
    order = threading.Event()
    with cloaca.WorkflowBuilder("strict"):

        @cloaca.task
        def writer(context: cloaca.Context) -> None:
            context["secret"] = 1

        @cloaca.task(dependencies=[writer])
        def between() -> None:
            order.set()

        @cloaca.task(retry_attempts=1)
        def start() -> None:
            order.wait(LIMIT)

        @cloaca.task(dependencies=[start], retry_attempts=1)
        def reader(context: cloaca.Context) -> None:
            assert context.get("unknown") is None
            context.get("secret")

    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(strict_context=True)) as runner:
        result = runner.execute("strict")
    assert result.status == "Failed"
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    cause = caught.value.__cause__
    assert isinstance(cause, cloaca.UndeclaredReadError)
    assert isinstance(cause, KeyError)
    assert cause.key == "secret"
    assert "add that task to its dependencies" in str(cause)


def test_a_value_that_is_too_long_is_refused() -> None:
    with cloaca.WorkflowBuilder("long"):

        @cloaca.task(retry_attempts=1)
        def task(context: cloaca.Context) -> None:
            context["big"] = "x" * 2000

    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_value_bytes=1000)) as runner:
        with pytest.raises(cloaca.ContextError, match="context key 'n': the value has 1502 bytes") as caught:
            runner.execute("long", {"n": "x" * 1500})
        assert caught.value.key == "n"
        result = runner.execute("long")
        assert result.status == "Failed"
        assert "big" in (result.error_message or "")
