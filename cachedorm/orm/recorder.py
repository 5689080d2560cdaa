"""The recorder writes into the ledger what each statement of a followed engine changes.

Exact rows where the statement says which (its keys in the filter or in the parameters) or where a
SELECT of the rows just before says so; otherwise the table's wildcard. The old value of a key
column is always the one that the statement overwrites, read under a row lock, never the one that
the session remembers: another transaction may have moved the row since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection, CursorResult, Dialect
from sqlalchemy.sql.dml import Delete, Insert, Update, UpdateBase

from cachedorm.orm.affected import Affected, primary_key
from cachedorm.orm.cascades import Cascade, Cascades, Effect
from cachedorm.orm.inserts import rows_of_insert
from cachedorm.orm.interest import Interests, TableInterest
from cachedorm.orm.ledger import Ledger
from cachedorm.orm.rows import UNKNOWN, Parameters, set_values

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pending:
    """A statement on its way: what is still to be told, or checked, when it has run."""

    interest: TableInterest
    insert: Insert | None = None
    # How many rows were found beforehand; another count afterwards means that others came between.
    selected: int | None = None


class Recorder:
    """Records writes for the tables that one Cache follows."""

    __slots__ = ("_cascades", "_interests")

    def __init__(self, interests: Interests, cascades: Cascades) -> None:
        self._interests = interests
        self._cascades = cascades

    def before(
        self,
        connection: Connection,
        ledger: Ledger,
        statement: UpdateBase,
        parameters: Sequence[Parameters],
    ) -> None:
        """Record an INSERT, UPDATE or DELETE that is about to run."""
        ledger.written = True
        table = getattr(statement, "table", None)
        if not isinstance(table, Table) or not self._interests.knows(table):
            # A view, a partition, an alias: any table may be behind it.
            ledger.touch_everything(self._interests)
        elif isinstance(statement, Insert):
            interest = self._interests[table]
            if interest is not None:
                ledger.pending[id(statement)] = Pending(interest, insert=statement)
        elif isinstance(statement, Update | Delete):
            self._before_change(connection, ledger, statement, parameters, table)
        else:
            self.write_unknown(ledger, table)

    def after(self, ledger: Ledger, statement: UpdateBase, result: CursorResult[Any]) -> None:
        """Finish what only the statement's result can tell."""
        pending: Pending | None = ledger.pending.pop(id(statement), None)
        if pending is None:
            return
        if pending.insert is None:
            if result.rowcount != pending.selected:
                ledger.touch_all(pending.interest)
            return
        rows = rows_of_insert(pending.insert, pending.interest, result)
        if rows is None:
            ledger.touch_all(pending.interest)
        for row in rows or ():
            ledger.touch(pending.interest, row, result.dialect)

    def write_unknown(self, ledger: Ledger, table: Table) -> None:
        """Some rows of this table are written, nobody knows which."""
        ledger.written = True
        interest = self._interests[table]
        if interest is not None:
            ledger.touch_all(interest)
        for effect in (Effect.DELETE, Effect.UPDATE):
            for cascade in self._followed(self._cascades.of(table, effect)):
                ledger.touch_all(cascade[1])

    def _before_change(
        self,
        connection: Connection,
        ledger: Ledger,
        statement: Update | Delete,
        parameters: Sequence[Parameters],
        table: Table,
    ) -> None:
        sets = None
        if isinstance(statement, Update):
            sets = [set_values(statement, each) for each in parameters]
        interest = self._interests[table]
        cascades = self._followed(self._cascades_of(table, sets))
        if interest is None and not cascades:
            return
        affected = Affected(connection, statement, parameters)
        if cascades:
            self._record_cascades(ledger, affected, cascades, connection.dialect)
        if interest is None:
            return
        if affected.keys is not None and not interest.watched:
            self._touch_named(ledger, interest, affected, sets, connection.dialect)
        elif not affected.can_select:
            ledger.touch_all(interest)
        else:
            self._touch_selected(ledger, interest, affected, sets, connection.dialect)

    def _touch_named(
        self,
        ledger: Ledger,
        interest: TableInterest,
        affected: Affected,
        sets: Sequence[Row] | None,
        dialect: Dialect,
    ) -> None:
        for row, new in zip(affected.named, sets or [{}] * len(affected.named), strict=True):
            ledger.touch(interest, row, dialect)
            if any(column.name in new for column in interest.primary_key):
                ledger.touch(interest, _overlaid(row, new), dialect)

    def _touch_selected(
        self,
        ledger: Ledger,
        interest: TableInterest,
        affected: Affected,
        sets: Sequence[Row] | None,
        dialect: Dialect,
    ) -> None:
        rows = affected.rows(interest)
        if rows is None:
            ledger.touch_all(interest)
            return
        news: Mapping[Any, Row] = dict(zip(affected.keys or (), sets or (), strict=False))
        for old in rows:
            ledger.touch(interest, old, dialect)
            if sets is not None:
                key = primary_key(interest.table, old)
                new = sets[0] if len(sets) == 1 else news.get(key)
                # A row that no parameter set names: its new values are anybody's guess.
                ledger.touch(interest, {} if new is None else _overlaid(old, new), dialect)
        ledger.pending[id(affected.statement)] = Pending(interest, selected=len(rows))

    def _record_cascades(
        self,
        ledger: Ledger,
        affected: Affected,
        cascades: Sequence[tuple[Cascade, TableInterest]],
        dialect: Dialect,
    ) -> None:
        exact = affected.can_select and any(cascade.exact for cascade, _ in cascades)
        # Locked first: a child inserted after the SELECT below would be swept along unseen.
        locked = exact and affected.lock()
        for cascade, interest in cascades:
            rows = affected.children(interest, cascade) if locked and cascade.exact else None
            if rows is None:
                ledger.touch_all(interest)
            for row in rows or ():
                self._touch_child(ledger, interest, cascade, row, dialect)

    def _touch_child(
        self, ledger: Ledger, interest: TableInterest, cascade: Cascade, row: Row, dialect: Dialect
    ) -> None:
        ledger.touch(interest, row, dialect)
        changed = cascade.columns or ()
        if cascade.effect is Effect.UPDATE and any(name in row for name in changed):
            ledger.touch(interest, _overlaid(row, dict.fromkeys(changed, UNKNOWN)), dialect)

    def _cascades_of(self, table: Table, sets: Sequence[Row] | None) -> Sequence[Cascade]:
        if sets is None:
            return self._cascades.of(table, Effect.DELETE)
        columns = frozenset(name for each in sets for name in each)
        return self._cascades.of(table, Effect.UPDATE, columns)

    def _followed(self, cascades: Sequence[Cascade]) -> list[tuple[Cascade, TableInterest]]:
        found = ((cascade, self._interests[cascade.table]) for cascade in cascades)
        return [(cascade, interest) for cascade, interest in found if interest is not None]


def _overlaid(old: Row, new: Row) -> Row:
    """The row after the statement; columns whose new value is not known are left out."""
    return {name: value for name, value in {**old, **new}.items() if value is not UNKNOWN}
