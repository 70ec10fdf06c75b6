"""The console command ``cloaca`` of the wheel: changing what is in a log, while a runner has it and after."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloaca
import pytest

LIMIT = 30.0


def command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("cloaca")
    return subprocess.run(
        [program, *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.fixture
def greeting() -> str:
    with cloaca.WorkflowBuilder("greeting"):

        @cloaca.task
        def greet(context: cloaca.Context) -> None:
            context.set("letters", len(context.get("name")))

    return "greeting"


def test_the_wheel_brings_cloaca(tmp_path: Path) -> None:
    shown = command(tmp_path, "--version")
    assert (shown.returncode, shown.stdout) == (0, f"cloaca {cloaca.__version__}\n")
    assert command(tmp_path, "log", "--help").returncode == 0
    assert "replay ID" in command(tmp_path, "replay", "--help").stdout
    assert command(tmp_path, "nonsense").returncode == 2


def test_a_value_is_erased_while_a_runner_has_the_log(tmp_path: Path, greeting: str) -> None:
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        result = runner.execute(greeting, {"name": "Ada Lovelace"})
        asked = command(tmp_path, "log", "erase", "latest", "--key", "name", "--reason", "case 311")
        assert asked.returncode == 1
        assert "nothing was removed" in asked.stderr
        done = command(tmp_path, "log", "erase", "latest", "--key", "name", "--reason", "case 311", "--yes")
        assert done.returncode == 0, done.stderr
        shown = command(tmp_path, "replay", "latest", "context")
        assert "erased" in shown.stdout
        assert "Ada" not in shown.stdout
        assert "Ada" not in result.history().to_json()
        assert runner.execute(greeting, {"name": "Bob"}).final_context["letters"] == 3
    assert command(tmp_path, "replay", "verify", "--all").returncode == 0


def test_an_execution_is_archived_dropped_and_imported(tmp_path: Path, greeting: str) -> None:
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        runner.execute(greeting, {"name": "Ada"})
    before = command(tmp_path, "replay", "latest", "context", "letters").stdout
    done = command(tmp_path, "log", "archive", "latest", "-o", "one.cloaca", "--drop", "--yes")
    assert done.returncode == 0, done.stderr
    assert command(tmp_path, "replay", "latest", "--log", "log").returncode == 3
    assert command(tmp_path, "replay", "latest", "context", "letters", "--log", "one.cloaca").stdout == before
    assert command(tmp_path, "log", "--log", "log", "import", "one.cloaca").returncode == 0
    assert command(tmp_path, "replay", "latest", "context", "letters", "--log", "log").stdout == before


def test_a_checkpoint_signs_the_log(tmp_path: Path, greeting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        runner.execute(greeting, {"name": "Ada"})
        signed = command(tmp_path, "log", "checkpoint", "-o", "first")
        assert signed.returncode == 0, signed.stderr
    assert command(tmp_path, "replay", "verify", "--checkpoint", "first").returncode == 0
    proof = command(tmp_path, "replay", "latest", "prove", "0")
    (tmp_path / "proof").write_text(proof.stdout)
    verifier = Path(__file__).resolve().parents[1] / "verifier" / "verify.py"
    checked = subprocess.run(
        [sys.executable, verifier, "proof", "proof", "--checkpoint", "first"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_an_erased_value_has_a_kind_of_its_own_in_python(tmp_path: Path) -> None:
    """After `cloaca log erase`, `to_dict()`, `items()` and the key itself raised "ValueError: not JSON" for the whole
    context, whatever else was in it, and `to_json()` gave a text that was none."""

    @cloaca.task
    def note(context: cloaca.Context) -> None:
        context["name"], context["sum"] = "Mr X", 3

    with cloaca.WorkflowBuilder("notes") as builder:
        builder.add_task(note)
    log = str(tmp_path / "log")
    with cloaca.DefaultRunner(log) as runner:
        execution_id = runner.execute("notes", {"day": "1"}).execution_id
    asked = ("log", "erase", execution_id, "--key", "name", "--reason", "asked to", "--by", "ann", "--yes")
    assert command(tmp_path, *asked, "--log", log).returncode == 0

    def is_erased(value: Any) -> bool:
        who = (value.by, value.reason) if isinstance(value, cloaca.Erased) else None
        return who == ("ann", "asked to") and not value and bool(value.time)

    history = cloaca.History.open(log, execution_id)
    context = history.context()
    assert is_erased(context["name"])
    assert is_erased(context.get("name"))
    assert is_erased(context.to_dict()["name"])
    assert context["sum"] == 3
    assert dict(context.items()).keys() == {"day", "name", "sum"}
    for read_back in (pickle.loads(pickle.dumps(context)), copy.deepcopy(context), cloaca.Context(context.to_dict())):
        assert read_back == context
        assert is_erased(read_back["name"])
    assert pickle.loads(pickle.dumps(context["name"])) == context["name"] != "erased"
    assert json.loads(context.to_json()) == {"day": "1", "name": "erased", "sum": 3}

    again = cloaca.History.from_json(history.to_json())
    json.loads(history.to_json())
    for past in (history, again):
        written = {event.key: event.value for event in past.events if isinstance(event, cloaca.events.ContextWritten)}
        assert is_erased(written["name"])
        assert written["sum"] == 3
        assert is_erased(past.why("name")[0].value)
        assert is_erased(past.state().context["name"])

    with cloaca.DefaultRunner(log) as runner:
        result = runner.get_execution(execution_id).result()
        assert result.final_context["sum"] == 3
        assert is_erased(result.final_context["name"])
        assert is_erased(pickle.loads(pickle.dumps(result)).final_context["name"])
        with pytest.raises(ValueError, match="'name': the value was erased from its log"):
            runner.execute("notes", result.final_context)
    with pytest.raises(TypeError, match="Erased is not a JSON value; the value was erased from its log"):
        cloaca.Context()["name"] = context["name"]
