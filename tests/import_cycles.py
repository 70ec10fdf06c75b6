"""Finds the largest import cycle of each crate and of the Python package, and fails when one is too large.

A cycle is a strongly connected component: a set of files in which each needs every other one, directly or indirectly.
To understand one of them, a reader has to read them all.

An edge leads from one file to another for:

- Rust: a `use` line, and a path in code that begins with `crate`, `self`, `super`, a child module or an imported name.
  The edge leads to the file that defines the item, through any number of `pub use`. `mod child;` is not an edge. Code
  that is compiled only for tests (`#[cfg(test)]`) is ignored.
- Python: `import` and `from … import`, also inside functions and under `if TYPE_CHECKING`, because a reader has to
  follow those as well. The edge leads to the module that the line names.

    python tests/import_cycles.py [ROOT] [--files]

`--files` lists the files of each cycle, with the edges that close it.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: The most files that a cycle may have.
LIMIT = 6

Graph = dict[Path, set[Path]]

# Rust: words

TOKENS = re.compile(
    r"""
      //[^\n]* | (?P<block>/\*)
    | b?r(?P<hashes>\#*)".*?"(?P=hashes)
    | (?P<string>b?"(?:\\.|[^"\\])*")
    | b?'(?:\\.[^']*|[^'\\])'
    | '\w+
    | (?P<word>(?:r\#)?[A-Za-z_]\w*|::|[{}()\[\];,*!=<>\#$])
    | \d[\w.]*
    | \S
    """,
    re.VERBOSE | re.DOTALL,
)

OPENING, CLOSING = set("{(["), set("})]")

ITEMS = {"struct", "enum", "union", "trait", "type", "fn", "const", "static"}

RELATIVE = {"crate", "self", "super"}


def words_of(source: str) -> list[str]:
    """Returns the identifiers and punctuation of a source text, and the string of a `path` attribute."""
    words, at = [], 0
    while found := TOKENS.search(source, at):
        at = found.end()
        if found["block"]:
            depth = 1
            while depth and (mark := re.compile(r"/\*|\*/").search(source, at)):
                depth += 1 if mark[0] == "/*" else -1
                at = mark.end()
        elif found["word"]:
            words.append(found["word"].removeprefix("r#"))
        elif found["string"] and words[-3:] == ["[", "path", "="]:
            words.append(found["string"].strip('"'))
    return words


# Rust: modules


@dataclass
class Module:
    """One module, in a file of its own or inline."""

    file: Path
    #: The directory of its children's files.
    directory: Path
    parent: Module | None = None
    children: dict[str, Module] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)
    #: Names that `use` lines bring into it, with the paths they stand for.
    imported: dict[str, list[str]] = field(default_factory=dict)
    globs: list[list[str]] = field(default_factory=list)
    #: The paths in its code.
    paths: list[list[str]] = field(default_factory=list)

    def root(self) -> Module:
        return self.parent.root() if self.parent else self

    def all(self) -> Iterator[Module]:
        yield self
        for child in self.children.values():
            yield from child.all()


class Reader:
    """Reads the words of one file into modules."""

    def __init__(self, module: Module, source: str) -> None:
        self.words = words_of(source)
        self.at = 0
        self.read(module)

    def next(self) -> str:
        self.at += 1
        return self.words[self.at - 1] if self.at <= len(self.words) else ""

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.words[at] if at < len(self.words) else ""

    def read(self, module: Module) -> None:
        """Reads up to the brace that ends the module, or to the end of the file."""
        depth, for_tests, path = 0, False, None
        while word := self.next():
            if word == "#" and self.peek() in {"[", "!"}:
                is_inner = self.peek() == "!"
                attribute = self.attribute()
                for_tests = for_tests or (is_for_tests(attribute) and not is_inner)
                if attribute[:2] == ["path", "="]:
                    path = attribute[2]
                continue
            if for_tests:
                self.at -= 1
                self.skip_item()
            elif word == "mod" and self.peek(1) in {";", "{"}:
                self.module(module, path)
            elif word == "use":
                self.tree(module, [], ";")
            elif word == "pub" and self.peek() == "(":
                self.skip_brackets()
                continue
            elif word in ITEMS and depth == 0:
                self.item(module, word)
            elif word == "macro_rules":
                self.next()
                module.items.add(self.peek())
            elif word in OPENING:
                depth += 1
            elif word in CLOSING:
                depth -= 1
                if depth < 0:
                    return
            elif word == "::" or (self.peek() == "::" and word.isidentifier()):
                self.path(module, word)
            for_tests, path = False, None

    def attribute(self) -> list[str]:
        """Reads an attribute."""
        if self.peek() == "!":
            self.next()
        start = self.at + 1
        self.skip_brackets()
        return self.words[start : self.at - 1]

    def skip_brackets(self) -> None:
        """Skips a pair of brackets and its contents."""
        depth = 0
        while word := self.next():
            depth += (word in OPENING) - (word in CLOSING)
            if depth == 0:
                return

    def skip_item(self) -> None:
        """Skips an item up to its semicolon or the end of its block; a field or a match arm up to its comma."""
        ends = {";"} if self.peek() in {*ITEMS, "pub", "impl", "mod", "use", "async", "unsafe"} else {";", ","}
        while word := self.peek():
            if word in CLOSING:
                return
            if word in OPENING:
                self.skip_brackets()
                if word == "{":
                    return
                continue
            self.next()
            if word in ends:
                return

    def module(self, module: Module, path: str | None) -> None:
        name = self.next()
        if self.next() == "{":
            child = Module(module.file, module.directory / name, module)
            module.children[name] = child
            self.read(child)
            return
        if path is not None:
            candidates = [module.file.parent / path]
        else:
            candidates = [module.directory / f"{name}.rs", module.directory / name / "mod.rs"]
        for candidate in candidates:
            if candidate.is_file():
                candidate = candidate.resolve()
                directory = candidate.parent if candidate.name == "mod.rs" or path else candidate.with_suffix("")
                module.children[name] = load(Module(candidate, directory, module))
                return

    def item(self, module: Module, keyword: str) -> None:
        if keyword in {"const", "static"}:
            while self.peek() in {"mut", "unsafe", "async", "fn", "extern"}:
                self.next()
        if self.peek().isidentifier():
            module.items.add(self.next())

    def path(self, module: Module, first: str) -> None:
        """Reads a path in code, as far as its names go."""
        names = [] if first == "::" else [first]
        if first == "::":
            names.append(self.next())
        while self.peek() == "::" and self.peek(1).isidentifier():
            self.next()
            names.append(self.next())
        # Names after a leading `::`, as in `Vec::<T>::new`, are not a separate path.
        if first != "::":
            module.paths.append(names)

    def tree(self, module: Module, prefix: list[str], *ends: str) -> None:
        """Reads one tree of a `use` line, up to one of `ends`."""
        names = list(prefix)
        while word := self.next():
            if word == "{":
                while self.peek() != "}":
                    self.tree(module, names, ",", "}")
                self.next()
                self.finish(ends)
                return
            if word == "*":
                module.globs.append(names)
                self.finish(ends)
                return
            if word == "as":
                module.imported[self.next()] = names
                self.finish(ends)
                return
            if word in ends:
                self.leaf(module, names)
                if word == "}":
                    self.at -= 1
                return
            if word != "::":
                names.append(word)

    def finish(self, ends: tuple[str, ...]) -> None:
        """Skips the comma or the semicolon behind a tree; the brace around it is its parent's."""
        if self.peek() in ends and self.peek() != "}":
            self.next()

    def leaf(self, module: Module, names: list[str]) -> None:
        if len(names) > 1 and names[-1] == "self":
            names = names[:-1]
        module.imported[names[-1]] = names


def is_for_tests(attribute: list[str]) -> bool:
    """Whether it is `cfg(test)`, or `cfg(all(test, …))`."""
    return attribute[:2] == ["cfg", "("] and "test" in attribute and not {"any", "not"} & set(attribute)


def load(module: Module) -> Module:
    """Reads the file of a module, and those of its children."""
    Reader(module, module.file.read_text(encoding="utf-8"))
    return module


# Rust: resolving paths


def target(module: Module, path: list[str], seen: frozenset[tuple[int, str]] = frozenset()) -> Module | None:
    """Returns the module that defines the item of a path; None if that is in another crate."""
    here, rest = module, list(path)
    if rest[0] == "crate":
        here, rest = module.root(), rest[1:]
    elif rest[0] in RELATIVE:
        while rest and rest[0] in {"self", "super"}:
            if rest.pop(0) == "super":
                here = here.parent or here
    elif rest[0] not in module.children:
        found = reexported(module, rest[0], seen)
        if found is None or len(rest) == 1:
            return found
        here, rest = found, rest[1:] if found is not module else []
        # The name of a type leads no further; that of a module does.
        if path[0][0].isupper():
            return here
    return descend(here, rest, seen)


def descend(here: Module, rest: list[str], seen: frozenset[tuple[int, str]]) -> Module | None:
    """Follows the names of a path down from a module."""
    for name in rest:
        if name in here.children:
            here = here.children[name]
            continue
        if name in here.items:
            return here
        found = reexported(here, name, seen)
        if found is None:
            return None if name in here.imported else here
        if name[0].isupper():
            return found
        here = found
    return here


def reexported(module: Module, name: str, seen: frozenset[tuple[int, str]]) -> Module | None:
    """Returns the module that defines a name which `module` imports with a `use` line."""
    if (id(module), name) in seen:
        return None
    seen = seen | {(id(module), name)}
    if name in module.items:
        return module
    if name in module.imported:
        return target(module, module.imported[name], seen)
    for glob in module.globs:
        source = target(module, glob, seen)
        if source is None or source is module:
            continue
        if name in source.children:
            return source.children[name]
        if found := reexported(source, name, seen):
            return found
    return None


def rust_graph(root: Path) -> Graph:
    """Returns the files of the crate with this root, each with the files that it needs."""
    tree = load(Module(root, root.parent))
    graph: Graph = {}
    for module in tree.all():
        edges = graph.setdefault(module.file, set())
        for path in [*module.imported.values(), *module.globs, *module.paths]:
            found = target(module, path)
            if found is not None and found.file != module.file:
                edges.add(found.file)
    return graph


def roots_of(crate: Path) -> list[Path]:
    """Returns the root files of a crate's targets."""
    manifest = (crate / "Cargo.toml").read_text(encoding="utf-8")
    found = [crate / path for path in re.findall(r'^path\s*=\s*"([^"]+\.rs)"', manifest, re.MULTILINE)]
    found += [crate / "build.rs", crate / "src" / "lib.rs", crate / "src" / "main.rs"]
    for folder in ("src/bin", "tests", "benches", "examples"):
        found += sorted((crate / folder).glob("*.rs")) + sorted((crate / folder).glob("*/main.rs"))
    return list(dict.fromkeys(file.resolve() for file in found if file.is_file()))


# Python


def python_graph(package: Path) -> Graph:
    """Returns the modules of a package, or of a folder of modules, each with the modules that it needs."""
    # A stub represents a native module.
    files = {module_name(package, file): file for ending in ("*.pyi", "*.py") for file in sorted(package.rglob(ending))}
    return {
        file: {files[other] for other in imports_of(file, name, set(files)) if files[other] != file}
        for name, file in files.items()
    }


def module_name(package: Path, file: Path) -> str:
    """Returns the name by which a module is imported."""
    base = package.parent if (package / "__init__.py").exists() else package
    parts = list(file.relative_to(base).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path, name: str, known: set[str]) -> Iterator[str]:
    """Yields the modules of the package that a file imports."""
    own_package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = own_package.split(".")
                above = above[: len(above) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                if f"{base}.{alias.name}" in known:
                    yield f"{base}.{alias.name}"
                elif base in known:
                    yield base


# Cycles


def cycles(graph: Graph) -> list[list[Path]]:
    """Returns the strongly connected components of more than one file, the largest first (Tarjan's algorithm)."""
    order: dict[Path, int] = {}
    lowest: dict[Path, int] = {}
    waiting: list[Path] = []
    found: list[list[Path]] = []

    def visit(file: Path) -> None:
        order[file] = lowest[file] = len(order)
        waiting.append(file)
        for other in sorted(graph[file]):
            if other not in order:
                visit(other)
                lowest[file] = min(lowest[file], lowest[other])
            elif other in waiting:
                lowest[file] = min(lowest[file], order[other])
        if lowest[file] == order[file]:
            at = waiting.index(file)
            component = sorted(waiting[at:])
            del waiting[at:]
            if len(component) > 1:
                found.append(component)

    for file in sorted(graph):
        if file not in order:
            visit(file)
    return sorted(found, key=len, reverse=True)


def graphs_of(root: Path) -> dict[str, list[Graph]]:
    """Returns the graphs of every crate and Python package of a workspace, by folder."""
    members = re.search(
        r"^members\s*=\s*\[(.*?)\]", (root / "Cargo.toml").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    names = re.findall(r'"([^"]+)"', members[1]) if members else []
    graphs = {name: [rust_graph(file) for file in roots_of(root / name)] for name in names}
    for package in sorted(root.glob("*/python")):
        for one in [package, *sorted(package.glob("*/"))]:
            if any(one.glob("*.py")):
                graphs[str(one.relative_to(root))] = [python_graph(one)]
    return graphs


def format_cycle(root: Path, cycle: list[Path], graph: Graph) -> str:
    """Formats the files of a cycle, each with the files of the cycle that it needs."""
    members = set(cycle)
    lines = []
    for file in cycle:
        needs = ", ".join(str(other.relative_to(root)) for other in sorted(graph[file] & members))
        lines.append(f"  {file.relative_to(root)} needs {needs}")
    return "\n".join(lines)


def check(root: Path, show_files: bool = False) -> tuple[str, list[str]]:
    """Returns a line with the largest cycle of each crate and package, and the cycles that are too large."""
    sizes, wrong = [], []
    for name, graphs in graphs_of(root).items():
        worst = max(
            ((cycle, graph) for graph in graphs for cycle in cycles(graph)),
            key=lambda one: len(one[0]),
            default=None,
        )
        size = len(worst[0]) if worst else 1
        sizes.append(f"{name} {size}")
        if worst and size > LIMIT:
            wrong.append(
                f"{name}: {size} files import each other in a cycle, {LIMIT} are allowed\n{format_cycle(root, *worst)}"
            )
        elif worst and show_files:
            print(f"{name}: {size} files\n{format_cycle(root, *worst)}")
    return "largest import cycle: " + ", ".join(sizes), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Finds import cycles.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument(
        "--files", action="store_true", help="list the files of each cycle, with the edges that close it"
    )
    arguments = parser.parse_args()
    line, wrong = check(arguments.root.resolve(), arguments.files)
    print(line)
    for what in wrong:
        print(what, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
