"""Which workflow a definition belongs to: that of the innermost ``with WorkflowBuilder(...)`` block around it.

The blocks are kept in a context variable, so each coroutine, and each thread, has its own. An import ends a block's
scope: what a module defines while it is imported inside a block is the module's own.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ._task import Definition
    from .inputs import Part


class Scope:
    """Where tasks are defined: in a workflow's builder, or at module level (``workflow`` is ``None``)."""

    __slots__ = ("workflow",)

    def __init__(self, workflow: str | None) -> None:
        self.workflow = workflow

    def __repr__(self) -> str:
        return "at module level" if self.workflow is None else f"in workflow '{self.workflow}'"


MODULE_LEVEL = Scope(None)


class Collector(Protocol):
    """Collects the tasks that are decorated inside a ``with`` block."""

    @property
    def name(self) -> str: ...

    @property
    def _scope(self) -> Scope: ...

    def _collect(self, definition: Definition) -> None: ...

    def _declare(self, part: Part) -> None: ...


class Block:
    """One run of a ``with`` block."""

    __slots__ = ("collector", "is_open", "modules", "overlaps")

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.is_open = True
        # How many modules were being imported around it.
        self.modules = _modules_in_progress()
        # The workflow whose block was open when this one began, and was closed before it.
        self.overlaps: str | None = None


_blocks: ContextVar[tuple[Block, ...]] = ContextVar("cloaca_blocks", default=())


def open_block(collector: Collector) -> Block:
    """Opens a block: from now on, tasks that are decorated in this context belong to the collector."""
    block = Block(collector)
    _blocks.set((*(other for other in _blocks.get() if other.is_open), block))
    return block


def close_block(block: Block) -> str | None:
    """Closes a block. Returns the name of the workflow whose block it overlaps without being around or inside it: two
    generators on one thread can do that, and what they define may be in the wrong workflow."""
    block.is_open = False
    blocks = _blocks.get()
    inside = blocks[blocks.index(block) + 1 :] if block in blocks else ()
    for later in inside:
        if later.is_open:
            later.overlaps = block.collector.name
            block.overlaps = later.collector.name
    _blocks.set(tuple(other for other in blocks if other.is_open))
    return block.overlaps


def innermost() -> Collector | None:
    """Returns the collector of the innermost block around the caller, ``None`` at module level."""
    block = next((block for block in reversed(_blocks.get()) if block.is_open), None)
    if block is None or _modules_in_progress() > block.modules:
        return None
    return block.collector


def _modules_in_progress() -> int:
    """How many module bodies are on the stack: those of the program and of what it imports just now."""
    count = 0
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and _is_module(frame.f_globals):
            count += 1
        frame = frame.f_back
    return count


def _is_module(namespace: dict[str, Any]) -> bool:
    """Whether a namespace is that of a module, and not one that somebody gave to ``exec``."""
    if namespace.get("__spec__") is not None:
        return True
    module = sys.modules.get(namespace.get("__name__", ""))
    return module is not None and getattr(module, "__dict__", None) is namespace


def location_of(function: object) -> str:
    """Returns where a function is defined, as ``file:line``; the place of the caller if it does not tell."""
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        return f"{code.co_filename}:{code.co_firstlineno}"
    here = sys._getframe().f_globals["__package__"]
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__package__") == here:
        frame = frame.f_back
    return "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
