"""What PostgreSQL's catalogue says of tables that mapped columns do not: which are no plain tables.

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
       c.relrowsecurity, t.triggered
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
_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table"}
_SECURED = "row-level security"
# What to say of each, once.
REFUSALS = {
    **{kind: f"a {kind} changes when other tables are written" for kind in _KINDS.values()},
    _SECURED: "under row-level security a row is not for everyone who knows its key",
}

# Schema and name; None is whatever the search path finds.
Name = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """The relations of one database that are no plain tables."""

    # Why rows of this relation are never served.
    refused: Mapping[Name, str] = field(default_factory=dict)
    # Tables whose written rows may not be what the statement wrote.
    triggered: frozenset[Name] = frozenset()

    def why_refused(self, tables: Iterable[Any]) -> str | None:
        """Why rows of these tables are not served, or None."""
        for table in tables:
            reason = self.refused.get((table.schema, table.name))
            if reason is not None:
                return reason
        return None

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
    finally:
        cursor.close()
    refused: dict[Name, str] = {}
    triggered: set[Name] = set()
    for schema, name, visible, kind, secured, is_triggered in rows:
        names: list[Name] = [(schema, name)] + ([(None, name)] if visible else [])
        reason = _KINDS.get(kind, _SECURED if secured else None)
        if reason is not None:
            refused.update(dict.fromkeys(names, reason))
        if is_triggered:
            triggered.update(names)
    return Facts(refused, frozenset(triggered))
