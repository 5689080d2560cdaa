"""Following an engine: its statements go to the ledger, its commits tell Redis before and after.

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

from cachedorm.observe import Observer
from cachedorm.orm.commits import Commits
from cachedorm.orm.ledger import ledger_of
from cachedorm.orm.profile import Profile, is_autocommit, profile_of
from cachedorm.orm.recorder import Recorder
from cachedorm.orm.rows import parameter_sets
from cachedorm.orm.texts import TextRecorder

_STRUCTURAL = (Select, CompoundSelect, UpdateBase)


class EngineFollower:
    """Follows the writes of one root engine for one Cache."""

    __slots__ = (
        "_commits",
        "_recorder",
        "_texts",
        "engine",
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
        recorder: Callable[[], Recorder],
        texts: Callable[[], TextRecorder],
        commits: Commits,
        *,
        publish: bool,
        observer: Observer,
    ) -> None:
        self.engine = engine
        self._recorder = recorder
        self._texts = texts
        self._commits = commits
        self.publish = publish
        self.observer = observer
        self.profile: Profile | None = None
        self.replica = False
        # The level that create_engine(isolation_level=) asked for, None if the server's stands.
        self.isolation: str | None = engine.dialect._on_connect_isolation_level  # type: ignore[attr-defined]
        self.listeners: list[tuple[str, Callable[..., Any]]] = [
            ("begin", self.begin),
            ("before_execute", self._before_execute),
            ("after_execute", self._after_execute),
            ("before_cursor_execute", self._before_cursor_execute),
            ("after_cursor_execute", self._after_cursor_execute),
            ("handle_error", self._handle_error),
            ("commit", self._commit),
        ]

    def follow(self) -> None:
        """Start to listen."""
        for name, listener in self.listeners:
            event.listen(self.engine, name, listener)
        self._commits.wrap(self.engine.dialect)

    def unfollow(self) -> None:
        """Leave the engine as it was."""
        for name, listener in self.listeners:
            event.remove(self.engine, name, listener)
        self._commits.unwrap(self.engine.dialect)

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
        if ledger.profile is None:
            ledger.profile = profile_of(connection)
        elif self.profile is not None:
            return
        # A pooled connection may have been learnt by who followed this engine before.
        self.profile = ledger.profile
        self.replica = self.replica or ledger.profile.replica

    def _before_execute(
        self,
        connection: Connection,
        statement: Any,
        multiparams: Sequence[Any],
        params: Any,
        options: Any,
    ) -> None:
        if isinstance(statement, UpdateBase):
            ledger = ledger_of(connection)
            sets = parameter_sets(multiparams, params)
            self._recorder().before(connection, ledger, statement, sets)
            if options.get("schema_translate_map") or connection.get_execution_options().get(
                "schema_translate_map"
            ):
                self._texts().everything(ledger)

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
            self._recorder().after(ledger, statement, result)
            if is_autocommit(connection):
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
        ledger = ledger_of(connection)
        compiled = getattr(context, "compiled", None)
        ending = None
        if compiled is not None and isinstance(compiled.statement, _STRUCTURAL):
            if compiled.ctes:
                self._texts().record_ctes(ledger, compiled, self._recorder())
        else:
            ending = self._texts().record(connection, ledger, statement)
        if is_autocommit(connection):
            self._commits.before_autocommit(ledger)
        elif ending is not None and not ledger.prepared:
            self._commits.before_text(ledger, ending)

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
        if ledger.intent is None or ledger.prepared:
            return
        compiled = getattr(context, "compiled", None)
        if compiled is not None and isinstance(compiled.statement, UpdateBase):
            return  # after_execute follows, and knows more.
        self._commits.after_autocommit(ledger)

    def _handle_error(self, context: ExceptionContext) -> None:
        connection = context.connection
        if connection is None or connection.closed or connection.invalidated:
            return
        ledger = ledger_of(connection)
        ledger.pending.clear()
        if ledger.intent is not None and is_autocommit(connection):
            self._commits.failed_autocommit(ledger, context.original_exception, connection)

    def _commit(self, connection: Connection) -> None:
        ledger = ledger_of(connection)
        if ledger.through:
            self._commits.read_new_rows(connection, ledger)

    def __repr__(self) -> str:
        return f"<EngineFollower {self.engine.url!r} publish={self.publish}>"
