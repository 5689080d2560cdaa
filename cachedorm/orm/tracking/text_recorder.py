"""SQL text and data-modifying CTEs into the ledger: the wildcards of the tables they write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import TextualSelect
from sqlalchemy.sql.visitors import iterate

from cachedorm.orm.interest.cascades import CascadeEffect, Cascades
from cachedorm.orm.interest.declared_writes import DeclaredWrites
from cachedorm.orm.interest.tables import Interests
from cachedorm.orm.sql.effect import Effect
from cachedorm.orm.sql.names import Everything, resolve
from cachedorm.orm.sql.reader import read_sql
from cachedorm.orm.tracking.ledger import Ledger
from cachedorm.orm.tracking.recorder import Recorder
from cachedorm.orm.tracking.statement_rows import table_of


class TextRecorder:
    """Records what SQL text writes, for the tables that one Cache follows."""

    __slots__ = ("_cascades", "_interests", "_recorder", "_tables", "_unseen")

    def __init__(
        self,
        interests: Interests,
        cascades: Cascades,
        unseen: DeclaredWrites,
        recorder: Recorder,
        tables: dict[tuple[str | None, str], Table],
    ) -> None:
        self._interests = interests
        self._cascades = cascades
        self._unseen = unseen
        self._recorder = recorder
        self._tables = tables

    def record(self, connection: Connection, ledger: Ledger, sql: str) -> Effect:
        """Record one text that is about to run, and say what it may do."""
        dialect = connection.dialect
        effect = read_sql(sql, dialect.name)
        if ledger.through and "rollback" in sql.lower():
            ledger.unlock()  # to a savepoint, which is nothing else to us
        if effect.harmless:
            return effect
        ledger.state_unknown = ledger.state_unknown or effect.opaque
        ledger.session_state_persists = ledger.session_state_persists or effect.lingers
        if effect.everything:
            self.everything(ledger)
        elif effect.writes:
            schema = getattr(dialect, "default_schema_name", None)
            self._record_names(ledger, effect, schema, dialect.name == "sqlite")
        return effect

    def everything(self, ledger: Ledger) -> None:
        """It is not known what is written."""
        ledger.written = True
        ledger.touch_everything(self._interests)

    def record_declared(self, ledger: Ledger, names: object) -> None:
        """Record the tables that a statement's execution option says are written."""
        for table in self._unseen.named(names):
            self._recorder.write_unknown(ledger, table)

    def record_ctes(self, connection: Connection, ledger: Ledger, compiled: Any, sql: str) -> None:
        """Record the INSERT, UPDATE and DELETE inside a statement's CTEs."""
        for cte in compiled.ctes:
            if isinstance(cte.element, TextualSelect):
                self.record(connection, ledger, sql)
                return
            for element in iterate(cte.element):
                if not isinstance(element, UpdateBase):
                    continue
                table = table_of(element)
                if table is None or not self._interests.knows(table):
                    self.everything(ledger)
                else:
                    self._recorder.write_unknown(ledger, table)

    def _record_names(
        self, ledger: Ledger, effect: Effect, schema: str | None, any_case: bool
    ) -> None:
        ledger.written = True
        for names, cascade in (
            (effect.writes, None),
            (effect.deletes, CascadeEffect.DELETE),
            (effect.updates, CascadeEffect.UPDATE),
            (effect.truncates_cascade, CascadeEffect.TRUNCATE_CASCADE),
        ):
            found = resolve(names, self._tables, schema, any_case=any_case)
            if isinstance(found, Everything):
                self.everything(ledger)
                return
            for table in found:
                self._recorder.spread(ledger, table)
                self._touch(ledger, table, cascade)

    def _touch(self, ledger: Ledger, table: Table, effect: CascadeEffect | None) -> None:
        touched: Iterable[Table] = (table,)
        ledger.wrote(self._interests, table)
        if effect is CascadeEffect.TRUNCATE_CASCADE:
            # Tables that we have never heard of may refer to it.
            ledger.tables.add_everything(self._interests.known)
        if effect is None:
            for unseen in self._unseen.of(table):
                ledger.touch_all(unseen)
        else:
            touched = (cascade.table for cascade in self._cascades.of(table, effect, None))
        for each in touched:
            interest = self._interests[each]
            if interest is not None:
                ledger.touch_all(interest)
