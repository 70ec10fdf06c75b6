"""What stands in the place of a value that was erased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Erased"]


@dataclass(frozen=True, eq=False)
class Erased:
    """A value that was erased from the log, with ``cloaca log erase``: nobody can read it any more.

    Contexts, events and answers of the past have it in the place of the value. It is false, and equal to every other
    erased value, since nobody knows what they were. It is not JSON: no task can write it, and no execution can begin
    with it. In ``to_json`` it is the string ``"erased"``, as in the JSON of ``replay``.

    Example:
        >>> import cloaca
        >>> erased = cloaca.Erased(by="ann", reason="asked to", time="2026-01-31T09:00:00.000000Z")
        >>> erased
        <erased by ann at 2026-01-31T09:00:00.000000Z: asked to>
        >>> bool(erased), erased == cloaca.Erased(), erased == "erased"
        (False, True, False)
    """

    by: str | None = None
    """Who asked for it; ``None`` if that is not known."""
    reason: str | None = None
    """Why."""
    time: str | None = None
    """When, as text: UTC, to the microsecond."""

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
