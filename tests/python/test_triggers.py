"""Event triggers: their decorator, polling by every runner, and the results of polls."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cloaca
import pytest
from cloaca import TriggerResult
from cloaca._cloaca import VirtualClock
from cloaca._trigger import triggers

NEW_YEAR = datetime(2030, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Removes all triggers: they are registered per process, and must not be polled in the next test."""

    def forget_all() -> None:
        for name in triggers.names():
            triggers.unregister(name)

    forget_all()
    yield
    forget_all()


@pytest.fixture(autouse=True)
def etl() -> None:
    with cloaca.WorkflowBuilder("etl"):

        @cloaca.task
        def load(context: cloaca.Context) -> None:
            context["loaded"] = True


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NEW_YEAR.timestamp())


@pytest.fixture
def polling(clock: VirtualClock) -> Iterator[cloaca.DefaultRunner]:
    with cloaca.DefaultRunner(":memory:", _clock=clock) as runner:
        yield runner


def at(seconds: float) -> str:
    return (NEW_YEAR + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def script(*answers: Any, **keywords: Any) -> list[int]:
    """Decorates a trigger ``inbox`` that returns these answers, one per poll, then none."""
    left, polls = list(answers), [0]

    @cloaca.trigger(**{"on": "etl", "name": "inbox", **keywords})
    def inbox() -> Any:
        polls[0] += 1
        answer = left.pop(0) if left else False
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return polls


def test_return_values_of_triggers() -> None:
    fire, skip = TriggerResult.fire(cloaca.Context({"key": 1})), TriggerResult.skip()
    assert (fire.is_fire_result(), fire.is_skip_result()) == (True, False)
    assert (skip.is_fire_result(), skip.is_skip_result()) == (False, True)
    assert repr(fire) == 'TriggerResult.Fire(Context({"key":1}))'
    assert repr(skip) == "TriggerResult.Skip"
    assert fire == TriggerResult.fire({"key": 1}) != skip
    assert TriggerResult.fire() == TriggerResult.fire({})
    context = cloaca.Context({"key": 1})
    fire = TriggerResult.fire(context)
    context["key"] = 2
    assert fire.context == {"key": 1}, "it was copied"
    assert skip.context is None
    with pytest.raises(TypeError, match=r"TriggerResult.fire"):
        TriggerResult()
    with pytest.raises(TypeError, match=r"'when'"):
        TriggerResult.fire({"when": NEW_YEAR})


def test_the_function_comes_back_unchanged() -> None:
    def inbox() -> bool:
        return False

    assert cloaca.trigger("etl")(inbox) is inbox
    assert cloaca.trigger(inbox) is inbox
    assert inbox() is False


def test_names_of_triggers_and_workflows() -> None:
    def named(function: Any) -> tuple[str, str]:
        spec = triggers.find(function.__name__)
        assert spec is not None
        return spec.name, spec.workflow

    @cloaca.trigger("etl")
    def positional() -> bool:
        return False

    @cloaca.trigger(workflow="etl")
    def keyword() -> bool:
        return False

    @cloaca.trigger(on="etl")
    def on() -> bool:
        return False

    @cloaca.trigger
    def bare() -> bool:
        return False

    @cloaca.trigger()
    def empty() -> bool:
        return False

    with cloaca.WorkflowBuilder("around"):

        @cloaca.task
        def task() -> None: ...

        @cloaca.trigger(poll_interval="1h")
        def inside() -> bool:
            return False

    assert [named(it) for it in (positional, keyword, on, bare, empty, inside)] == [
        ("positional", "etl"),
        ("keyword", "etl"),
        ("on", "etl"),
        ("bare", "bare"),
        ("empty", "empty"),
        ("inside", "around"),
    ]
    cloaca.trigger("etl", name="other")(bare)
    assert "other" in triggers.names()
    with pytest.raises(ValueError, match=r"has no name"):
        cloaca.trigger("etl")(__import__("functools").partial(bare))


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        ({"workflow": "a", "on": "b"}, ValueError, "pass workflow= or on=, not both"),
        ({"workflow": ""}, ValueError, "cannot be empty"),
        ({"workflow": 5}, TypeError, "must be a name, a str, not 5"),
        ({"name": 5}, TypeError, "a trigger's name must be a str"),
        ({"poll_interval": "5"}, ValueError, "Invalid poll_interval: '5' is not an integer and one of ms, s, m, h"),
        ({"poll_interval": "5 s"}, ValueError, "Invalid poll_interval"),
        ({"poll_interval": "1.5s"}, ValueError, "Invalid poll_interval"),
        ({"poll_interval": "-5s"}, ValueError, "Invalid poll_interval"),
        ({"poll_interval": "5d"}, ValueError, "Invalid poll_interval"),
        ({"poll_interval": "0s"}, ValueError, "Invalid poll_interval: '0s' must be greater than 0"),
        ({"poll_interval": "99999999h"}, ValueError, "at most ten years"),
        ({"poll_interval": 5}, TypeError, "poll_interval must be a str"),
        ({"cron": "@daily", "poll_interval": "1s"}, ValueError, "pass poll_interval= or cron=, not both"),
        ({"timezone": "UTC"}, ValueError, "timezone= requires cron="),
        ({"cron": 5}, TypeError, "cron must be a str"),
        ({"cron": "@daily", "timezone": 5}, TypeError, "timezone must be a str"),
        ({"cron": "* *"}, ValueError, "trigger 'inbox': invalid cron expression"),
        ({"cron": "@daily", "timezone": "Mars"}, ValueError, "trigger 'inbox': unknown time zone 'Mars'"),
        ({"allow_concurrent": 1}, TypeError, "allow_concurrent must be True or False"),
        ({"name": ""}, ValueError, "its name must have 1 to 500 bytes"),
    ],
)
def test_bad_arguments_are_refused_at_the_decoration(
    keywords: dict[str, Any], error: type[Exception], says: str
) -> None:
    def inbox() -> bool:
        return False

    with pytest.raises(error, match=says):
        cloaca.trigger(**{"workflow": None, **keywords})(inbox)
    assert triggers.names() == []


