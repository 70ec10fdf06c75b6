"""Cron schedules: creating, listing, changing them; they fire once when the clock reaches them."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cloaca
import pytest
from cloaca._cloaca import VirtualClock
from cloaca._trigger import triggers

#: The first second of 2030. It has to be later than the wall clock, which the log itself uses.
NEW_YEAR = datetime(2030, 1, 1, tzinfo=timezone.utc)
HOUR = 3600.0

SCHEDULE_KEYS = [
    "id",
    "workflow_name",
    "cron_expression",
    "timezone",
    "enabled",
    "catchup_policy",
    "next_run_at",
    "last_run_at",
    "created_at",
    "updated_at",
    "name",
    "context",
    "is_registered",
]
HISTORY_KEYS = [
    "id",
    "schedule_id",
    "scheduled_time",
    "claimed_at",
    "workflow_execution_id",
    "pipeline_execution_id",
    "created_at",
    "updated_at",
]


@pytest.fixture(autouse=True)
def report() -> None:
    with cloaca.WorkflowBuilder("report"):

        @cloaca.task
        def write(context: cloaca.Context) -> None:
            context["written_for"] = context["scheduled_time"]

    with cloaca.WorkflowBuilder("broken"):

        @cloaca.task(retry_attempts=1)
        def fail(context: cloaca.Context) -> None:
            raise ValueError("no")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NEW_YEAR.timestamp())


@pytest.fixture
def scheduled(clock: VirtualClock) -> Iterator[cloaca.DefaultRunner]:
    with cloaca.DefaultRunner(":memory:", _clock=clock) as runner:
        yield runner


def at(hours: float) -> str:
    return (NEW_YEAR + timedelta(hours=hours)).isoformat(timespec="microseconds")


def test_a_schedule_has_the_keys_of_the_contract_in_order(scheduled: cloaca.DefaultRunner) -> None:
    schedule_id = scheduled.register_cron_workflow("report", "0 9 * * *", "Europe/Berlin")
    assert str(uuid.UUID(schedule_id)) == schedule_id
    schedule = scheduled.get_cron_schedule(schedule_id)
    assert list(schedule) == SCHEDULE_KEYS
    assert schedule == {
        "id": schedule_id,
        "workflow_name": "report",
        "cron_expression": "0 9 * * *",
        "timezone": "Europe/Berlin",
        "enabled": True,
        "catchup_policy": "skip",
        "next_run_at": at(8),
        "last_run_at": None,
        "created_at": at(0),
        "updated_at": at(0),
        "name": None,
        "context": {},
        "is_registered": True,
    }
    assert scheduled.list_cron_schedules() == [schedule]


def test_two_schedules_of_one_workflow_differ_by_name_and_input(tmp_path: Path) -> None:
    """Regression: two schedules of one workflow with different inputs looked the same in every list."""
    log = str(tmp_path / "log")
    with cloaca.DefaultRunner(log) as runner:
        first = runner.register_cron_workflow("report", "@daily", "UTC", context={"source": "s3://a"}, name="from a")
        runner.register_cron_workflow("report", "@daily", "UTC", context={"source": "s3://b"})
        unknown = runner.register_cron_workflow("nightly", "@daily", "UTC")
        shown = {it["name"]: (it["context"], it["is_registered"]) for it in runner.list_cron_schedules()[1:]}
        assert shown == {"from a": ({"source": "s3://a"}, True), None: ({"source": "s3://b"}, True)}
        assert runner.get_cron_schedule(unknown)["is_registered"] is False
        with pytest.raises(ValueError, match="a schedule's name must have 1 to"):
            runner.register_cron_workflow("report", "@daily", "UTC", name="")
    listing = subprocess.run(
        [Path(sys.executable).with_name("replay"), "--log", log, first], capture_output=True, text=True, check=True
    )
    assert "'from a': report at @daily (UTC)" in " ".join(listing.stdout.split())
    assert 'input source="s3://a"' in " ".join(listing.stdout.split())


def test_a_virtual_clock_in_the_past_works_with_a_log_on_disk(tmp_path: Path) -> None:
    """Regression: with a log on disk, a test's clock that started in January was moved to today, and the schedule of
    half past nine fired for another day."""
    for log in (":memory:", str(tmp_path / "log")):
        clock = VirtualClock(datetime(2020, 1, 31, 9, tzinfo=timezone.utc).timestamp())
        with cloaca.DefaultRunner(log, _clock=clock) as runner:
            schedule_id = runner.register_cron_workflow("report", "30 9 * * *", "UTC")
            clock.advance(HOUR)
            [fire] = runner.get_cron_execution_history(schedule_id)
        assert fire["scheduled_time"].startswith("2020-01-31T09:30:00"), log
        assert clock.now() == datetime(2020, 1, 31, 10, tzinfo=timezone.utc).timestamp()


def test_a_log_that_is_ahead_of_the_clock_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Regression: after a machine's clock had been hours ahead once, every later event was hours ahead, without a
    warning, and schedules fired hours early."""
    log, ahead = str(tmp_path / "log"), datetime.now(timezone.utc) + timedelta(hours=5)
    with cloaca.DefaultRunner(log, _clock=VirtualClock(ahead.timestamp())) as runner:
        runner.execute("report", {"scheduled_time": ""})
    with caplog.at_level(logging.WARNING, logger="cloaca"), cloaca.DefaultRunner(log) as runner:
        assert any("s ahead of this machine's clock" in line.message for line in caplog.records)
        first = runner.register_cron_workflow("report", "* * * * * *", "UTC")
        until = time.monotonic() + 30
        while len(runner.get_cron_execution_history(first)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        scheduled = [fire["scheduled_time"] for fire in runner.get_cron_execution_history(first)]
        assert len(scheduled) >= 2, "it fires by the wall clock"
        assert all(datetime.fromisoformat(it) < ahead - timedelta(hours=4) for it in scheduled)
    for command in (["doctor"], ["list"]):
        listing = subprocess.run(
            [Path(sys.executable).with_name("replay"), "--log", log, *command],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "ahead of this machine's clock" in " ".join(listing.stdout.split()), command


def test_a_fire_starts_an_execution_that_knows_its_schedule(
    scheduled: cloaca.DefaultRunner, clock: VirtualClock
) -> None:
    schedule_id = scheduled.register_cron_workflow("report", "@hourly", "UTC", context={"to": "ada"}, catchup="run_all")
    clock.advance(2 * HOUR)
    history = scheduled.get_cron_execution_history(schedule_id)
    assert [fire["scheduled_time"] for fire in history] == [at(2), at(1)], "the newest first"
    fire = history[0]
    assert list(fire) == HISTORY_KEYS
    assert fire["schedule_id"] == schedule_id
    assert fire["claimed_at"] == fire["created_at"] == fire["updated_at"] == at(2)
    assert fire["workflow_execution_id"] == fire["pipeline_execution_id"] == fire["id"]
    result = scheduled.get_execution(fire["workflow_execution_id"]).result()
    assert result.status == "Completed"
    assert result.final_context.to_dict() == {
        "to": "ada",
        "schedule_id": schedule_id,
        "schedule_expression": "@hourly",
        "schedule_timezone": "UTC",
        "scheduled_time": "2030-01-01T02:00:00+00:00",
        "written_for": "2030-01-01T02:00:00+00:00",
    }
    schedule = scheduled.get_cron_schedule(schedule_id)
    assert schedule["catchup_policy"] == "run_all"
    assert (schedule["last_run_at"], schedule["next_run_at"], schedule["updated_at"]) == (at(2), at(3), at(0))
    assert scheduled.get_cron_execution_history(schedule_id, 1, 1) == [history[1]]
    assert scheduled.get_cron_execution_history(schedule_id, limit=0) == []
    assert scheduled.get_cron_execution_history(schedule_id, offset=5) == []


def test_schedules_are_listed_newest_first_and_page_by_page(scheduled: cloaca.DefaultRunner) -> None:
    ids = [scheduled.register_cron_workflow("report", "@daily", "UTC") for _ in range(4)]
    scheduled.set_cron_schedule_enabled(ids[2], False)
    listed = [schedule["id"] for schedule in scheduled.list_cron_schedules()]
    assert listed == ids[::-1]
    assert [schedule["id"] for schedule in scheduled.list_cron_schedules(True)] == [ids[3], ids[1], ids[0]]
    assert [schedule["id"] for schedule in scheduled.list_cron_schedules(False, 10, 0)] == listed
    assert [schedule["id"] for schedule in scheduled.list_cron_schedules(None, 2, 1)] == listed[1:3]
    assert [schedule["id"] for schedule in scheduled.list_cron_schedules(True, 1, 1)] == [ids[1]]
    for wrong in ({"limit": -1}, {"offset": -1}, {"limit": "3"}, {"offset": True}):
        with pytest.raises(ValueError, match=r"must be an int of at least 0, or None"):
            scheduled.list_cron_schedules(**wrong)  # type: ignore[arg-type]


def test_a_schedule_is_updated_disabled_enabled_and_deleted(
    scheduled: cloaca.DefaultRunner, clock: VirtualClock
) -> None:
    schedule_id = scheduled.register_cron_workflow("report", "@hourly", "UTC")
    clock.advance(HOUR)
    scheduled.update_cron_schedule(schedule_id, "30 * * * *", "Asia/Kolkata")
    schedule = scheduled.get_cron_schedule(schedule_id)
    assert (schedule["cron_expression"], schedule["timezone"]) == ("30 * * * *", "Asia/Kolkata")
    assert schedule["next_run_at"] == at(2), "half past in India is the full hour in UTC"
    assert schedule["updated_at"] == at(1)

    scheduled.set_cron_schedule_enabled(schedule_id, False)
    schedule = scheduled.get_cron_schedule(schedule_id)
    assert (schedule["enabled"], schedule["next_run_at"]) == (False, None)
    clock.advance(3 * HOUR)
    assert len(scheduled.get_cron_execution_history(schedule_id)) == 1
    scheduled.set_cron_schedule_enabled(schedule_id, True)
    clock.advance(HOUR)
    assert len(scheduled.get_cron_execution_history(schedule_id)) == 2

    scheduled.delete_cron_schedule(schedule_id)
    clock.advance(3 * HOUR)
    assert scheduled.list_cron_schedules() == []
    assert len(scheduled.get_cron_execution_history(schedule_id)) == 2, "the history stays"


@pytest.mark.parametrize(
    ("expression", "zone", "says"),
    [
        ("invalid", "UTC", "invalid cron expression 'invalid': "),
        ("0 0 * *", "UTC", "invalid cron expression '0 0 * *': "),
        ("61 * * * *", "UTC", "invalid cron expression '61 * * * *': "),
        ("@sometimes", "UTC", "invalid cron expression '@sometimes': "),
        ("0 0 30 2 *", "UTC", "'0 0 30 2 *' in UTC never fires"),
        ("@daily", "Europe/Berln", "unknown time zone 'Europe/Berln', did you mean 'Europe/Berlin'?"),
        ("@daily", "", "unknown time zone ''"),
    ],
)
def test_a_bad_expression_or_time_zone_is_refused(
    scheduled: cloaca.DefaultRunner, expression: str, zone: str, says: str
) -> None:
    with pytest.raises(ValueError) as failed:
        scheduled.register_cron_workflow("report", expression, zone)
    assert str(failed.value).startswith(f"Failed to register cron workflow: {says}")
    assert scheduled.list_cron_schedules() == []
    schedule_id = scheduled.register_cron_workflow("report", "@daily", "UTC")
    before = scheduled.get_cron_schedule(schedule_id)
    with pytest.raises(ValueError) as failed:
        scheduled.update_cron_schedule(schedule_id, expression, zone)
    assert str(failed.value).startswith(f"Failed to update cron schedule: {says}")
    assert scheduled.get_cron_schedule(schedule_id) == before


def test_other_bad_input(scheduled: cloaca.DefaultRunner) -> None:
    with pytest.raises(ValueError, match=r'^Failed to register cron workflow: catchup must be "skip" or "run_all"'):
        scheduled.register_cron_workflow("report", "@daily", "UTC", catchup="sometimes")
    with pytest.raises(ValueError, match=r"^Failed to register cron workflow: a workflow's name"):
        scheduled.register_cron_workflow("", "@daily", "UTC")
    with pytest.raises(TypeError, match=r"must be str"):
        scheduled.register_cron_workflow("report", 5, "UTC")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"context key 'day'.*isoformat"):
        scheduled.register_cron_workflow("report", "@daily", "UTC", context={"day": NEW_YEAR})


def test_an_unknown_schedule_is_refused_by_every_method(scheduled: cloaca.DefaultRunner) -> None:
    deleted = scheduled.register_cron_workflow("report", "@daily", "UTC")
    scheduled.delete_cron_schedule(deleted)
    calls: list[tuple[Callable[[str], Any], str]] = [
        (scheduled.get_cron_schedule, "Failed to get cron schedule: "),
        (lambda it: scheduled.update_cron_schedule(it, "@daily", "UTC"), "Failed to update cron schedule: "),
        (lambda it: scheduled.set_cron_schedule_enabled(it, False), "Failed to update cron schedule: "),
        (scheduled.delete_cron_schedule, "Failed to delete cron schedule: "),
    ]
    for call, says in calls:
        for missing in (deleted, str(uuid.uuid4())):
            with pytest.raises(
                ValueError, match=rf"^{says}there is no schedule {missing} in this log, or it was deleted$"
            ):
                call(missing)
        with pytest.raises(ValueError, match=r"^Invalid schedule ID: 'invalid-id'"):
            call("invalid-id")
    with pytest.raises(ValueError, match=r"^Failed to get cron execution history: there is no schedule"):
        scheduled.get_cron_execution_history(str(uuid.uuid4()))
    execution = scheduled.execute("report", {"scheduled_time": ""}).execution_id
    with pytest.raises(ValueError, match=r"^Failed to get cron schedule: there is no schedule"):
        scheduled.get_cron_schedule(execution)


def test_statistics(scheduled: cloaca.DefaultRunner, clock: VirtualClock) -> None:
    nothing = {"total_executions": 0, "successful_executions": 0, "lost_executions": 0, "success_rate": 0.0}
    assert scheduled.get_cron_execution_stats(at(0)) == nothing
    scheduled.register_cron_workflow("report", "@hourly", "UTC")
    scheduled.register_cron_workflow("broken", "0 */3 * * *", "UTC")
    clock.advance(6 * HOUR)
    stats = scheduled.get_cron_execution_stats(at(0))
    assert list(stats) == list(nothing)
    assert stats == {"total_executions": 8, "successful_executions": 6, "lost_executions": 0, "success_rate": 75.0}
    assert isinstance(stats["success_rate"], float)
    assert scheduled.get_cron_execution_stats("2030-01-01T06:30:00+01:00")["total_executions"] == 2
    assert scheduled.get_cron_execution_stats("2030-01-01T06:00:00Z")["total_executions"] == 2
    assert scheduled.get_cron_execution_stats(NEW_YEAR + timedelta(hours=6, seconds=1)) == nothing
    for wrong in ("invalid-datetime", "2030-01-01T00:00:00", "", datetime(2030, 1, 1)):
        with pytest.raises(ValueError, match=r"^Invalid datetime format: "):
            scheduled.get_cron_execution_stats(wrong)


def test_a_restart_catches_up_or_skips(tmp_path: Path) -> None:
    def open_at(hours: float, **config: Any) -> tuple[cloaca.DefaultRunner, VirtualClock]:
        clock = VirtualClock(NEW_YEAR.timestamp() + hours * HOUR)
        return cloaca.DefaultRunner(str(tmp_path / "log"), cloaca.DefaultRunnerConfig(**config), _clock=clock), clock

    runner, _ = open_at(0.5)
    with runner:
        ids = [runner.register_cron_workflow("report", "@hourly", "UTC", catchup=word) for word in ("skip", "run_all")]
    runner, clock = open_at(2.5, enable_cron_scheduling=False)
    with runner:
        clock.advance(2 * HOUR)
        assert [runner.get_cron_execution_history(it) for it in ids] == [[], []]
    runner, clock = open_at(5.5, cron_max_catchup_executions=3)
    with runner:
        clock.advance(HOUR)
        times = [[fire["scheduled_time"] for fire in runner.get_cron_execution_history(it)] for it in ids]
        assert times == [[at(6)], [at(6), at(3), at(2), at(1)]]
        late = runner.get_cron_execution_history(ids[1])[-1]
        assert (late["scheduled_time"], late["claimed_at"]) == (at(1), at(5.5))


def test_replay_shows_what_a_schedule_and_a_trigger_started(tmp_path: Path) -> None:
    clock = VirtualClock(NEW_YEAR.timestamp())
    try:
        with cloaca.DefaultRunner(str(tmp_path / "log"), _clock=clock) as runner:
            cloaca.trigger("broken", name="inbox")(lambda: cloaca.TriggerResult.fire({"file": "a"}))
            schedule_id = runner.register_cron_workflow("report", "@hourly", "UTC")
            clock.advance(5)
            triggers.unregister("inbox")
            clock.advance(HOUR)
            runner.delete_cron_schedule(schedule_id)
            fired = runner.get_cron_execution_history(schedule_id)[0]["workflow_execution_id"]
            dropped = runner.get_trigger_execution_history("inbox")[0]["workflow_execution_id"]
    finally:
        triggers.unregister("inbox")

    def replay(*arguments: str) -> str:
        program = Path(sys.executable).with_name("replay")
        run = subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    listed = replay("list").splitlines()
    causes = [re.search(r"(report|broken) .* K?B +(\w+)", line) for line in listed]
    found = [(cause[1], cause[2]) for cause in causes if cause is not None]
    assert [cause for workflow, cause in found if workflow == "report"] == ["schedule"]
    assert {cause for workflow, cause in found if workflow == "broken"} == {"trigger"}
    assert "chain ok" in replay(fired, "verify") + replay(fired)
    assert f"started by schedule …{schedule_id[-8:]} for 2030-01-01T01:00" in replay(fired)
    assert "started by trigger inbox" in replay(dropped)


def test_a_schedule_of_an_unknown_workflow_waits_for_it_with_a_warning(
    scheduled: cloaca.DefaultRunner, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="cloaca"):
        schedule_id = scheduled.register_cron_workflow("reporting", "@hourly", "UTC", catchup="run_all")
        scheduled.execute("report", {"scheduled_time": ""})
    assert any("'reporting' is not registered; did you mean 'report'?" in line.message for line in caplog.records)
    clock.advance(2 * HOUR)
    assert scheduled.get_cron_execution_history(schedule_id) == []
    with cloaca.WorkflowBuilder("reporting"):

        @cloaca.task
        def write(context: cloaca.Context) -> None:
            pass

    clock.advance(0)
    assert len(scheduled.get_cron_execution_history(schedule_id)) == 2


def test_a_real_clock_fires_every_second(runner: cloaca.DefaultRunner) -> None:
    import threading

    fired = threading.Event()
    with cloaca.WorkflowBuilder("soon"):

        @cloaca.task
        def tell(context: cloaca.Context) -> None:
            fired.set()

    runner.register_cron_workflow("soon", "* * * * * *", "UTC")
    assert fired.wait(30)


def test_after_a_shutdown_schedules_are_refused() -> None:
    runner = cloaca.DefaultRunner(":memory:")
    runner.shutdown()
    with pytest.raises(cloaca.Error, match=r"^Failed to register cron workflow: the engine is shut down$"):
        runner.register_cron_workflow("report", "@daily", "UTC")


def test_a_fork_cannot_use_the_schedules_of_its_parent(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Regression: a fork has the runner's memory, but not its threads: a question about schedules waited forever."""
    done = run_python("""
        import os
        import cloaca

        runner = cloaca.DefaultRunner("log")
        child = os.fork()
        if child == 0:
            for ask in (runner.list_cron_schedules, runner.list_trigger_schedules):
                try:
                    ask()
                except cloaca.Error as error:
                    print("belongs to process" in str(error), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(runner.list_cron_schedules())
        runner.shutdown()
    """)
    assert done.stdout == "True\nTrue\n[]\n"
