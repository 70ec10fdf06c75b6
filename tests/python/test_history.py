"""The past from Python: ``cloaca.History``."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cloaca
import pytest
from cloaca import events
from cloaca.history import History

from conftest import LIMIT

Run = Callable[..., Any]


def define(factor: int = 2) -> None:
    """``load`` fails once; ``double`` and ``note`` follow; ``end`` joins them."""
    with cloaca.WorkflowBuilder("past"):

        @cloaca.task(retry_delay_ms=1, retry_jitter=False)
        def load(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            if handle.attempt == 1:
                context["half"] = True
                raise ConnectionError("not yet")
            context["rows"] = [1, 2, context["n"]]

        @cloaca.task(dependencies=[load])
        def double(context: cloaca.Context) -> dict[str, Any]:
            return {"double": [factor * row for row in context["rows"]]}

        @cloaca.task(dependencies=[load])
        async def note(context: cloaca.Context) -> None:
            context["note"] = {"big": 2**100, "text": "é"}

        @cloaca.task(dependencies=[double, note], trigger_rules=cloaca.context_value("never", "exists"))
        def end() -> None: ...


@pytest.fixture
def past(tmp_path: Path) -> History:
    define()
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        result = runner.execute("past", {"n": 3}, timeout=LIMIT)
        assert result.status == "Completed"
        return result.history()


def test_a_history_describes_its_execution(past: History, tmp_path: Path) -> None:
    assert past.workflow_name == "past"
    assert past.status == "Completed"
    assert past.trouble is None
    assert past.info["durability"] == "sync"
    assert past.info["log"] == str(tmp_path / "log")
    assert repr(past) == (
        f"History(execution_id={past.execution_id!r}, workflow_name='past', status='Completed', events={len(past)})"
    )


def test_events_have_types(past: History) -> None:
    kinds = [event.kind for event in past.events]
    assert kinds[:6] == [
        "ExecutionStarted",
        "ContextWritten",
        "TaskStarted",
        "ContextWritten",
        "TaskFailed",
        "TaskStarted",
    ]
    assert [event.seq for event in past.events] == list(range(len(past.events)))
    first, *_, last = past.events
    assert isinstance(first, events.ExecutionStarted)
    assert (first.workflow, first.inputs, first.cause["kind"]) == ("past", 1, "call")
    assert first.environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert isinstance(last, events.ExecutionCompleted)
    (failed,) = [event for event in past.events if isinstance(event, events.TaskFailed)]
    assert (failed.task, failed.attempt, str(failed.error)) == ("load", 1, "ConnectionError: not yet")
    assert failed.error.transient
    assert "ConnectionError" in failed.error.lineage
    assert failed.retry_at is not None
    written = {event.key: event for event in past.events if isinstance(event, events.ContextWritten)}
    assert (written["n"].task, written["n"].value) == (None, 3)
    assert (written["note"].task, written["note"].value) == ("note", {"big": 2**100, "text": "é"})
    (skipped,) = [event for event in past.events if isinstance(event, events.TaskSkipped)]
    assert (skipped.task, skipped.why["keys"]) == ("end", ["never"])
    done = {event.task: event for event in past.events if isinstance(event, events.TaskCompleted)}
    assert done["double"].reads == events.Reads((events.Read("rows", "write", (written["rows"].seq,)),), False)


def test_every_event_of_the_log_has_a_class_with_its_fields() -> None:
    for kind in events._KINDS.values():
        assert kind.__name__ in events.__all__
        assert kind.__doc__
    raw = {"seq": 3, "time": "t", "position": 9, "hash": "h", "previous": "p"}
    assert isinstance(events.event_of({**raw, "event": None, "body": None}), events.Erased)
    newer = events.event_of({**raw, "event": "SomethingNewer", "body": {"a": 1}})
    assert type(newer) is events.Event
    assert newer.body == {"a": 1}


def test_tasks_have_their_attempts(past: History) -> None:
    assert sorted(past.tasks) == ["double", "end", "load", "note"]
    assert next(iter(past.tasks)) == "load"
    load = past.tasks["load"]
    assert [attempt.outcome for attempt in load.attempts] == ["failed", "completed"]
    assert load.attempts[0].error is not None
    assert load.attempts[0].error.message == "not yet"
    assert [write["key"] for write in load.attempts[0].writes] == ["half"]
    assert load.attempts[1].duration is not None
    assert load.outcome == "completed"
    assert past.tasks["end"].outcome == "skipped"
    assert past.tasks["end"].skipped is not None


def test_the_state_at_any_moment(past: History) -> None:
    begin = past.state(at=0)
    assert (begin.status, begin.seq, begin.ready) == ("Running", 0, ())
    assert begin.tasks["double"].waits_for == ("load",)
    waiting = past.state(at=4)
    assert waiting.tasks["load"].state == "WaitingRetry"
    assert waiting.tasks["load"].error is not None
    assert waiting.context.to_dict() == {"n": 3}
    done = past.state(at="load")
    assert done.tasks["load"].state == "Completed"
    assert done.context.to_dict() == {"n": 3, "rows": [1, 2, 3]}
    assert past.state().status == "Completed"
    assert past.state().context == past.context()


def test_moments(past: History) -> None:
    end = past.events[-1]
    for at in (None, end.seq, datetime.fromisoformat(end.time), timedelta(days=1), f"{end.seq}", "+1h", end.time):
        assert past.state(at=at).seq == end.seq, at
    assert past.state(at=timedelta(0)).seq <= 2
    assert past.context(at="double")["double"] == [2, 4, 6]


@pytest.mark.parametrize(
    ("at", "error", "says"),
    [
        (1000, cloaca.MomentNotFoundError, "there is no event with seq 1000"),
        ("lod", cloaca.MomentNotFoundError, "no event names a task 'lod'"),
        (datetime(2020, 1, 1, tzinfo=timezone.utc), cloaca.MomentNotFoundError, "before the execution started"),
        (datetime(2020, 1, 1), ValueError, "has no time zone"),
        (timedelta(-1), ValueError, "before the start"),
        (-1, ValueError, "the seq of an event is 0 or greater, not -1"),
        ("", ValueError, "'' is not a moment"),
        (True, TypeError, "not a bool"),
        (1.5, TypeError, "not float"),
    ],
)
def test_invalid_moments_are_refused(past: History, at: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        past.state(at=at)
    assert says in str(caught.value)
    if isinstance(caught.value, cloaca.MomentNotFoundError):
        assert caught.value.execution_id == past.execution_id
        assert isinstance(caught.value, LookupError)
        if at == 1000:
            assert caught.value.seq == 1000
        if at == "lod":
            assert caught.value.task_id == "lod"


def test_why_a_value_was_written(past: History) -> None:
    why = past.why("double")
    assert [(step.depth, step.key, step.how, step.task) for step in why] == [
        (0, "double", "asked", "double"),
        (1, "rows", "read", "load"),
        (2, "n", "read", None),
    ]
    assert why[1].value == [1, 2, 3]
    assert why[1].attempt == 2
    lines = str(why).splitlines()
    assert lines[0].startswith("double = [2, 4, 6]  [asked] by double, attempt 1, seq ")
    assert lines[2].startswith("    n = 3  [read] by the input, seq 1")
    assert "<pre>" in why._repr_html_()
    with pytest.raises(cloaca.UnknownKeyError, match="no key 'dubble' in the context; did you mean 'double'") as caught:
        past.why("dubble")
    assert (caught.value.key, caught.value.execution_id) == ("dubble", past.execution_id)
    assert isinstance(caught.value, KeyError)
    with pytest.raises(cloaca.UnknownKeyError):
        past.why("double", at="load")
    with pytest.raises(TypeError):
        past.why(1)  # type: ignore[arg-type]


def test_it_verifies(past: History) -> None:
    found = past.verify()
    assert found
    assert (found.ok, found.records, found.chained, found.verdicts) == (True, len(past), len(past), ())
    with pytest.raises(ValueError, match="cannot be verified"):
        History.from_json(past.to_json()).verify()


def test_as_json_and_back(past: History) -> None:
    text = past.to_json()
    assert json.loads(text)["format"] == "cloaca.replay/1"
    again = History.from_json(text)
    assert again == past
    assert again.to_json() == text
    assert again.state(at="load") == past.state(at="load")
    assert again.why("double") == past.why("double")
    assert pickle.loads(pickle.dumps(past)) == past
    assert copy.copy(past) == past
    for wrong in ("", "{}", "[]", '{"format": "cloaca.replay/9", "events": []}'):
        with pytest.raises(ValueError):
            History.from_json(wrong)


def test_two_executions_are_compared(tmp_path: Path) -> None:
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        define()
        one = runner.execute("past", {"n": 3}, timeout=LIMIT).history()
        same = runner.execute("past", {"n": 3}, timeout=LIMIT).history()
        other = runner.execute("past", {"n": 4}, timeout=LIMIT).history()
        define(factor=3)
        changed = runner.execute("past", {"n": 3}, timeout=LIMIT).history()
    assert one.diff(same).same
    assert one.diff(one).first is None
    assert str(one.diff(one)) == "nothing differs"
    diff = one.diff(other)
    assert not diff.same
    assert diff.first is not None
    assert diff.first["aspect"] == "input"
    assert str(diff) == diff.first["says"]
    assert [key["key"] for key in diff.context] == ["double", "n", "rows"]
    assert one.diff(changed).context[0]["key"] == "double"
    with pytest.raises(TypeError):
        one.diff("other")  # type: ignore[arg-type]


def test_a_log_that_a_runner_holds_is_read(tmp_path: Path) -> None:
    define()
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        execution = runner.submit("past", {"n": 3})
        execution.result(LIMIT)
        opened = History.open(tmp_path / "log", execution.id)
        assert opened == execution.history()
    assert History.open(f"cloaca:////{tmp_path}/log", execution.id) == opened


def test_a_log_that_another_process_holds_is_read(tmp_path: Path, run_python: Run) -> None:
    define()
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        result = runner.execute("past", {"n": 3}, timeout=LIMIT)
        done = run_python(f"""
            import cloaca
            history = cloaca.History.open("log", "{result.execution_id}")
            print(history.context()["double"], history.verify().ok)
        """)
    assert done.stdout == "[2, 4, 6] True\n"


def test_the_history_of_what_still_runs(runner: cloaca.DefaultRunner) -> None:
    import threading

    started, go = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("running"):

        @cloaca.task
        def task(context: cloaca.Context) -> None:
            started.set()
            go.wait(LIMIT)

    execution = runner.submit("running")
    assert started.wait(LIMIT)
    history = execution.history()
    assert history.status == "Running"
    assert history.tasks["task"].outcome == "running"
    go.set()
    assert execution.result(LIMIT).history().status == "Completed"
    assert history.status == "Running"


def test_the_history_of_a_result_whose_runner_is_gone(tmp_path: Path) -> None:
    define()
    runner = cloaca.DefaultRunner(str(tmp_path / "log"))
    result = runner.execute("past", {"n": 3}, timeout=LIMIT)
    runner.shutdown()
    assert result.history().status == "Completed"
    del runner
    assert result.history().status == "Completed"
    assert pickle.loads(pickle.dumps(result)).history() == result.history()


def test_the_history_of_a_log_in_memory_goes_with_its_runner() -> None:
    define()
    runner = cloaca.DefaultRunner(":memory:")
    result = runner.execute("past", {"n": 3}, timeout=LIMIT)
    assert result.history().status == "Completed"
    runner.shutdown()
    del runner
    with pytest.raises(cloaca.LogError, match="in memory"):
        result.history()


def test_opening_errors(tmp_path: Path) -> None:
    define()
    with cloaca.DefaultRunner(str(tmp_path / "log")):
        pass
    unknown = "0192aaaa-0000-7000-8000-000000000001"
    with pytest.raises(cloaca.ExecutionNotFoundError) as caught:
        History.open(tmp_path / "log", unknown)
    assert caught.value.execution_id == unknown
    assert caught.value.path == str(tmp_path / "log")
    with pytest.raises(cloaca.ConfigurationError):
        History.open(tmp_path / "nothing", unknown)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(cloaca.ConfigurationError, match="in memory"):
        History.open(":memory:", unknown)
    with pytest.raises(cloaca.ExecutionNotFoundError):
        History.open(tmp_path / "log", "latest")
    with pytest.raises(ValueError, match="is not an id"):
        History.open(tmp_path / "log", "the last one")


def test_looking_runs_no_task(past: History) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a task ran")

    with cloaca.WorkflowBuilder("past"):
        for task_id in ("load", "double", "note", "end"):
            cloaca.task(id=task_id)(lambda context: never())
    past.state()
    past.why("double")
    past.diff(past)
    past.verify()
    past._repr_html_()
    with past.debug("double") as context:
        assert context["rows"] == [1, 2, 3]


def test_rerun_compares_the_writes_of_the_current_code(past: History) -> None:
    same = past.rerun("double")
    assert (same.same, same.writes, same.differences) == (True, {"double": [2, 4, 6]}, ())
    assert past.rerun("note").same
    define(factor=3)
    other = past.rerun("double")
    assert not other.same
    assert other.differences == ("double",)
    assert other.recorded == {"double": [2, 4, 6]}
    assert other.writes == {"double": [3, 6, 9]}
    assert History.from_json(past.to_json()) == past


def test_rerun_of_an_attempt_that_failed(past: History) -> None:
    failed = past.rerun("load", attempt=1)
    assert (failed.attempt, failed.outcome, failed.same) == (1, "failed", True)
    assert isinstance(failed.error, ConnectionError)
    assert failed.writes == failed.recorded == {"half": True}
    again = past.rerun("load")
    assert (again.attempt, again.same, again.error) == (2, True, None)
    with cloaca.WorkflowBuilder("past"):

        @cloaca.task
        def load(context: cloaca.Context) -> None:
            raise RuntimeError("broken today")

    broken = past.rerun("load")
    assert not broken.same
    assert isinstance(broken.error, RuntimeError)


def test_rerun_of_a_missing_attempt(past: History) -> None:
    with pytest.raises(cloaca.MomentNotFoundError, match="no attempt of task 'loda' was started; did you mean 'load'"):
        past.rerun("loda")
    with pytest.raises(cloaca.MomentNotFoundError, match="there is no attempt 3 of task 'load'; there were 2"):
        past.rerun("load", attempt=3)
    with pytest.raises(cloaca.MomentNotFoundError, match="no attempt of task 'end'"):
        past.rerun("end")


def test_rerun_without_the_code(past: History, run_python: Run, tmp_path: Path) -> None:
    done = run_python(f"""
        import cloaca
        history = cloaca.History.open("log", "{past.execution_id}")
        try:
            history.rerun("load")
        except cloaca.WorkflowValidationError as error:
            print(error, error.task_id)
    """)
    assert done.stdout == "no task 'load' is defined in this process (import the module that defines it) load\n"


def test_each_debug_block_gets_its_own_context(past: History) -> None:
    with past.debug("load", attempt=2) as context:
        assert context.to_dict() == {"n": 3}
        context["rows"] = "changed"
    with past.debug("load", attempt=2) as context:
        assert "rows" not in context


def test_a_table_for_notebooks(past: History) -> None:
    shown = past._repr_html_()
    assert "<td>load</td><td>completed</td><td>2</td>" in shown
    assert "skipped" in shown


def test_the_notebook_table_is_escaped(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("<b>&"):

        @cloaca.task(id="<script>", retry_attempts=1)
        def task() -> None:
            raise ValueError("<img>")

    shown = runner.execute("<b>&", timeout=LIMIT).history()._repr_html_()
    assert "<script>" not in shown
    assert "<img>" not in shown
    assert "&lt;b&gt;&amp;" in shown


def test_a_history_is_opened_by_the_ids_that_hints_print(tmp_path: Path) -> None:
    """Regression: ``History.open`` accepted only complete ids, but every hint of ``replay`` prints the end of one."""
    with cloaca.WorkflowBuilder("short_ids"):

        @cloaca.task
        def only() -> None: ...

    log = tmp_path / "log"
    with cloaca.DefaultRunner(str(log)) as runner:
        first, second = (runner.execute("short_ids").execution_id for _ in range(2))
        assert cloaca.History.open(log, second[-8:]).execution_id == second, "while a runner has the log"
    for asked, found in (
        (first[-8:], first),
        (f"…{first[-8:]}", first),
        ("latest", second),
        ("@", second),
        ("@-", first),
    ):
        assert cloaca.History.open(log, asked).execution_id == found
    with pytest.raises(ValueError, match="matches several executions"):
        cloaca.History.open(log, first[:4])
    with pytest.raises(cloaca.ExecutionNotFoundError, match="no execution"):
        cloaca.History.open(log, "ffffffff")
    with pytest.raises(ValueError, match="is not an id"):
        cloaca.History.open(log, "nonsense")


def test_the_id_of_something_else_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Regression: for the id of a schedule or of the log itself, the error was that there is no such execution."""
    log = str(tmp_path / "log")
    with cloaca.WorkflowBuilder("nightly"):

        @cloaca.task
        def sweep(context: cloaca.Context) -> None: ...

    with cloaca.DefaultRunner(log) as runner:
        schedule = runner.register_cron_workflow("nightly", "0 0 1 1 *", "UTC")
    for foreign, whose in ((schedule, "a schedule"), ("00000000-0000-0000-0000-000000000000", "the log itself")):
        with pytest.raises(cloaca.ExecutionNotFoundError, match=f"{foreign} is the id of {whose}, not of an execution"):
            History.open(log, foreign)
