"""The recorder writes into the ledger what each statement of a tracked engine changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Table
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.sql.dml import Delete, Insert, Update, UpdateBase

from cachedorm.orm.database.catalog import Facts, Name
from cachedorm.orm.interest.cascades import Cascade, CascadeEffect, Cascades
from cachedorm.orm.interest.declared_writes import DeclaredWrites
from cachedorm.orm.interest.tables import Interests, TableInterest
from cachedorm.orm.tracking.affected_rows import (
    Affected,
    AffectedRow,
    CascadeTargets,
    Change,
    overlaid,
    primary_key,
    wanted,
)
from cachedorm.orm.tracking.inserts import (
    add_generated_keys,
    changed_on_conflict,
    is_certain,
    rows_to_insert,
)
from cachedorm.orm.tracking.ledger import Ledger
from cachedorm.orm.tracking.statement_rows import (
    UNKNOWN_VALUE,
    StatementParameters,
    set_values,
    table_of,
)

Relatives = tuple[Table, ...]


class RelatedTables:
    """Which known tables' rows change when a table is written, by what the catalogue says."""

    __slots__ = ("_answers", "_interests")

    def __init__(self, interests: Interests) -> None:
        self._interests = interests
        self._answers: WeakKeyDictionary[Facts, dict[Name, Relatives]] = WeakKeyDictionary()

    def of(self, facts: Facts, table: Table) -> Relatives | None:
        """The tables that share rows with this one; None if any may (it is a view, or has rules).

        Mostly none, and then the answer costs two look-ups.
        """
        name = (table.schema, table.name)
        if name in facts.anything:
            return None
        if name not in facts.kin:
            return ()
        answers = self._answers.setdefault(facts, {})
        if name not in answers:
            found = (self._interests.tables(*each) for each in sorted(facts.kin[name]))
            answers[name] = tuple(each for tables in found for each in tables)
        return answers[name]


