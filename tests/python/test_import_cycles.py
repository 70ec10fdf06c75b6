"""Tests of `tests/import_cycles.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import import_cycles  # noqa: E402


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def edges(graph: import_cycles.Graph, folder: Path) -> set[tuple[str, str]]:
    """The edges of a graph, by file names relative to the folder."""
    return {
        (str(file.relative_to(folder)), str(other.relative_to(folder)))
        for file, others in graph.items()
        for other in others
    }


def crate(folder: Path, files: dict[str, str]) -> set[tuple[str, str]]:
    write(folder, files)
    return edges(import_cycles.rust_graph(folder / "lib.rs"), folder)


def package(folder: Path, files: dict[str, str]) -> set[tuple[str, str]]:
    write(folder / "pack", files)
    return edges(import_cycles.python_graph(folder / "pack"), folder / "pack")


# Rust


def test_each_leaf_of_a_use_tree_is_an_edge(tmp_path: Path) -> None:
    found = crate(
        tmp_path,
        {
            "lib.rs": "mod a; mod b; mod user;",
            "a.rs": "pub struct A; pub mod deep;",
            "a/deep.rs": "pub fn f() {}",
            "b.rs": "pub(crate) trait B {}",
            "user.rs": "use crate::{a::{deep::f as g, A}, b::B};\nuse std::fmt::{self, Write};",
        },
    )
    assert found == {("user.rs", "a.rs"), ("user.rs", "a/deep.rs"), ("user.rs", "b.rs")}


def test_a_declaration_of_a_child_is_no_edge_and_the_way_up_is_one(tmp_path: Path) -> None:
    found = crate(
        tmp_path,
        {
            "lib.rs": "pub mod parent;",
            "parent/mod.rs": "mod child; mod sibling; pub struct P;",
            "parent/child.rs": "use super::P; use super::sibling::S;",
            "parent/sibling.rs": "pub struct S;",
        },
    )
    assert found == {("parent/child.rs", "parent/mod.rs"), ("parent/child.rs", "parent/sibling.rs")}


def test_a_re_export_leads_to_the_file_that_defines_the_item(tmp_path: Path) -> None:
    found = crate(
        tmp_path,
        {
            "lib.rs": "mod front; mod user; mod other;",
            "front.rs": "mod back; mod all; pub use back::Thing as Named; pub use self::all::*;",
            "front/back.rs": "pub struct Thing;",
            "front/all.rs": "pub const LIMIT: u8 = 1;",
            "user.rs": "use crate::front::Named;",
            "other.rs": "use crate::front::LIMIT;",
        },
    )
    assert ("user.rs", "front/back.rs") in found
    assert ("other.rs", "front/all.rs") in found
    assert ("user.rs", "front.rs") not in found
    assert ("front.rs", "front/back.rs") in found


def test_paths_in_code_count_and_those_in_comments_and_strings_do_not(tmp_path: Path) -> None:
    found = crate(
        tmp_path,
        {
            "lib.rs": "mod a; mod b; mod c; mod user;",
            "a.rs": "pub fn f() {}",
            "b.rs": "pub struct B;",
            "c.rs": "pub struct C;",
            "user.rs": """
                //! See [`crate::c::C`].
                /* crate::c::C /* crate::c */ crate::c::C */
                use crate::b;
                fn g<'a>(x: &'a str) -> char {
                    crate::a::f();
                    let _ = ("crate::c::C \\" crate::c", r#"crate::c::"C""#, '"', b::B);
                    '{'
                }
            """,
        },
    )
    assert found == {("user.rs", "a.rs"), ("user.rs", "b.rs")}


def test_code_for_tests_only_is_ignored(tmp_path: Path) -> None:
    found = crate(
        tmp_path,
        {
            "lib.rs": "mod a; mod user; #[cfg(test)] mod fixture;",
            "a.rs": "pub struct A; pub struct B;",
            "fixture.rs": "use crate::a::A;",
            "user.rs": """
                #[cfg(test)]
                use crate::a::A;
                #[cfg(test)]
                mod tests { use crate::a::{A}; fn f() { { crate::a::B } } }
                #[cfg(test)]
                fn helper<T, U>(_: T, _: U) -> [u8; 2] { crate::a::B; [0, 0] }
                pub struct After;
            """,
        },
    )
    assert found == set()


def test_inline_modules_and_path_attributes_are_followed(tmp_path: Path) -> None:
    found = crate(
        tmp_path,
        {
            "lib.rs": 'mod user; #[path = "elsewhere/moved.rs"] mod a; pub struct Top;',
            "elsewhere/moved.rs": "pub struct A;",
            "user.rs": "mod inner { use super::super::Top; use super::super::a::A; }",
        },
    )
    assert found == {("user.rs", "lib.rs"), ("user.rs", "elsewhere/moved.rs")}


# Python


def test_imports_count_anywhere_in_a_file(tmp_path: Path) -> None:
    found = package(
        tmp_path,
        {
            "__init__.py": "from .a import A\n",
            "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import B\nclass A: ...\n",
            "b.py": "def f():\n    from . import c, a as renamed\n",
            "c.py": "import json\nimport pack.b\n",
            "native.pyi": "from .literals import L\n",
            "literals.py": "from . import native\nfrom . import name_of_the_package\n",
        },
    )
    assert found == {
        ("__init__.py", "a.py"),
        ("a.py", "b.py"),
        ("b.py", "c.py"),
        ("b.py", "a.py"),
        ("c.py", "b.py"),
        ("native.pyi", "literals.py"),
        ("literals.py", "native.pyi"),
        ("literals.py", "__init__.py"),
    }


# Cycles


def named(*edges: str) -> import_cycles.Graph:
    graph: import_cycles.Graph = {}
    for edge in edges:
        one, other = edge.split(">")
        graph.setdefault(Path(one), set()).add(Path(other))
        graph.setdefault(Path(other), set())
    return graph


def test_a_cycle_has_every_file_that_leads_back_to_itself() -> None:
    found = import_cycles.cycles(named("a>b", "b>c", "c>a", "c>d", "d>e", "e>d", "f>a"))
    assert [[str(file) for file in cycle] for cycle in found] == [["a", "b", "c"], ["d", "e"]]


def test_a_chain_is_no_cycle() -> None:
    assert import_cycles.cycles(named("a>b", "b>c", "a>c")) == []


def workspace(folder: Path, size: int) -> Path:
    """A workspace with one crate, in which `size` files form an import cycle."""
    modules = [f"m{number}" for number in range(size)]
    write(
        folder, {"Cargo.toml": '[workspace]\nmembers = ["house"]\n', "house/Cargo.toml": '[package]\nname = "house"\n'}
    )
    write(folder / "house" / "src", {"lib.rs": " ".join(f"mod {module};" for module in modules)})
    for number, module in enumerate(modules):
        write(
            folder / "house" / "src", {f"{module}.rs": f"use crate::{modules[(number + 1) % size]}::T; pub struct T;"}
        )
    return folder


@pytest.mark.parametrize(("size", "code"), [(6, 0), (7, 1)])
def test_seven_files_in_a_cycle_fail_and_six_do_not(tmp_path: Path, size: int, code: int) -> None:
    root = workspace(tmp_path, size)
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "import_cycles.py", str(root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert f"house {size}" in done.stdout
    assert ("house/src/m0.rs needs house/src/m1.rs" in done.stderr) == bool(code)
