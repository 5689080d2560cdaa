"""Keys by a free glob pattern: found by looking through all of them, a batch at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cachedorm.store.protocol.slots import Slots

# A class (as in [a-c], [^x]), an escaped character, any one, any number, or itself.
_PART = re.compile(r"\[(\^?)((?:\\.|[^\]\\])*)\]?|\\(.)|([*?])|(.)", re.DOTALL)


def unlink_matching(slots: Slots, db: int, pattern: str) -> int:
    """Take away every entry whose key matches, and the leases of fills that have begun; how many.

    Stamps, intents and whatever else the library keeps for itself stay. Looks at every key of the
    database, in batches between which other commands run. May raise CacheUnavailable.
    """
    gone, cursor = 0, 0
    while True:
        cursor, keys = slots.scan(db, cursor, pattern)
        entries = [key for key in keys if not key.startswith("~")]
        slots.delete(db, entries)
        gone += len(entries)
        if not cursor:
            return gone


def glob(pattern: str) -> Callable[[str], object]:
    """Whether a key matches, as Redis says it: by bytes."""
    text = pattern.encode().decode("latin-1")
    compiled = re.compile("".join(map(_part, _PART.finditer(text))), re.DOTALL)
    return lambda key: compiled.fullmatch(key.encode().decode("latin-1"))


def _part(found: re.Match[str]) -> str:
    negated, inside, escaped, wild, plain = found.groups()
    if inside is not None:
        return _class(inside, negated)
    if wild:
        return ".*" if wild == "*" else "."
    return re.escape(escaped or plain)


def _class(inside: str, negated: str) -> str:
    members = re.findall(r"(?:\\(.)|(.))(?:-(?:\\(.)|(.)))?", inside, re.DOTALL)
    ranges = []
    for first, one, last, other in members:
        begin = first or one
        end = last or other or begin
        low, high = sorted((begin, end))
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if not ranges:
        return "." if negated else r"(?!)"
    return f"[{negated}{''.join(ranges)}]"
