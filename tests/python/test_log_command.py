"""The console command ``cloaca`` of the wheel: changing a log while a runner has it open, and afterwards."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import signal
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


def test_the_wheel_has_the_command_cloaca(tmp_path: Path) -> None:
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


def test_an_execution_is_archived_pruned_and_imported(tmp_path: Path, greeting: str) -> None:
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


RUN = """
import cloaca, os, sys
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context): context["x"] = "SECRET-VALUE" * 20
runner = cloaca.DefaultRunner(sys.argv[1])
for _ in range(20): runner.execute("w")
if sys.argv[2] == "kill": os.kill(os.getpid(), 9)
runner.shutdown()
"""


def written(directory: Path, end: str) -> Path:
    """Writes a log of twenty executions, whose process ends with a close or a kill."""
    log = directory / "log"
    subprocess.run([sys.executable, "-c", RUN, str(log), end], timeout=LIMIT, check=end == "close")
    return log


def strace(directory: Path, inject: str, *arguments: str, **variables: str) -> int:
    """Runs a command with a fault or a signal injected into a system call; returns its exit code."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    program = [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]]
    trace = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={inject.split(':')[0]}", "-e", f"inject={inject}"]
    done = subprocess.run(
        trace + program, cwd=directory, env=os.environ | variables, capture_output=True, timeout=LIMIT, check=False
    )
    return done.returncode


def is_whole(directory: Path) -> bool:
    return command(directory, "replay", "verify", "--all").returncode == 0


