"""The arguments of a runner: its log and its config."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import cloaca
import pytest

from conftest import LIMIT

DEFAULTS = {
    "max_concurrent_tasks": 4,
    "task_timeout_seconds": 300,
    "workflow_timeout_seconds": 3600,
    "pipeline_timeout_seconds": 3600,
    "enable_recovery": True,
    "enable_cron_scheduling": True,
    "cron_poll_interval_seconds": 30,
    "cron_max_catchup_executions": 100,
    "cron_enable_recovery": True,
    "cron_recovery_interval_seconds": 300,
    "cron_lost_threshold_minutes": 10,
    "cron_max_recovery_age_seconds": 86400,
    "cron_max_recovery_attempts": 3,
    "scheduler_poll_interval_ms": 100,
    "executor_poll_interval_ms": 100,
    "db_pool_size": 10,
    "durability": "sync",
    "strict_context": False,
    "max_value_bytes": 16 * 1024 * 1024,
    "max_recoveries": 3,
}


def test_the_defaults() -> None:
    config = cloaca.DefaultRunnerConfig()
    assert config.to_dict() == DEFAULTS
    assert cloaca.DefaultRunnerConfig.default() == config
    for name, value in DEFAULTS.items():
        assert getattr(config, name) == value


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_field_is_a_keyword_and_a_property(name: str) -> None:
    value: Any = {int: 7, bool: False, str: "os"}[type(DEFAULTS[name])]
    config = cloaca.DefaultRunnerConfig(**{name: value})
    assert getattr(config, name) == value
    assert config.to_dict()[name] == value
    other = cloaca.DefaultRunnerConfig()
    setattr(other, name, value)
    assert other == config
    assert copy.copy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert f"{name.replace('pipeline', 'workflow')}={value!r}" in repr(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrent_tasks", 0),
        ("max_concurrent_tasks", "4"),
        ("max_concurrent_tasks", True),
        ("task_timeout_seconds", -1),
        ("task_timeout_seconds", "60"),
        ("workflow_timeout_seconds", 0),
        ("pipeline_timeout_seconds", 0),
        ("enable_recovery", 1),
        ("durability", "weak"),
        ("durability", "interval:"),
        ("durability", "interval:0"),
        ("durability", "interval:x"),
        ("durability", 5),
        ("max_value_bytes", 0),
        ("max_recoveries", -1),
        ("db_pool_size", 0),
    ],
)
def test_a_wrong_value_is_refused_whenever_it_is_set(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        cloaca.DefaultRunnerConfig(**{name: value})
    config = cloaca.DefaultRunnerConfig()
    with pytest.raises(ValueError, match=f"^{name} must be"):
        setattr(config, name, value)
    assert config.to_dict() == DEFAULTS


def test_workflow_timeout_can_be_none() -> None:
    assert cloaca.DefaultRunnerConfig(workflow_timeout_seconds=None).pipeline_timeout_seconds is None


def test_none_switches_every_timeout_off() -> None:
    """Regression: the documentation said so of `task_timeout_seconds`, too, which refused it."""
    working, done, clock = threading.Event(), threading.Event(), cloaca.testing.VirtualClock()
    with cloaca.WorkflowBuilder("long"):

        @cloaca.task(retry_attempts=1)
        def work() -> None:
            working.set()
            assert done.wait(LIMIT)

    config = cloaca.DefaultRunnerConfig(task_timeout_seconds=None, workflow_timeout_seconds=None)
    with cloaca.testing.Runner(":memory:", config, clock=clock) as runner:
        execution = runner.submit("long")
        assert working.wait(LIMIT)
        clock.advance(30 * 86_400)
        assert execution.status == "Running"
        done.set()
        assert execution.result(LIMIT).status == "Completed"


def test_both_names_of_one_field_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        cloaca.DefaultRunnerConfig(workflow_timeout_seconds=1, pipeline_timeout_seconds=1)


def test_an_unknown_field_is_refused_with_the_nearest() -> None:
    with pytest.raises(TypeError, match="no field max_concurent_tasks; did you mean max_concurrent_tasks"):
        cloaca.DefaultRunnerConfig(max_concurent_tasks=3)
    with pytest.raises(AttributeError):
        cloaca.DefaultRunnerConfig().max_concurent_tasks = 3  # type: ignore[attr-defined]


def test_a_runner_keeps_its_config() -> None:
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=7)
    with cloaca.DefaultRunner(":memory:", config) as runner:
        config.max_concurrent_tasks = 1
        assert runner.config.max_concurrent_tasks == 7
    with pytest.raises(TypeError, match="config must be a DefaultRunnerConfig, not dict"):
        cloaca.DefaultRunner(":memory:", {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("cloaca:///log", "log"),
        ("cloaca:////{tmp}/there", "there"),
        ("sqlite:///old.db", "old.db"),
        ("sqlite:////{tmp}/old.db", "old.db"),
        ("sqlite://old.db", "old.db"),
        ("plain", "plain"),
        ("./a/b", "a/b"),
        ("{tmp}/absolute", "absolute"),
        ("cloaca:///log?mode=rwc&_journal=WAL", "log"),
    ],
)
def test_where_a_url_opens_the_log(url: str, directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with cloaca.DefaultRunner(url.format(tmp=tmp_path)) as runner:
        assert (tmp_path / directory).is_dir()
        assert repr(runner) == f"DefaultRunner({str(tmp_path / directory)!r}, durability='sync')"


def test_a_path_object_opens_the_log(tmp_path: Path) -> None:
    with cloaca.DefaultRunner(tmp_path / "log"):  # type: ignore[arg-type]
        assert (tmp_path / "log").is_dir()


@pytest.mark.parametrize("url", [":memory:", "sqlite://:memory:", "sqlite:///:memory:", "cloaca:///:memory:"])
def test_a_log_in_memory_leaves_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with cloaca.DefaultRunner(url):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["mysql://host/db", "http://example.org", "", "cloaca://", "cloaca:///", "sqlite:///", "a\0b", 5, None]
)
def test_any_other_url_is_refused_with_the_forms_that_work(
    url: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cloaca.ConfigurationError) as caught:
        cloaca.DefaultRunner(url)
    for form in ("cloaca:///", "sqlite:///", "plain path", ":memory:"):
        assert form in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_postgresql_is_not_supported_and_the_password_is_not_shown() -> None:
    with pytest.raises(cloaca.ConfigurationError, match="not supported by this version") as caught:
        cloaca.DefaultRunner("postgresql://user:secret@host/db")
    assert "secret" not in str(caught.value)


def test_options_are_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cloaca"), cloaca.DefaultRunner(f"sqlite:///{tmp_path}/x?mode=rwc"):
        pass
    messages = [record.getMessage() for record in caplog.records if record.name == "cloaca.runner"]
    assert messages[0] == "the options '?mode=rwc' of the database URL are ignored"
    assert "the embedded event log is opened in the directory" in messages[1]


def test_a_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    content = b"SQLite format 3\0" + bytes(100)
    path.write_bytes(content)
    with pytest.raises(cloaca.ConfigurationError) as caught:
        cloaca.DefaultRunner(f"sqlite:///{path}")
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    assert path.read_bytes() == content


def test_a_log_belongs_to_one_runner_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with cloaca.DefaultRunner(path):
        with pytest.raises(cloaca.LogLockedError, match=f"in use by process {os.getpid()}") as caught:
            cloaca.DefaultRunner(path)
        assert caught.value.path == path
    with cloaca.DefaultRunner(path):
        pass


def test_a_garbage_collected_runner_releases_its_log(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    runner = cloaca.DefaultRunner(path)
    del runner
    with cloaca.DefaultRunner(path):
        pass


def test_each_schema_has_its_own_log(tmp_path: Path) -> None:
    url = f"cloaca:////{tmp_path}/log"
    with cloaca.DefaultRunner(url), cloaca.DefaultRunner.with_schema(url, "tenant_a"):
        assert sorted(os.listdir(tmp_path)) == ["log", "log.tenant_a"]


@pytest.mark.parametrize("durability", ["sync", "os", "interval:20"])
def test_every_durability_works(durability: str, tmp_path: Path) -> None:
    with cloaca.WorkflowBuilder("durable"):

        @cloaca.task
        def task() -> None: ...

    config = cloaca.DefaultRunnerConfig(durability=durability)
    with cloaca.DefaultRunner(str(tmp_path / "log"), config) as runner:
        assert runner.execute("durable").status == "Completed"
        assert f"durability={durability!r}" in repr(runner)
