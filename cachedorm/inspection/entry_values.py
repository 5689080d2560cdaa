"""The value of an entry for people: names and stored values.

These are the stored values, not the attributes': what a TypeDecorator decrypts stays encrypted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cachedorm.geo.candidates import Split
from cachedorm.geo.plan import NearbyPlan
from cachedorm.inspection.declarations import Plan
from cachedorm.orm.mapping.entity_plan import EntityPlan
from cachedorm.store.codec import decode_plain
from cachedorm.store.entries.plain_values import PLAIN


@dataclass(frozen=True, slots=True)
class Readable:
    """The content of an entry: how many rows there are, and the first ones. ``what``: one row."""

    what: str
    count: int
    rows: Sequence[dict[str, Any]]


def readable(plan: Plan, payload: bytes, most: int) -> Readable:
    """Decode the value by this plan, at most ``most`` rows; raises only UNDECODABLE."""
    if isinstance(plan, EntityPlan):
        rows, values = plan.form.decode(payload)
        return Readable(rows.name, 1, [dict(zip(rows.names, values, strict=True))])
    if isinstance(plan, NearbyPlan):
        return _near(plan, payload, most)
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


def _near(plan: NearbyPlan, payload: bytes, most: int) -> Readable:
    found = plan.form.decode(payload)
    if isinstance(found, Split):
        return Readable("crowded cell, split into smaller ones", 0, [])
    rows = [dict(zip(plan.names, row, strict=True)) for row in islice(found.rows, most)]
    return Readable("candidate", len(found), rows)


def _named(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """The row by its names; repeated names get their position."""
    return {
        name if names.count(name) == 1 else f"{name} ({at + 1})": value
        for at, (name, value) in enumerate(zip(names, row, strict=True))
    }


def readable_unknown(payload: bytes, *, plain: bool) -> Readable:
    """Decode the value of an entry without a declaration; raises only UNDECODABLE.

    ``plain``: the value has the form of plain dogpile values; otherwise it is read as MessagePack.
    """
    if plain:
        stored = PLAIN.decode(payload)
        value = stored if isinstance(stored, bytes) else stored.payload
        return Readable("value", 1, [{"value": value}])
    return Readable("MessagePack", 1, [{"value": decode_plain(payload)}])
