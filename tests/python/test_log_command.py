"""The console command ``cloaca`` of the wheel: changing what is in a log, while a runner has it and after."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