def test_a_trigger_is_called_without_arguments() -> None:
    def wants(context: cloaca.Context) -> bool:
        return False

    def yields() -> Iterator[bool]:
        yield False

    def may_have(seen: int = 0, *rest: int, **more: int) -> bool:
        return False

    with pytest.raises(TypeError, match=r"trigger .wants. takes context"):
        cloaca.trigger("etl")(wants)
    with pytest.raises(TypeError, match=r"generator function"):
        cloaca.trigger("etl")(yields)
    with pytest.raises(TypeError, match=r"decorates functions"):
        cloaca.trigger("etl", name="five")(5)  # type: ignore[type-var]
    assert cloaca.trigger("etl")(may_have) is may_have


@pytest.mark.parametrize(
    ("text", "millis"), [("100ms", 100), ("1s", 1_000), ("2m", 120_000), ("3h", 10_800_000), (" 5s ", 5_000)]
)
def test_durations(polling: cloaca.DefaultRunner, text: str, millis: int) -> None:
    script(poll_interval=text)
    schedule = polling.get_trigger_schedule("inbox")
    assert schedule is not None
    assert schedule["poll_interval_ms"] == millis


def test_a_trigger_is_polled_and_its_fires_start_executions(polling: cloaca.DefaultRunner, clock: VirtualClock) -> None:
    polls = script(TriggerResult.skip(), TriggerResult.fire({"file": "a.csv"}), False, True)
    clock.advance(17)
    assert polls[0] == 4, "at once, and every five seconds"
    history = polling.get_trigger_execution_history("inbox")
    keys = ["started_at", "completed_at", "context_hash", "workflow_execution_id", "pipeline_execution_id"]
    assert [list(fire) for fire in history] == [keys, keys]
    assert [(fire["started_at"], fire["completed_at"]) for fire in history] == [(at(15), at(15)), (at(5), at(5))]
    assert len(bytes.fromhex(history[0]["context_hash"])) == 32
    assert history[0]["context_hash"] != history[1]["context_hash"]
    contexts = [polling.get_execution(fire["workflow_execution_id"]).result().final_context for fire in history]
    assert contexts == [{"loaded": True}, {"file": "a.csv", "loaded": True}]
    assert all(fire["workflow_execution_id"] == fire["pipeline_execution_id"] for fire in history)
    assert polling.get_trigger_execution_history("inbox", 1, 1) == history[1:]
    assert polling.get_trigger_execution_history("nonexistent") == []
    assert polling.get_trigger_schedule("inbox") == {
        "trigger_name": "inbox",
        "workflow_name": "etl",
        "poll_interval_ms": 5_000,
        "allow_concurrent": False,
        "enabled": True,
        "last_poll_at": at(15),
        "is_registered": True,
    }
    assert polling.get_trigger_schedule("nonexistent") is None


def test_triggers_are_listed_by_name(polling: cloaca.DefaultRunner) -> None:
    names = ["b", "a", "c"]
    for name in names:
        script(name=name, workflow=None)
    assert [it["trigger_name"] for it in polling.list_trigger_schedules()] == ["a", "b", "c"]
    polling.set_trigger_enabled("b", False)
    assert [it["trigger_name"] for it in polling.list_trigger_schedules(enabled_only=True)] == ["a", "c"]
    assert [it["trigger_name"] for it in polling.list_trigger_schedules(limit=2, offset=1)] == ["b", "c"]
    assert [it["trigger_name"] for it in polling.list_trigger_schedules(False, 50, 0)] == ["a", "b", "c"]


