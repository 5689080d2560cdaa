"""Track an engine: record its statements in the ledger, notify Redis before and after commits.

Two moments matter, just before and just after the DBAPI's COMMIT. No public event fires at the
second, so the dialect instance's own commit and rollback methods are wrapped; Session, Core, async
and two-phase all pass through them, and ``unfollow`` takes the wrapping off again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, CursorResult, Engine, ExceptionContext
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import CompoundSelect, Select
from sqlalchemy.util.concurrency import in_greenlet

from cachedorm.observe import Observer
from cachedorm.orm.database.catalog import NO_FACTS, facts_of
from cachedorm.orm.database.profile import (
    Profile,
    is_autocommit,
    is_driver_autocommit,
    profile_of,
    unnoticed,
)
from cachedorm.orm.interest.declared_writes import OPTION
from cachedorm.orm.sql.effect import READ, Effect
from cachedorm.orm.sql.reader import may_call
from cachedorm.orm.tracking.commits import Commits, give_up
from cachedorm.orm.tracking.ledger import Ledger, ledger_of
from cachedorm.orm.tracking.statement_rows import parameter_sets
from cachedorm.orm.tracking.two_phase import TwoPhase
from cachedorm.orm.tracking.write_index import WriteIndex
from cachedorm.orm.tracking.write_through import WriteThroughRows
from cachedorm.store.entries.provenance import refuse

_STRUCTURAL = (Select, CompoundSelect, UpdateBase)


class EngineTracker:
    """Follows the writes of one root engine for one Cache."""

    __slots__ = (
        "_commits",
        "_index",
        "_new_rows",
        "_schemas",
        "_token",
        "_two_phase",
        "engine",
        "facts",
        "isolation",
        "listeners",
        "observer",
        "profile",
        "publish",
        "replica",
    )

    def __init__(
        self,
        engine: Engine,
        index: Callable[[], WriteIndex],
        commits: Commits,
        new_rows: WriteThroughRows,
        schemas: set[str],
        *,
        publish: bool,
        observer: Observer,
    ) -> None:
        self.engine = engine
        # What statements are recorded by; asked for each, as models may have come.
        self._index = index
        # Ledgers keep this of us: they stay on pooled connections when we are long gone.
        self._token = object()
        self._commits = commits
        self._two_phase = TwoPhase(commits)
        self._new_rows = new_rows
        # Where a table without a schema may be; what connections say is added.
        self._schemas = schemas
        self.publish = publish
        self.observer = observer
        self.profile: Profile | None = None
        # Which relations of the database are not plain tables, as its newest connection saw it.
        self.facts = NO_FACTS
        self.replica = False
        # The level that create_engine(isolation_level=) asked for, None if the server's stands.
        self.isolation: str | None = engine.dialect._on_connect_isolation_level
        self.listeners: list[tuple[str, Callable[..., Any]]] = [
            ("begin", self.begin),
            ("begin_twophase", self._begin_twophase),
            ("before_execute", self._before_execute),
            ("after_execute", self._after_execute),
            ("before_cursor_execute", self._before_cursor_execute),
            ("after_cursor_execute", self._after_cursor_execute),
            ("handle_error", self._handle_error),
            ("rollback_savepoint", self._rollback_savepoint),
            ("commit", self._commit),
        ]

    def follow(self) -> None:
        """Start to listen."""
        for name, listener in self.listeners:
            event.listen(self.engine, name, listener)
        self._commits.wrap(self.engine.dialect)
        self._two_phase.wrap(self.engine.dialect)

    def unfollow(self) -> None:
        """Leave the engine as it was."""
        for name, listener in self.listeners:
            event.remove(self.engine, name, listener)
        self._two_phase.unwrap(self.engine.dialect)
        self._commits.unwrap(self.engine.dialect)

    @property
    def tells(self) -> bool:
        """Whether ``know`` can be asked here: an async engine connects in greenlets only."""
        return self.profile is not None or not self.engine.dialect.is_async or in_greenlet()

    def know(self) -> Profile:
        """What this engine's connections reach; makes one if none was seen yet."""
        if self.profile is None:
            with self.engine.connect() as connection:
                self.begin(connection)
        assert self.profile is not None
        return self.profile

    def begin(self, connection: Connection) -> None:
        """Learn what this connection reaches, the first time it is seen."""
        ledger = ledger_of(connection)
        # Another tracker of this engine may have examined the pooled connection before us.
        if ledger.profile is None or self.profile is None:
            with unnoticed(connection):
                ledger.profile = profile_of(connection)
                facts = facts_of(connection)
            if not facts.same(self.facts):
                self.facts = facts
            self._learn(connection, ledger.profile)
        ledger.facts = self.facts
        ledger.autocommits = is_driver_autocommit(connection) or is_autocommit(connection)
        ledger.begun_by = self._token

    def _begin_twophase(self, connection: Connection, xid: Any) -> None:
        self.begin(connection)

    def has_begun(self, connection: Connection) -> bool:
        """Whether the open transaction of this connection was seen to begin."""
        return ledger_of(connection).begun_by is self._token and self.profile is not None

    def _ledger(self, connection: Connection) -> Ledger:
        """The ledger of a connection that is about to execute something."""
        ledger = ledger_of(connection)
        if ledger.begun_by is not self._token or not connection.in_transaction():
            # Its transaction was open when we came; or it begins after this event, and the ledger
            # still says what the pooled connection's last one was.
            ledger.autocommits = is_driver_autocommit(connection) or is_autocommit(connection)
        return ledger

    def _learn(self, connection: Connection, profile: Profile) -> None:
        self.profile = profile
        self.replica = profile.replica
        schemas = profile.schemas.split(",") if profile.schemas else ()
        default = getattr(connection.dialect, "default_schema_name", None)
        self._schemas.update(schemas or ([default] if default else ()))

    def _before_execute(
        self,
        connection: Connection,
        statement: Any,
        multiparams: Sequence[Any],
        params: Any,
        options: Any,
    ) -> None:
        if not isinstance(statement, UpdateBase):
            return
        ledger = self._ledger(connection)
        if options.get("schema_translate_map"):
            ledger.recorded[id(statement)] = statement
            # Other tables than the statement says, and other schemas' rows are cached nowhere.
            self._index().texts.everything(ledger)
        else:
            sets = parameter_sets(multiparams, params)
            self._index().recorder.before(connection, ledger, statement, sets)

    def _after_execute(
        self,
        connection: Connection,
        statement: Any,
        multiparams: Any,
        params: Any,
        options: Any,
        result: CursorResult[Any],
    ) -> None:
        if isinstance(statement, UpdateBase):
            ledger = ledger_of(connection)
            ledger.recorded.pop(id(statement), None)
            if id(statement) in ledger.pending:
                self._index().recorder.after(ledger, statement, result)
            if ledger.autocommits and not ledger.text_transaction_open:
                self._commits.after_autocommit(ledger)

    def _before_cursor_execute(
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        ledger = self._ledger(connection)
        if ledger.suspended:
            return
        # Statements that a cached read executes are not recorded.
        refuse("sql", statement)
        if ledger.values and not context.execution_options.get("cachedorm_own"):
            # A listener of the application's writes at the commit, after the new rows were read.
            ledger.values.clear()
        effect = self._record(connection, ledger, statement, context)
        if ledger.autocommits and not ledger.text_transaction_open:
            self._before_alone(ledger, effect, context)
        elif effect.ends_transaction is not None:
            self._commits.before_ending(ledger, effect)

    def _record(
        self, connection: Connection, ledger: Ledger, statement: str, context: Any
    ) -> Effect:
        names = context.execution_options.get(OPTION)
        if names is not None:
            self._index().texts.record_declared(ledger, names)
        compiled = context.compiled
        if compiled is None or not isinstance(compiled.statement, _STRUCTURAL):
            return self._index().texts.record(connection, ledger, statement)
        if compiled.ctes:
            self._index().texts.record_ctes(connection, ledger, compiled, statement)
        if (
            isinstance(compiled.statement, UpdateBase)
            and id(context.invoked_statement) not in ledger.recorded
        ):
            # It was compiled already, or another listener put it in the place of a recorded one.
            self._index().recorder.unrecorded(ledger, compiled.statement)
        if may_call(statement):
            self._index().texts.record(connection, ledger, statement)
        return READ

    def _before_alone(self, ledger: Ledger, effect: Effect, context: Any) -> None:
        if effect.begins:
            if effect.ends_transaction is not None:
                self._commits.before_ending(ledger, effect)
            else:
                ledger.text_transaction_open = True
            return
        if context.isinsert:
            self._index().recorder.foretell(ledger, context.invoked_statement, context)
        self._commits.before_autocommit(ledger)

    def _after_cursor_execute(
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        ledger = ledger_of(connection)
        if context.isinsert and ledger.pending:
            ledger.inserted = cursor.rowcount
        if ledger.ending_effect is not None:
            self._commits.after_ending(ledger)
            return
        if (
            not ledger.written
            or ledger.suspended
            or id(context.invoked_statement) in ledger.recorded
        ):
            return  # of what is recorded after_execute follows, and knows more
        if ledger.autocommits and not ledger.text_transaction_open:
            self._commits.after_autocommit(ledger)

    def _handle_error(self, context: ExceptionContext) -> None:
        connection = context.connection
        if connection is None or connection.closed or connection.invalidated:
            return
        ledger = ledger_of(connection)
        ledger.pending.clear()
        ledger.recorded.clear()
        if ledger.suspended:
            return
        if ledger.ending_effect is not None or (
            ledger.autocommits and not ledger.text_transaction_open
        ):
            self._commits.failed_alone(ledger, context.original_exception, connection)

    def _rollback_savepoint(self, connection: Connection, name: str, context: Any) -> None:
        ledger_of(connection).unlock()

    def _commit(self, connection: Connection) -> None:
        ledger = ledger_of(connection)
        if not ledger.through:
            return
        try:
            self._new_rows.read(connection, ledger)
        except Exception:
            give_up(connection.connection, ledger)
            raise

    def __repr__(self) -> str:
        return f"<EngineTracker {self.engine.url!r} publish={self.publish}>"
