"""Checks the changes since the branch `main`: format, lints, types, and the closest tests.

Meant to be run between two edits. `make test` and `make lint` check everything.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import javascript

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv" / "bin"
PACKAGE = ROOT / "bindings" / "python" / "cloaca"
CRATES = ["store", "engine", "replay", "admin", "bindings", "benches", "tests/fuzz", "tests"]
# The same arguments as in `make lint`, so that both share their build artifacts.
CLIPPY = ["cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]
BUILD = ["cargo", "test", "--quiet", "--locked", "--no-run", "--message-format", "json-render-diagnostics"]


def lines(*command: str) -> list[str]:
    """Returns the lines that a command prints."""
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def changed_files() -> list[str]:
    """Returns the existing files that differ from the merge base with `main`, committed or not."""
    branches = subprocess.run(
        ["git", "merge-base", "HEAD", "main"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    base = branches.stdout.strip() or "HEAD"
    names = lines("git", "diff", "--name-only", base) + lines("git", "ls-files", "--others", "--exclude-standard")
    return sorted(name for name in set(names) if (ROOT / name).exists())


def crate_of(name: str) -> str | None:
    """Returns the crate of a file."""
    return next((crate for crate in CRATES if name.startswith(f"{crate}/")), None)


def check(what: str, *command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> bool:
    """Runs a command, shows its output only if it fails, and prints how long it took."""
    began = time.monotonic()
    run = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    ok = run.returncode == 0
    if not ok:
        print(run.stdout)
    print(f"{what}: {'ok' if ok else 'FAILED'} in {time.monotonic() - began:.1f} s", flush=True)
    return ok


def test_modules(files: list[str]) -> dict[str, set[str]]:
    """Returns for each crate the changed modules of its test program; an empty name means all of them."""
    modules: dict[str, set[str]] = {}
    for name in files:
        crate = crate_of(name)
        if crate is None or not (ROOT / crate / "tests" / "main.rs").exists():
            continue
        if found := re.fullmatch(rf"{crate}/tests/(\w+)\.rs", name):
            modules.setdefault(crate, set()).add("" if found[1] == "main" else f"{found[1]}::")
        elif name.startswith((f"{crate}/tests/", "engine/src/core/")):
            # A helper of all tests, or the core, which the tests use through its public functions.
            modules.setdefault(crate, set()).add("")
    return modules


def test_programs(targets: list[str]) -> dict[tuple[str, str], Path] | None:
    """Builds test programs, and returns their paths by crate and target; None if they do not compile.

    All crates are built together, as for `make test`: the features of a single crate would build the dependencies
    again.
    """
    run = subprocess.run([*BUILD, *targets], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        return None
    programs = {}
    for line in run.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            crate = Path(message["manifest_path"]).parent.relative_to(ROOT).as_posix()
            kind = "lib" if "lib" in message["target"]["kind"] else message["target"]["name"]
            programs[crate, kind] = Path(message["executable"])
    return programs


def check_rust(files: list[str]) -> bool:
    """Checks format and lints of all crates, the unit tests of changed crates, and changed test modules."""
    crates = {crate for crate in map(crate_of, files) if crate}
    ok = check("rust format", "cargo", "fmt", "--all", "--check")
    ok &= check("clippy", *CLIPPY)
    modules = test_modules(files)
    targets = ["--lib", *(["--test", "main"] if modules else [])]
    began = time.monotonic()
    programs = test_programs(targets)
    print(f"rust tests: {'FAILED to compile' if programs is None else 'compiled'} in {time.monotonic() - began:.1f} s")
    if programs is None:
        return False
    # Few cases for property tests; `make test` runs many.
    env = {"PROPTEST_CASES": os.environ.get("PROPTEST_CASES", "16")}
    for crate in sorted(crates):
        directory = ROOT / crate
        if program := programs.get((crate, "lib")):
            ok &= check(f"{crate}: unit tests", program, "--quiet", cwd=directory, env=env)
        if names := modules.get(crate):
            wanted = [] if "" in names else sorted(names)
            what = f"{crate}: tests {' '.join(wanted)}".strip()
            ok &= check(what, programs[crate, "main"], "--quiet", *wanted, cwd=directory, env=env)
    return ok


def has_editable_install() -> bool:
    """Whether .venv has an editable install of this checkout, not a wheel."""
    where: list[str | Path] = [TOOLS / "python", "-c", "import cloaca; print(cloaca.__file__)"]
    run = subprocess.run(where, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    return bool(run.stdout.strip() == str(PACKAGE / "__init__.py"))


def check_python(files: list[str]) -> bool:
    """Checks format, lints and types of the package, changed tests, and the tests named after changed modules."""
    ok = check("ruff", TOOLS / "ruff", "check", ".") & check("ruff format", TOOLS / "ruff", "format", "--check", ".")
    modules = [Path(name) for name in files if name.startswith("bindings/python/cloaca/")]
    if modules:
        ok &= check("mypy", TOOLS / "mypy", "--strict", PACKAGE)
    tests = {ROOT / name for name in files if re.fullmatch(r"tests/python/test_\w+\.py", name)}
    named = (ROOT / "tests" / "python" / f"test_{module.stem.strip('_')}.py" for module in modules)
    tests |= {test for test in named if test.exists()}
    if tests and not has_editable_install():
        print("python tests: skipped, because .venv has no editable install; run `make develop` first")
    elif tests:
        ok &= check("python tests", TOOLS / "python", "-m", "pytest", "-q", *sorted(tests))
    return ok


def check_javascript() -> bool:
    """Checks types, and runs the tests that need no browser."""
    ok = check("javascript types", sys.executable, "tests/javascript.py")
    if javascript.missing() is None:
        tests = [javascript.BROWSER / f"{name}.test.mjs" for name in ("model", "raw")]
        ok &= check("javascript tests", "node", "--test", *tests)
    return ok


def main() -> int:
    """Checks each language with changed files; returns 0 if nothing is wrong."""
    began = time.monotonic()
    files = changed_files()
    ok = True
    rust = (".rs", ".snap", "Cargo.toml", "Cargo.lock")
    # The pages in replay/web are compiled into the debugger.
    if any(name.endswith(rust) or name.startswith("replay/web/") for name in files):
        ok &= check_rust(files)
    if any(name.endswith((".py", ".pyi", "ruff.toml")) for name in files):
        ok &= check_python(files)
    if any(name.startswith(("replay/web/", "tests/browser/")) for name in files):
        ok &= check_javascript()
    took = time.monotonic() - began
    print(f"quick: {'ok' if ok else 'FAILED'} in {took:.0f} s, {len(files)} files changed since main")
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
