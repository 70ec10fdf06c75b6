"""The wheel of `make build`: small, self-contained, and without dependencies."""

from __future__ import annotations

import email
import subprocess
import sys
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

from conftest import LIMIT

WHEELS = sorted((Path(__file__).resolve().parents[2] / ".venv" / "wheels").glob("cloaca-*.whl"))

pytestmark = pytest.mark.skipif(not WHEELS, reason="there is no wheel in .venv/wheels; `make build` makes it")


def metadata() -> email.message.Message:
    with zipfile.ZipFile(WHEELS[-1]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(wheel.read(name))


def test_it_is_smaller_than_ten_megabytes() -> None:
    assert WHEELS[-1].stat().st_size < 10_000_000


def test_it_has_no_dependencies_and_supports_every_python_from_3_10_on() -> None:
    requires = [line for line in metadata().get_all("Requires-Dist", []) if "extra ==" not in line]
    assert requires == []
    assert metadata()["Requires-Python"] == ">=3.10"
    # The stable ABI: one wheel for all versions; free-threaded ones do not load it.
    assert "-cp310-abi3-" in WHEELS[-1].name


def test_it_contains_its_types_and_no_tests() -> None:
    with zipfile.ZipFile(WHEELS[-1]) as wheel:
        names = wheel.namelist()
    assert "cloaca/py.typed" in names
    assert "cloaca/_cloaca.pyi" in names
    assert not [name for name in names if "test_" in name or name.endswith((".pyc", ".rs"))]


def test_it_has_replay_as_a_program_and_not_as_a_script_of_python() -> None:
    with zipfile.ZipFile(WHEELS[-1]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("/scripts/replay")]
        assert wheel.read(name)[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe"), "a program of Linux or macOS"
        (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        assert b"replay" not in wheel.read(entry_points)


def test_it_works_in_a_fresh_environment(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"

    def run(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=4 * LIMIT,
            check=False,
            env={"HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(WHEELS[-1]))
    program = """
        import cloaca

        @cloaca.task
        def extract(context):
            context["rows"] = [1, 2, 3]

        @cloaca.task(dependencies=[extract], isolation="process")
        def load(context):
            context["count"] = len(context["rows"])

        @cloaca.task(dependencies=[load])
        async def tell(context):
            context["told"] = True

        def build():
            builder = cloaca.WorkflowBuilder("etl")
            for task in (extract, load, tell):
                builder.add_task(task)
            return builder.build()

        if __name__ == "__main__":
            cloaca.register_workflow_constructor("etl", build)
            with cloaca.DefaultRunner("sqlite:///etl.db") as runner:
                result = runner.execute("etl", progress=True).raise_for_status()
            print(result.final_context, result.history().why("count")[1].key)
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    assert run(str(python), "program.py") == 'Context({"count":3,"rows":[1,2,3],"told":true}) rows\n'
    shown = run(str(python.with_name("replay")), "latest")
    assert all(task in shown for task in ("extract", "load", "tell", "Completed"))
    assert run(str(python), "-c", "import cloaca; print(cloaca.__version__)").strip() == metadata()["Version"]
    assert sys.prefix != str(tmp_path / "venv")
