"""The scope of task definitions: the innermost enclosing ``with WorkflowBuilder(...)`` block, or the module level.

The open blocks are stored in a context variable, so each coroutine and each thread has its own. A block does not extend
into imports: a module that is imported inside a block defines its tasks at module level.
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
    """The scope in which tasks are defined: a workflow's builder, or the module level (``workflow`` is ``None``)."""

    __slots__ = ("workflow",)

    def __init__(self, workflow: str | None) -> None:
        self.workflow = workflow

    def __repr__(self) -> str:
        return "at module level" if self.workflow is None else f"in workflow '{self.workflow}'"


MODULE_LEVEL = Scope(None)


class Collector(Protocol):
    """A builder, which collects the tasks decorated inside its ``with`` block."""

    @property
    def name(self) -> str: ...

    @property
    def _scope(self) -> Scope: ...

    def _collect(self, definition: Definition) -> None: ...

    def _declare(self, part: Part) -> None: ...


class Block:
    """One execution of a ``with`` block."""

    __slots__ = ("collector", "is_open", "modules", "overlaps")

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.is_open = True
        # The number of enclosing module bodies.
        self.modules = _count_module_frames()
        # The workflow of a block that overlaps this one without being nested.
        self.overlaps: str | None = None


_blocks: ContextVar[tuple[Block, ...]] = ContextVar("cloaca_blocks", default=())


def open_block(collector: Collector) -> Block:
    """Open a block: tasks decorated in this context now belong to the collector."""
    block = Block(collector)
    _blocks.set((*(other for other in _blocks.get() if other.is_open), block))
    return block


def close_block(block: Block) -> str | None:
    """Close a block. Return the workflow of a block that it overlaps without being nested; usually ``None``.

    Two generators on one thread can cause this, and their tasks may be in the wrong workflow.
    """
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
    """Return the collector of the innermost enclosing block; ``None`` at module level."""
    block = next((block for block in reversed(_blocks.get()) if block.is_open), None)
    if block is None or _count_module_frames() > block.modules:
        return None
    return block.collector


def _count_module_frames() -> int:
    """Return the number of module bodies on the stack: the program's, and those of imports in progress.

    Code that a module runs with ``exec`` in its own namespace belongs to that module.
    """
    frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    count, entered = 0, set[int]()
    for frame in reversed(frames):
        namespace = frame.f_globals
        if frame.f_code.co_name == "<module>" and id(namespace) not in entered and _is_module(namespace):
            count += 1
        entered.add(id(namespace))
    return count


def _is_module(namespace: dict[str, Any]) -> bool:
    """Return whether a namespace belongs to a module, and not to an ``exec`` call."""
    if namespace.get("__spec__") is not None:
        return True
    module = sys.modules.get(namespace.get("__name__", ""))
    return module is not None and getattr(module, "__dict__", None) is namespace


def location_of(function: object) -> str:
    """Return where a function is defined, as ``file:line``; the location of the caller if it has no code object."""
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        return f"{code.co_filename}:{code.co_firstlineno}"
    here = sys._getframe().f_globals["__package__"]
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__package__") == here:
        frame = frame.f_back
    return "an unknown location" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
