"""A runner executes workflows: in order, in parallel, with retries, and says how it went."""

from __future__ import annotations

import datetime
import errno
import pickle
import threading
import time
import uuid
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT


def test_a_workflow_runs_and_gives_its_context(runner: cloaca.DefaultRunner) -> None:
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


def test_a_dict_is_taken_as_the_context(runner: cloaca.DefaultRunner) -> None:
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
def test_what_a_task_may_return(runner: cloaca.DefaultRunner, returned: str, final: dict[str, int]) -> None:
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
def test_what_a_task_may_not_return_fails_the_attempt(runner: cloaca.DefaultRunner, returned: str, says: str) -> None:
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


def test_no_more_attempts_run_at_once_than_the_config_says() -> None:
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


class Broken(ValueError):
    """An error of the test's own."""


def test_a_failure_says_which_task_which_attempt_and_which_error(runner: cloaca.DefaultRunner) -> None:
    raised = Broken("the disk is on fire")
    with cloaca.WorkflowBuilder("fails"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def burn(context: cloaca.Context) -> None:
            context["never"] = 1
            raise raised

        @cloaca.task(dependencies=[burn])
        def after() -> None: ...

    result = runner.execute("fails")
    assert result.status == "Failed"
    for part in ("burn", "attempt 2", "Broken", "the disk is on fire"):
        assert part in (result.error_message or ""), part
    task = result.tasks["burn"]
    assert (task.state, task.attempts, task.error) == ("Failed", 2, "Broken: the disk is on fire")
    assert result.tasks["after"].state == "Skipped"
    assert "never" not in result.final_context
    with pytest.raises(cloaca.WorkflowFailedError, match="the disk is on fire") as caught:
        result.raise_for_status()
    assert caught.value.__cause__ is raised
    assert (caught.value.task_id, caught.value.attempt) == ("burn", 2)
    assert caught.value.execution_id == result.execution_id


def test_the_traceback_begins_with_the_task(runner: cloaca.DefaultRunner) -> None:
    def helper() -> None:
        raise KeyError("gone")

    with cloaca.WorkflowBuilder("traceback"):

        @cloaca.task(retry_attempts=1)
        def outer() -> None:
            helper()

    traceback = runner.execute("traceback").tasks["outer"].traceback
    assert traceback is not None
    assert [line.split()[-1] for line in traceback.splitlines() if line.startswith("  File")] == ["outer", "helper"]
    assert traceback.rstrip().endswith("KeyError: 'gone'")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_no_exception_of_a_task_ends_more_than_its_attempt(runner: cloaca.DefaultRunner, error: BaseException) -> None:
    with cloaca.WorkflowBuilder("exits"):

        @cloaca.task(retry_attempts=1)
        def exits() -> None:
            raise error

    result = runner.execute("exits")
    assert result.status == "Failed"
    assert type(error).__name__ in (result.error_message or "")
    assert runner.execute("exits").status == "Failed"


def test_an_exception_that_cannot_be_printed_fails_its_attempt_too(runner: cloaca.DefaultRunner) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with cloaca.WorkflowBuilder("unprintable"):

        @cloaca.task(retry_attempts=1)
        def unprintable() -> None:
            raise Unprintable

        @cloaca.task(retry_attempts=1)
        def surrogate() -> None:
            raise ValueError("\ud800")

    result = runner.execute("unprintable")
    assert "its text cannot be had" in (result.tasks["unprintable"].error or "")
    assert result.tasks["surrogate"].error == "ValueError: \\ud800"


def runs_of(runner: cloaca.DefaultRunner, error: BaseException, **keywords) -> int:  # type: ignore[no-untyped-def]
    runs = 0
    with cloaca.WorkflowBuilder("runs_of"):

        @cloaca.task(retry_delay_ms=1, **keywords)
        def fails() -> None:
            nonlocal runs
            runs += 1
            raise error

    assert runner.execute("runs_of").status == "Failed"
    return runs


@pytest.mark.parametrize(
    ("error", "keywords", "runs"),
    [
        (ValueError(), {}, 3),
        (ValueError(), {"retry_attempts": 5}, 5),
        (ValueError(), {"retry_attempts": 1}, 1),
        (ValueError(), {"retry_attempts": 0}, 1),
        (ValueError(), {"retry_condition": "never"}, 1),
        (ValueError(), {"retry_condition": "transient"}, 1),
        (TimeoutError(), {"retry_condition": "transient"}, 3),
        (ConnectionResetError(), {"retry_condition": "transient"}, 3),
        (OSError(errno.EHOSTUNREACH, "no route"), {"retry_condition": "transient"}, 3),
        (OSError(errno.ENOENT, "no file"), {"retry_condition": "transient"}, 1),
        (RuntimeError("service temporarily Unavailable"), {"retry_condition": "transient"}, 3),
        (ValueError(), {"retry_condition": ValueError}, 3),
        (Broken(), {"retry_condition": ValueError}, 3),
        (Broken(), {"retry_condition": (KeyError, Broken)}, 3),
        (ValueError(), {"retry_condition": (KeyError, Broken)}, 1),
        (ValueError(), {"retry": cloaca.RetryPolicy.builder().max_attempts(2).initial_delay(0.001).build()}, 2),
    ],
)
def test_a_task_is_tried_again_as_its_policy_says(runner, error, keywords, runs) -> None:  # type: ignore[no-untyped-def]
    if "retry" in keywords:
        with cloaca.WorkflowBuilder("policy"):
            count = []

            @cloaca.task(**keywords)
            def fails() -> None:
                count.append(1)
                raise error

        runner.execute("policy")
        assert len(count) == runs
    else:
        assert runs_of(runner, error, **keywords) == runs


def test_an_attempt_that_takes_too_long_is_failed_and_what_it_does_later_is_ignored(
    runner: cloaca.DefaultRunner,
) -> None:
    release, late = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task(timeout_seconds=0.1, retry_attempts=1)
        def slow(context: cloaca.Context) -> None:
            release.wait(LIMIT)
            context["late"] = True
            late.set()

    result = runner.execute("slow")
    assert result.status == "Failed"
    assert not late.is_set()
    release.set()
    assert late.wait(LIMIT)
    assert "late" not in runner.get_execution(result.execution_id).result().final_context
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    assert isinstance(caught.value.__cause__, cloaca.TaskTimeoutError)
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_a_timed_out_thread_does_not_take_the_place_of_another() -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("stuck"):

        @cloaca.task(timeout_seconds=0.05, retry_attempts=1)
        def stuck() -> None:
            release.wait(LIMIT)

        @cloaca.task(dependencies=[stuck], trigger_rule="all_failed")
        def clean_up(context: cloaca.Context) -> None:
            context["clean"] = True

    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)) as runner:
        result = runner.execute("stuck")
        release.set()
    assert result.status == "Completed"
    assert result.final_context == {"clean": True}


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


