"""SQL text and data-modifying CTEs into the ledger: the wildcards of the tables they write."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.visitors import iterate

from cachedorm.orm.cascades import Cascades
from cachedorm.orm.cascades import Effect as CascadeEffect
from cachedorm.orm.interest import Interests
from cachedorm.orm.ledger import Ledger
from cachedorm.orm.recorder import Recorder
from cachedorm.orm.sqleffect import Effect, Ending, RelationName
from cachedorm.orm.sqlnames import Everything, resolve
from cachedorm.orm.sqltext import read_sql

_NO_CASE = frozenset({"sqlite", "mysql", "mariadb"})


class TextRecorder:
    """Records what SQL text writes, for the tables that one Cache follows."""

    __slots__ = ("_cascades", "_interests", "_tables")

    def __init__(
        self, interests: Interests, cascades: Cascades, tables: dict[tuple[str | None, str], Table]
    ) -> None:
        self._interests = interests
        self._cascades = cascades
        self._tables = tables

    def record(self, connection: Connection, ledger: Ledger, sql: str) -> Ending | None:
        """Record one text that is about to run; says which transaction end it is, if any."""
        dialect = connection.dialect
        effect = read_sql(sql, dialect.name)
        if effect.harmless:
            return None
        ledger.opaque = ledger.opaque or effect.opaque
        ledger.lingering = ledger.lingering or effect.lingers
        if effect.everything:
            self.everything(ledger)
        elif effect.writes:
            schema = getattr(dialect, "default_schema_name", None)
            self._record_names(ledger, effect, schema, dialect.name in _NO_CASE)
        return effect.ends_transaction

    def everything(self, ledger: Ledger) -> None:
        """It is not known what is written."""
        ledger.written = True
        ledger.touch_everything(self._interests)

    def record_ctes(self, ledger: Ledger, compiled: Any, recorder: Recorder) -> None:
        """Record the INSERT, UPDATE and DELETE inside a statement's CTEs."""
        for cte in compiled.ctes:
            for element in iterate(cte.element):
                if not isinstance(element, UpdateBase):
                    continue
                table = getattr(element, "table", None)
                if not isinstance(table, Table) or not self._interests.knows(table):
                    self.everything(ledger)
                else:
                    recorder.write_unknown(ledger, table)

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
            tables = self._resolved(names, schema, any_case)
            if tables is None:
                self.everything(ledger)
                return
            for table in tables:
                self._touch(ledger, table, cascade)

    def _resolved(
        self, names: frozenset[RelationName], schema: str | None, any_case: bool
    ) -> set[Table] | None:
        found = resolve(names, self._tables, set(), None, schema, any_case=any_case)
        return None if isinstance(found, Everything) else found

    def _touch(self, ledger: Ledger, table: Table, effect: CascadeEffect | None) -> None:
        touched = (
            [table]
            if effect is None
            else [cascade.table for cascade in self._cascades.of(table, effect, None)]
        )
        for each in touched:
            interest = self._interests[each]
            if interest is not None:
                ledger.touch_all(interest)
