"""PostgreSQL's catalogue: which mapped tables are partitions, views or otherwise not plain.

Rows of a view change when other tables are written; rows under row-level security depend on who
asks; a trigger may change a row after the statement that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

_ASK = """
SELECT n.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid), c.relkind::text,
       c.relrowsecurity, t.triggered, c.relkind IN ('v', 'f') OR c.relhasrules
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT c.relkind IN ('r', 'p') AND (c.relhasrules OR EXISTS (
        SELECT FROM pg_catalog.pg_trigger g
        WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
    ))
) AS t (triggered)
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND (c.relkind IN ('v', 'm', 'f') OR c.relrowsecurity OR t.triggered)
"""
_ASK_KIN = """
SELECT pn.nspname, p.relname, pg_catalog.pg_table_is_visible(p.oid),
       cn.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid)
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
WHERE p.relkind IN ('r', 'p', 'f')
"""
_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table"}
_SECURED = "row-level security"
# What to say of each, once.
REFUSALS = {
    **{kind: f"a {kind} changes when other tables are written" for kind in _KINDS.values()},
    _SECURED: "under row-level security a row is not for everyone who knows its key",
}

# Schema and name; None is whatever the search path finds.
Name = tuple[str | None, str]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Facts:
    """The relations of one database that are not plain tables."""

    # Why rows of this relation are never served.
    refused: Mapping[Name, str] = field(default_factory=dict)
    # Tables whose written rows may not be what the statement wrote.
    triggered: frozenset[Name] = frozenset()
    # Relations that stand for others: what is written there may change any table.
    anything: frozenset[Name] = frozenset()
    # The partitions and inheritance children of a table, and what it is one of; by their schemas.
    kin: Mapping[Name, frozenset[Name]] = field(default_factory=dict)

    def why_refused(self, tables: Iterable[Any]) -> str | None:
        """Why rows of these tables are not served, or None."""
        for table in tables:
            reason = self.refused.get((table.schema, table.name))
            if reason is not None:
                return reason
        return None

    def same(self, other: Facts) -> bool:
        """Whether the others say the same."""
        mine = (self.refused, self.triggered, self.anything, self.kin)
        return mine == (other.refused, other.triggered, other.anything, other.kin)

    def is_triggered(self, tables: Iterable[Any]) -> bool:
        """Whether a trigger or rule may change rows of these tables unseen."""
        return any((table.schema, table.name) in self.triggered for table in tables)


NO_FACTS = Facts()


def facts_of(connection: Connection) -> Facts:
    """Ask the database that this connection reaches, outside of SQLAlchemy's events."""
    if connection.dialect.name != "postgresql":
        return NO_FACTS
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(_ASK)
        rows = cursor.fetchall()
        cursor.execute(_ASK_KIN)
        pairs = cursor.fetchall()
    finally:
        cursor.close()
    refused: dict[Name, str] = {}
    triggered: set[Name] = set()
    anything: set[Name] = set()
    for schema, name, visible, kind, secured, is_triggered, stands_for in rows:
        names = _spellings(schema, name, visible)
        if stands_for:
            anything.update(names)
        reason = _KINDS.get(kind, _SECURED if secured else None)
        if reason is not None:
            refused.update(dict.fromkeys(names, reason))
        if is_triggered:
            triggered.update(names)
    return Facts(refused, frozenset(triggered), frozenset(anything), _kin(pairs))


def _spellings(schema: str, name: str, visible: bool) -> list[Name]:
    return [(schema, name), (None, name)] if visible else [(schema, name)]


def _kin(pairs: Iterable[tuple[str, str, bool, str, str, bool]]) -> dict[Name, frozenset[Name]]:
    """Ancestors and descendants of each table, by all spellings of its name."""
    up: dict[Name, set[Name]] = {}
    down: dict[Name, set[Name]] = {}
    spellings: dict[Name, list[Name]] = {}
    for pair in pairs:
        parent, child = (pair[0], pair[1]), (pair[3], pair[4])
        spellings[parent] = _spellings(*parent, pair[2])
        spellings[child] = _spellings(*child, pair[5])
        up.setdefault(child, set()).add(parent)
        down.setdefault(parent, set()).add(child)
    return {
        spelling: frozenset(_reached(name, up) | _reached(name, down))
        for name, spelled in spellings.items()
        for spelling in spelled
    }


def _reached(start: Name, steps: Mapping[Name, set[Name]]) -> set[Name]:
    found: set[Name] = set()
    waiting = set(steps.get(start, ()))
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= steps.get(name, set()) - found
    return found