def test_an_unknown_workflow_is_named_with_its_nearest() -> None:
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


def test_too_long_a_value_is_refused() -> None:
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


def test_after_shutdown_nothing_is_started(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("down"):

        @cloaca.task
        def task() -> None: ...

    runner.shutdown()
    runner.shutdown()
    with pytest.raises(cloaca.Error, match="shut down"):
        runner.execute("down")
    assert repr(runner) == "DefaultRunner(':memory:', durability='sync', shut down)"


class ShutdownFails(cloaca.DefaultRunner):
    """A runner whose log fails last."""

    def shutdown(self) -> None:
        super().shutdown()
        raise cloaca.LogError("the disk went away")


def test_an_error_of_the_block_is_not_replaced_by_one_of_the_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError, match="of the program"), ShutdownFails(":memory:") as runner:
        raise KeyError("of the program")
    assert repr(runner).endswith("shut down)")
    assert "the disk went away" in caplog.text


def test_an_error_of_the_shutdown_is_raised_if_there_is_no_other() -> None:
    with pytest.raises(cloaca.LogError, match="the disk went away"), ShutdownFails(":memory:"):
        pass


def test_shutdown_wakes_who_waits() -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("wakes"):

        @cloaca.task
        def task() -> None:
            release.wait(LIMIT)

    runner = cloaca.DefaultRunner(":memory:")
    execution = runner.submit("wakes")
    caught = []

    def wait() -> None:
        try:
            execution.result()
        except cloaca.Error as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    runner._shutdown(0.05)
    thread.join(LIMIT)
    release.set()
    assert "shut down before" in str(caught[0])
    assert caught[0].execution_id == execution.id


def test_what_one_runner_left_the_next_one_finishes(tmp_path: Path) -> None:
    first_run, release = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("left"):

        @cloaca.task
        def done(context: cloaca.Context) -> dict[str, int]:
            return {"done": context.get("done", 0) + 1}

        @cloaca.task(dependencies=[done])
        def interrupted(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            if not first_run.is_set():
                first_run.set()
                release.wait(LIMIT)
                return
            context["attempt"] = handle.attempt

    path = tmp_path / "log"
    runner = cloaca.DefaultRunner(f"cloaca:///{path}")
    execution = runner.submit("left")
    assert first_run.wait(LIMIT)
    runner._shutdown(0.0)
    release.set()
    with cloaca.DefaultRunner(str(path)) as second:
        assert [recovered.id for recovered in second.recovered] == [execution.id]
        result = second.recovered[0].result(LIMIT)
        assert result.final_context == {"done": 1, "attempt": 2}


def test_errors_can_be_pickled() -> None:
    error = cloaca.WorkflowFailedError("it failed", execution_id="e", task_id="t", attempt=2)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is cloaca.WorkflowFailedError
    assert str(back) == "it failed"
    assert (back.execution_id, back.task_id, back.attempt, back.seq) == ("e", "t", 2, None)
    assert str(pickle.loads(pickle.dumps(cloaca.UndeclaredReadError("a read", key="k")))) == "a read"


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (cloaca.WorkflowValidationError, (cloaca.Error, ValueError)),
        (cloaca.WorkflowNotFoundError, (cloaca.Error, ValueError)),
        (cloaca.ConfigurationError, (cloaca.Error, ValueError)),
        (cloaca.ContextError, (cloaca.Error,)),
        (cloaca.LogLockedError, (cloaca.LogError, cloaca.Error)),
        (cloaca.LogCorruptedError, (cloaca.LogError, cloaca.Error)),
        (cloaca.LogVersionError, (cloaca.LogError, cloaca.Error)),
        (cloaca.WorkflowFailedError, (cloaca.Error,)),
        (cloaca.TaskTimeoutError, (cloaca.Error, TimeoutError)),
        (cloaca.UndeclaredReadError, (cloaca.Error, KeyError)),
    ],
)
def test_errors_are_what_python_would_call_them(error: type, bases: tuple[type, ...]) -> None:
    for base in bases:
        assert issubclass(error, base)
