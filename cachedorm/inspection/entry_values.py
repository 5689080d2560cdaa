"""The value of an entry for people to read: names and stored values, as the declaration has them.

Stored values, not the attributes' own: what a column's TypeDecorator decrypts stays encrypted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cachedorm.inspection.declarations import Plan
from cachedorm.orm.mapping.entity_plan import EntityPlan
from cachedorm.orm.mapping.source import Readable
from cachedorm.orm.reading.queries import QueryPlan
from cachedorm.store.codec import decode_plain
from cachedorm.store.entries.plain_values import PLAIN

__all__ = ["Readable", "readable", "readable_unknown"]


def readable(plan: Plan, payload: bytes, most: int) -> Readable:
    """The value under this plan, at most ``most`` rows of it; raises only UNDECODABLE."""
    if isinstance(plan, EntityPlan):
        rows, values = plan.form.decode(payload)
        return Readable(rows.name, 1, [dict(zip(rows.names, values, strict=True))])
    if not isinstance(plan, QueryPlan):
        return plan.readable(payload, most)
    found = plan.form.decode(payload)
    if isinstance(found, list):
        names = [each.name for each in plan.answer.elements.stored]
        shown = [_named(names, row) for row in found[:most]]
        return Readable("row", len(found), shown)
    nodes, _ = found
    shown = [
        {"class": rows.name, **dict(zip(rows.names, values, strict=True))}
        for rows, values, _ in nodes[:most]
    ]
    return Readable("object", len(nodes), shown)


def _named(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """The row by its names; one that stands twice is told by its place."""
    return {
        name if names.count(name) == 1 else f"{name} ({at + 1})": value
        for at, (name, value) in enumerate(zip(names, row, strict=True))
    }


def readable_unknown(payload: bytes, *, plain: bool) -> Readable:
    """The value of an entry that nothing here declares; raises only UNDECODABLE.

    ``plain``: it has the form of what dogpile's users store. Else what MessagePack says by itself.
    """
    if plain:
        stored = PLAIN.decode(payload)
        value = stored if isinstance(stored, bytes) else stored.payload
        return Readable("value", 1, [{"value": value}])
    return Readable("MessagePack", 1, [{"value": decode_plain(payload)}])
