"""The placeholder of an erased value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Erased"]


@dataclass(frozen=True, eq=False)
class Erased:
    """The placeholder of a value that was erased from the log with ``cloaca log erase``.

    It replaces the value in contexts, events and histories. It is false, and equal to every other erased value. It is
    not JSON: tasks cannot write it, and inputs cannot contain it. In ``to_json`` it is the string ``"erased"``, as in
    the JSON output of ``replay``.

    Example:
        >>> import cloaca
        >>> erased = cloaca.Erased(by="ann", reason="asked to", time="2026-01-31T09:00:00.000000Z")
        >>> erased
        <erased by ann at 2026-01-31T09:00:00.000000Z: asked to>
        >>> bool(erased), erased == cloaca.Erased(), erased == "erased"
        (False, True, False)
    """

    by: str | None = None
    """Who erased it; ``None`` if unknown."""
    reason: str | None = None
    """The reason; ``None`` if unknown."""
    time: str | None = None
    """When it was erased, as a string (UTC, microseconds); ``None`` if unknown."""

    def __bool__(self) -> Literal[False]:
        return False

    def __eq__(self, other: object) -> bool:
        return True if isinstance(other, Erased) else NotImplemented

    def __hash__(self) -> int:
        return hash(Erased)

    def __repr__(self) -> str:
        who = "" if self.by is None else f" by {self.by}"
        when = "" if self.time is None else f" at {self.time}"
        why = "" if self.reason is None else f": {self.reason}"
        return f"<erased{who}{when}{why}>"