@pytest.mark.parametrize("closed", [">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_whose_standard_streams_are_closed_does_not_damage_the_log(tmp_path: Path, closed: str) -> None:
    """Regression: `cloaca log prune … >&- 2>&-` damaged the log: its files got the standard streams' descriptors."""
    written(tmp_path, "close")
    program = Path(sys.executable).with_name("cloaca")
    for what in (f"{program} log prune --keep 5 --reason old --yes", f"{program} log compact --yes"):
        done = subprocess.run(["sh", "-c", f"{what} {closed}"], cwd=tmp_path, timeout=LIMIT, check=False)
        assert done.returncode == 0
        assert is_whole(tmp_path)


def test_a_daemon_without_standard_streams_does_not_print_into_its_log(tmp_path: Path) -> None:
    """Regression: after a daemon closed its standard streams and opened a log, a library's output went into the log."""
    daemon = """
import os
for number in (0, 1, 2): os.close(number)
import cloaca
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context):
        for number in (0, 1, 2): os.write(number, b"some library says something" * 50)
        context["files"] = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]
with cloaca.DefaultRunner("log") as runner:
    for _ in range(3): runner.execute("w")
"""
    assert subprocess.run([sys.executable, "-c", daemon], cwd=tmp_path, timeout=LIMIT, check=False).returncode == 0
    assert is_whole(tmp_path)
    shown = command(tmp_path, "replay", "latest", "context", "files").stdout
    assert shown.count("/dev/null") == 3, shown


@pytest.mark.parametrize(
    "at", ["renameat2:signal=SIGKILL", "unlinkat:signal=SIGKILL:when=1", "unlinkat:signal=SIGKILL:when=5"]
)
def test_a_killed_compact_is_finished_by_the_next_command(tmp_path: Path, at: str) -> None:
    """Regression: after a `compact` was killed while removing the old files, later ones changed the log and failed."""
    written(tmp_path, "close")
    assert strace(tmp_path, at, "cloaca", "log", "compact", "--yes") == -signal.SIGKILL
    again = command(tmp_path, "log", "prune", "--keep", "5", "--reason", "old", "--yes")
    assert again.returncode == 0, again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert is_whole(tmp_path)
    assert command(tmp_path, "log", "compact", "--yes").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_an_interrupted_reader_leaves_nothing(tmp_path: Path) -> None:
    """Regression: an interrupted reader left a world-readable copy of the index in /tmp forever."""
    log = written(tmp_path, "kill")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = sorted(log.rglob("*"))
    for call in range(1, 4):
        inject = f"pread64:signal=SIGINT:when={call}"
        strace(tmp_path, inject, "replay", "list", TMPDIR=str(temporary))
        assert list(temporary.iterdir()) == []
        assert sorted(log.rglob("*")) == before


def test_a_reader_needs_no_directory_for_temporary_files(tmp_path: Path) -> None:
    """Regression: the log of a dead process could not be read if $TMPDIR was full or missing."""
    written(tmp_path, "kill")
    program = Path(sys.executable).with_name("replay")
    environment = os.environ | {"TMPDIR": str(tmp_path / "missing")}
    done = subprocess.run(
        [program, "list"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "20 executions" in done.stdout or done.stdout.count("Completed") == 20, done.stdout


def test_a_log_that_lost_acknowledged_events_is_refused(tmp_path: Path) -> None:
    """Regression: a log of a dead process whose events had become zeros was silently opened as an empty one."""
    log = written(tmp_path, "kill")
    for segment in (log / "segments").iterdir():
        segment.write_bytes(bytes(segment.stat().st_size))
    with pytest.raises(cloaca.LogCorruptedError):
        cloaca.DefaultRunner(str(log)).shutdown()


def test_doctor_names_the_durability_of_the_runner_not_of_a_command(tmp_path: Path, greeting: str) -> None:
    """Regression: after `cloaca log prune`, doctor said that a power cut loses nothing with durability `os`."""
    config = cloaca.DefaultRunnerConfig(durability="os")
    with cloaca.DefaultRunner(str(tmp_path / "log"), config) as runner:
        for _ in range(70):
            runner.execute(greeting, {"name": "Ada"})
    for keep in (69, 1, 0):
        pruned = command(tmp_path, "log", "prune", "--keep", str(keep), "--reason", "old", "--yes")
        assert pruned.returncode == 0, pruned.stderr
        assert "durability    os:" in command(tmp_path, "replay", "doctor").stdout
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        runner.execute(greeting, {"name": "Ada"})
    assert "durability    sync:" in command(tmp_path, "replay", "doctor").stdout


def test_a_log_whose_path_is_not_utf8_is_found_again(tmp_path: Path, greeting: str) -> None:
    """Regression: a path that is not UTF-8 was converted to a different one."""
    name = os.fsdecode(b"log-\xff")
    with cloaca.DefaultRunner(os.path.join(tmp_path, name)) as runner:
        runner.execute(greeting, {"name": "Ada"})
    os.mkdir(tmp_path / "elsewhere")
    for where in (tmp_path, tmp_path / "elsewhere"):
        program = Path(sys.executable).with_name("replay")
        done = subprocess.run([program, "list"], cwd=where, capture_output=True, timeout=LIMIT, check=False)
        assert b"greeting" in done.stdout, done.stderr
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"elsewhere", b"log-\xff"]


def test_an_erased_value_has_its_own_type_in_python(tmp_path: Path) -> None:
    """Regression: after `cloaca log erase`, `to_dict()`, `items()` and the key itself raised "ValueError: not JSON" for
    the whole context, and `to_json()` returned invalid JSON."""

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


def test_one_damaged_execution_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    """Regression: after an orderly close, one wrong byte in one execution made every command refuse the whole log."""
    with cloaca.WorkflowBuilder("parts"):

        @cloaca.task
        def part(context: cloaca.Context) -> None: ...

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        ids = [runner.execute("parts", {"input": f"marker {number}"}).execution_id for number in range(3)]
    [segment] = (tmp_path / "log" / "segments").iterdir()
    segment.write_bytes(segment.read_bytes().replace(b"marker 1", b"marker X"))
    listed = command(tmp_path, "replay", "list", "--json", "--log", "log")
    assert listed.returncode == 0
    statuses = {row["id"]: row["status"] for row in json.loads(listed.stdout)["executions"]}
    assert statuses == {ids[0]: "Completed", ids[1]: "Damaged", ids[2]: "Completed"}
    assert "marker 2" in command(tmp_path, "replay", ids[2], "context", "--log", "log").stdout
    assert cloaca.History.open(tmp_path / "log", ids[0]).status == "Completed"
    refused = command(tmp_path, "replay", ids[1], "--log", "log")
    assert refused.returncode == 4
    assert "is damaged" in refused.stderr
    assert command(tmp_path, "replay", "verify", "--all", "--log", "log").returncode == 5