def test_a_fire_is_dropped_while_an_equal_one_runs(polling: cloaca.DefaultRunner, clock: VirtualClock) -> None:
    door = threading.Event()
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task(timeout_seconds=100_000)
        def wait(context: cloaca.Context) -> None:
            assert door.wait(30)

    fire = TriggerResult.fire
    answers = [fire({"a": 1, "b": 2}), fire({"b": 2, "a": 1}), fire({"a": 2})]
    script(*answers, on="slow")
    script(*answers, on="slow", name="both", allow_concurrent=True)
    clock.advance(10)
    assert len(polling.get_trigger_execution_history("inbox")) == 2
    assert len(polling.get_trigger_execution_history("both")) == 3
    assert {fire["completed_at"] for fire in polling.get_trigger_execution_history("inbox")} == {None}
    door.set()


def test_errors_of_a_trigger_are_logged_and_polling_continues(
    polling: cloaca.DefaultRunner, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="cloaca"):
        polls = script(ValueError("no inbox"), SystemExit(3), None, "yes", {"a": 1}, 1, TriggerResult.fire())
        clock.advance(60)
        polling.execute("etl")
    assert polls[0] == 13
    assert len(polling.get_trigger_execution_history("inbox")) == 1
    lines = [record.message for record in caplog.records]
    for says in (
        "trigger 'inbox' failed: ValueError: no inbox; it will be polled again",
        "trigger 'inbox' failed: SystemExit: 3",
        "trigger 'inbox' returned a value of type NoneType; a trigger returns TriggerResult.fire(...)",
        "returned a value of type str",
        "returned a value of type dict",
        "returned a value of type int",
    ):
        assert any(says in line for line in lines), (says, lines)


def test_an_async_trigger_runs_on_the_event_loop(polling: cloaca.DefaultRunner, clock: VirtualClock) -> None:
    import asyncio

    @cloaca.trigger("etl", poll_interval="1m")
    async def inbox() -> TriggerResult:
        await asyncio.sleep(0)
        return TriggerResult.fire({"thread": threading.current_thread().name})

    clock.advance(60)
    history = polling.get_trigger_execution_history("inbox")
    assert len(history) == 2
    result = polling.get_execution(history[0]["workflow_execution_id"]).result()
    assert result.final_context["thread"].startswith("cloaca-loop")


def test_a_cron_trigger_is_polled_when_its_expression_matches(
    polling: cloaca.DefaultRunner, clock: VirtualClock
) -> None:
    polls = script(None, False, True, cron="0 9 * * *", timezone="Europe/Berlin")
    schedule = polling.get_trigger_schedule("inbox")
    assert schedule is not None
    assert schedule["poll_interval_ms"] is None
    clock.advance(7 * 3600)
    assert polls[0] == 0
    clock.advance(2.5 * 24 * 3600)
    assert polls[0] == 3
    assert [fire["started_at"] for fire in polling.get_trigger_execution_history("inbox")] == [
        at((2 * 24 + 8) * 3600),
        at(8 * 3600),
    ], "None fires, False does not"


def test_a_disabled_trigger_stays_disabled_in_the_next_process(tmp_path: Path) -> None:
    polls = script(poll_interval="1h")
    for expected in (True, False):
        clock = VirtualClock(NEW_YEAR.timestamp() + (0 if expected else 36_000))
        with cloaca.DefaultRunner(str(tmp_path / "log"), _clock=clock) as runner:
            clock.advance(3_600)
            schedule = runner.get_trigger_schedule("inbox")
            assert schedule is not None
            assert schedule["enabled"] is expected
            runner.set_trigger_enabled("inbox", False)
            assert polls[0] == 2
            with pytest.raises(
                ValueError, match=r"^Failed to update trigger: there is no trigger 'outbox' in this log$"
            ):
                runner.set_trigger_enabled("outbox", True)


def test_every_runner_polls(clock: VirtualClock) -> None:
    polls = script()
    with cloaca.DefaultRunner(":memory:", _clock=clock), cloaca.DefaultRunner(":memory:", _clock=clock):
        clock.advance(5)
        assert polls[0] == 4
    clock.advance(60)
    assert polls[0] == 4, "a runner that is shut down does not"


def test_a_real_clock(runner: cloaca.DefaultRunner) -> None:
    ran = threading.Event()
    with cloaca.WorkflowBuilder("soon"):

        @cloaca.task
        def tell(context: cloaca.Context) -> None:
            if context["count"] >= 2:
                ran.set()

    count = [0]

    @cloaca.trigger("soon", poll_interval="10ms")
    def often() -> TriggerResult:
        count[0] += 1
        return TriggerResult.fire({"count": count[0]})

    assert ran.wait(30)