@dataclass(frozen=True, slots=True)
class Pending:
    """A running statement: what to record or check when it has run.

    It holds the statement, so that no other can have its id meanwhile.
    """

    statement: UpdateBase
    interest: TableInterest | None
    # How many rows were found beforehand; with another count others came between, and then all of
    # the affected tables' rows are.
    expected: int | None = None
    doubtful: tuple[TableInterest, ...] = ()
    # Rows that are written, and locked, if the count is the expected one.
    written: list[AffectedRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TrackedTable:
    """What follows from a write to one table, whatever its rows are."""

    interest: TableInterest | None
    # The registered names of this table, and of those that the database writes along with it.
    written: frozenset[str]
    # What the triggers on it write, as declared.
    unseen: tuple[TableInterest, ...]
    # The followed children, for an UPDATE of any column.
    deletes: CascadeTargets
    updates: CascadeTargets


class Recorder:
    """Records writes for the tables that one Cache follows."""

    __slots__ = ("_cascades", "_interests", "_kinship", "_tables", "_unseen")

    def __init__(self, interests: Interests, cascades: Cascades, unseen: DeclaredWrites) -> None:
        self._interests = interests
        self._kinship = RelatedTables(interests)
        self._cascades = cascades
        self._unseen = unseen
        self._tables: dict[Table, TrackedTable] = {}

    def before(
        self,
        connection: Connection,
        ledger: Ledger,
        statement: UpdateBase,
        parameters: Sequence[StatementParameters],
    ) -> None:
        """Record an INSERT, UPDATE or DELETE that is about to run."""
        ledger.written = True
        ledger.recorded[id(statement)] = statement
        table = table_of(statement)
        tracked = None if table is None else self._tables.get(table) or self._tracked(table)
        if table is None or tracked is None:
            # A view, a partition, an alias: any table may be behind it.
            ledger.touch_everything(self._interests)
            return
        ledger.tables.add(tracked.written, self._interests.known)
        if tracked.unseen:
            self._touch_all(ledger, tracked.unseen)
        if ledger.facts.kin or ledger.facts.anything:
            self.spread(ledger, table)
        if isinstance(statement, Insert):
            self._before_insert(ledger, statement, table)
        elif isinstance(statement, Update | Delete):
            self._before_change(connection, ledger, statement, parameters, table, tracked)
        else:
            self.write_unknown(ledger, table)

    def foretell(self, ledger: Ledger, statement: Insert, context: Any) -> None:
        """Record what the parameters of an INSERT say, before it runs.

        For one that is committed as soon as it has run.
        """
        pending = ledger.pending.get(id(statement))
        table = table_of(statement)
        if pending is None or pending.interest is None or table is None:
            return
        interest = pending.interest
        rows = rows_to_insert(statement, table, interest, context)
        if rows is None:
            ledger.touch_all(interest)
        for row in rows or ():
            # A key that the database generates is recorded afterwards.
            if all(column.name in row for column in interest.primary_key):
                ledger.touch(interest, row, context.dialect)

    def after(self, ledger: Ledger, statement: UpdateBase, result: CursorResult[Any]) -> None:
        """Record what only the statement's result says."""
        pending: Pending | None = ledger.pending.pop(id(statement), None)
        if pending is None:
            return
        if isinstance(statement, Insert):
            self._after_insert(ledger, statement, pending, result)
        elif result.rowcount != pending.expected:
            self._touch_all(ledger, pending.doubtful)
        elif pending.interest is not None:
            for row in pending.written:
                ledger.offer(pending.interest, row, result.dialect)

    def unrecorded(self, ledger: Ledger, statement: UpdateBase) -> None:
        """A statement runs that ``before`` has not seen: compiled already, or another's doing."""
        table = table_of(statement)
        if table is None or not self._interests.knows(table):
            ledger.written = True
            ledger.touch_everything(self._interests)
        else:
            self.write_unknown(ledger, table)

    def write_unknown(self, ledger: Ledger, table: Table) -> None:
        """Record that unknown rows of this table are written."""
        ledger.written = True
        self.spread(ledger, table)
        self._write_all(ledger, table)

    def spread(self, ledger: Ledger, table: Table) -> None:
        """The written rows are those of other tables too: of its partitions, of what it views."""
        relatives = self._kinship.of(ledger.facts, table)
        if relatives is None:
            ledger.touch_everything(self._interests)
        for each in relatives or ():
            self._write_all(ledger, each)
        # Others may cache over relatives that are not mapped here.
        for name in ledger.facts.kin.get((table.schema, table.name), ()):
            ledger.wrote_named(self._interests, *name)

    def _tracked(self, table: Table) -> TrackedTable | None:
        """What follows from a write to this table; None if no mapped class's metadata holds it."""
        return self._track(table) if self._interests.knows(table) else None

    def _track(self, table: Table) -> TrackedTable:
        found = TrackedTable(
            self._interests[table],
            frozenset(self._interests.written_with(table)),
            self._unseen.of(table),
            self._attachment(table, CascadeEffect.DELETE),
            self._attachment(table, CascadeEffect.UPDATE),
        )
        # Not those that an application makes as it goes: they would all be kept.
        if any(table is each for each in self._interests.tables(table.schema, table.name)):
            self._tables[table] = found
        return found

    def _write_all(self, ledger: Ledger, table: Table) -> None:
        ledger.wrote(self._interests, table)
        interest = self._interests[table]
        if interest is not None:
            ledger.touch_all(interest)
        self._touch_all(ledger, self._unseen.of(table))
        for effect in (CascadeEffect.DELETE, CascadeEffect.UPDATE):
            self._touch_all(ledger, _interests_of(self._attachment(table, effect)))

    def _before_insert(self, ledger: Ledger, statement: Insert, table: Table) -> None:
        changed = changed_on_conflict(statement)
        if changed is None:
            self.write_unknown(ledger, table)
        elif changed:
            cascades = self._attachment(table, CascadeEffect.UPDATE, changed)
            self._touch_all(ledger, _interests_of(cascades))
        interest = self._interests[table]
        if interest is not None:
            ledger.pending[id(statement)] = Pending(statement, interest)

    def _after_insert(
        self, ledger: Ledger, statement: Insert, pending: Pending, result: CursorResult[Any]
    ) -> None:
        interest, table = pending.interest, table_of(statement)
        assert interest is not None
        assert table is not None
        rows = rows_to_insert(statement, table, interest, result.context)
        if rows is None:
            ledger.touch_all(interest)
            return
        add_generated_keys(rows, interest, result)
        certain = is_certain(statement, rows, ledger.inserted)
        for row in rows:
            ledger.touch(interest, row, result.dialect)
            if certain:
                ledger.offer(interest, row, result.dialect)

    def _before_change(
        self,
        connection: Connection,
        ledger: Ledger,
        statement: Update | Delete,
        parameters: Sequence[StatementParameters],
        table: Table,
        tracked: TrackedTable,
    ) -> None:
        effect = CascadeEffect.DELETE if isinstance(statement, Delete) else CascadeEffect.UPDATE
        if ledger.facts.kin:
            for cascade in self._cascades.of(table, effect):
                self.spread(ledger, cascade.table)
        interest = tracked.interest
        cascades = tracked.deletes if effect is CascadeEffect.DELETE else tracked.updates
        if interest is None and not cascades:
            return
        sets = None
        if isinstance(statement, Update):
            sets = [set_values(statement, table, each) for each in parameters]
            if cascades:
                columns = frozenset(name for each in sets for name in each)
                cascades = self._attachment(table, effect, columns)
        held = ledger.text_transaction_open or not ledger.autocommits
        affected = Affected(connection, statement, table, parameters, held=held)
        exact: CascadeTargets = ()
        if cascades:
            exact = [each for each in cascades if each[0].exact]
            self._touch_all(ledger, _interests_of(each for each in cascades if not each[0].exact))
        change = Change(statement, table, interest, affected, sets, connection.dialect)
        if interest is not None and affected.keys is not None and not interest.watched:
            self._touch_named(ledger, interest, change)
            if not exact:
                return
        elif interest is None and not exact:
            return
        self._touch_selected(ledger, change, exact)

    def _touch_named(self, ledger: Ledger, interest: TableInterest, change: Change) -> None:
        """The filter names the rows by all that their entries' keys are made of."""
        named, written = change.affected.named, []
        keys = interest.primary_key_names
        for row, new in zip(named, change.sets or [{}] * len(named), strict=True):
            ledger.touch(interest, row, change.dialect)
            moved = not keys.isdisjoint(new)
            if moved:
                ledger.touch(interest, overlaid(row, new), change.dialect)
            written.append(overlaid(row, new) if moved else row)
        if interest.through and change.sets is not None:
            expected = len(set(change.affected.keys or ()))
            ledger.pending[id(change.statement)] = Pending(
                change.statement, interest, expected, written=written
            )

    def _touch_selected(self, ledger: Ledger, change: Change, exact: CascadeTargets) -> None:
        """What the rows' keys were, and which rows refer to them, only the database can say."""
        affected, interest = change.affected, change.interest
        doubtful = tuple(_interests_of(exact))
        if interest is not None and (affected.keys is None or interest.watched):
            doubtful += (interest,)
        rows = None
        if affected.can_select:
            columns = wanted(change.table, interest, exact)
            rows = affected.rows(columns, for_key=change.for_key(exact))
        if rows is None:
            self._touch_all(ledger, doubtful)
            return
        written = self._touch_rows(ledger, change, rows) if interest in doubtful else []
        for cascade, child in exact:
            self._touch_children(ledger, change, cascade, child, rows)
        complete = affected.is_complete(rows)
        if not complete or written:
            ledger.pending[id(change.statement)] = Pending(
                change.statement, interest, len(rows), () if complete else doubtful, written
            )

    def _touch_rows(
        self, ledger: Ledger, change: Change, rows: Sequence[AffectedRow]
    ) -> list[AffectedRow]:
        interest, written = change.interest, []
        assert interest is not None
        news = change.news()
        for old in rows:
            ledger.touch(interest, old, change.dialect)
            if change.sets is None:
                continue
            key = primary_key(change.table, old)
            new = change.sets[0] if len(change.sets) == 1 else news.get(key or ())
            # A row that no parameter set names: its new values are unknown.
            now = {} if new is None else overlaid(old, new)
            ledger.touch(interest, now, change.dialect)
            written.append(now)
        return written if interest.through else []

    def _touch_children(
        self,
        ledger: Ledger,
        change: Change,
        cascade: Cascade,
        interest: TableInterest,
        parents: Sequence[AffectedRow],
    ) -> None:
        rows = change.affected.children(interest, cascade, parents)
        if rows is None:
            ledger.touch_all(interest)
        changed = cascade.columns or ()
        for row in rows or ():
            ledger.touch(interest, row, change.dialect)
            if cascade.effect is CascadeEffect.UPDATE and any(name in row for name in changed):
                now = overlaid(row, dict.fromkeys(changed, UNKNOWN_VALUE))
                ledger.touch(interest, now, change.dialect)

    def _touch_all(self, ledger: Ledger, interests: Iterable[TableInterest]) -> None:
        for interest in interests:
            ledger.touch_all(interest)

    def _attachment(
        self, table: Table, effect: CascadeEffect, columns: frozenset[str] | None = None
    ) -> list[tuple[Cascade, TableInterest]]:
        cascades = self._cascades.of(table, effect, columns)
        found = ((cascade, self._interests[cascade.table]) for cascade in cascades)
        return [(cascade, interest) for cascade, interest in found if interest is not None]


def _interests_of(cascades: Iterable[tuple[Cascade, TableInterest]]) -> Iterable[TableInterest]:
    return (interest for _, interest in cascades)
