"""When a read must go past the cache: the rules that keep a session's view its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Mapper, Session

from cachedorm.orm.compat import session_binds, session_options
from cachedorm.orm.follow import EngineFollower
from cachedorm.orm.ledger import Ledger, ledger_if_any
from cachedorm.orm.profile import isolation_of

# Finds the follower of an engine; None if no Cache follows it.
FollowerOf = Callable[[Engine], EngineFollower | None]


def why_bypass(
    session: Session, mapper: Mapper[Any] | None, follower_of: FollowerOf
) -> str | None:
    """The reason for which this session's next read must be the database's, or None.

    Answers without SQL, and without a connection if the session has none.
    """
    private: Any = session
    if private._new or private._deleted or session.identity_map._modified:  # type: ignore[attr-defined]
        return "unflushed changes"
    if session_options(session):
        return "session execution options"
    if len(session.dispatch.do_orm_execute) > 1:
        return "own do_orm_execute listener"
    transaction = private._transaction
    if transaction is None:
        if not session.autobegin:
            return "no transaction begun"
    elif not transaction.is_active:
        return "inactive transaction"
    else:
        open_connections = False
        for connection in _connections(transaction):
            open_connections = True
            reason = _why_connection(connection, follower_of)
            if reason is not None:
                return reason
        if open_connections and not session_binds(session):
            return None
    bind = _bind(session, mapper)
    if isinstance(bind, Connection):
        return _why_connection(bind, follower_of)
    return _why_engine(bind, follower_of)


def why_not_publish(connection: Connection, follower_of: FollowerOf) -> str | None:
    """The reason for which rows read on this connection must not be published, or None."""
    return _why_connection(connection, follower_of, fresh=True)


def _connections(transaction: Any) -> Iterator[Connection]:
    # Nested transactions share the connections of their root; it alone lists them all.
    while transaction.parent is not None:
        transaction = transaction.parent
    seen = set()
    for entry in transaction._connections.values():
        connection = entry[0]
        if id(connection) not in seen:
            seen.add(id(connection))
            yield connection


def _bind(session: Session, mapper: Mapper[Any] | None) -> Engine | Connection:
    plain = type(session).get_bind is Session.get_bind and not session_binds(session)
    if plain and session.bind is not None:
        return session.bind
    return session.get_bind() if mapper is None else session.get_bind(mapper)


def _why_engine(engine: Engine, follower_of: FollowerOf) -> str | None:
    follower = follower_of(engine)
    if follower is None:
        return "engine not followed"
    if follower.profile is None:
        follower.know()
    profile = follower.profile
    assert profile is not None
    if follower.replica or not follower.publish:
        return "replica"
    options = engine.get_execution_options()
    if options:
        if options.get("schema_translate_map"):
            return "schema_translate_map"
        if profile.reads_old(options.get("isolation_level") or follower.isolation):
            return "isolation level"
    elif profile.reads_old(follower.isolation):
        return "isolation level"
    return None


def _why_connection(
    connection: Connection, follower_of: FollowerOf, *, fresh: bool = False
) -> str | None:
    ledger: Ledger | None = ledger_if_any(connection)
    if ledger is None or ledger.profile is None:
        return "connection not followed"
    if ledger.written:
        return "own writes"
    if ledger.opaque:
        return "changed session state"
    follower = follower_of(connection.engine)
    if follower is None:
        return "engine not followed"
    profile = ledger.profile
    if profile.replica or not follower.publish:
        return "replica"
    if profile.snapshot and not fresh:
        return "open snapshot"
    options = connection.get_execution_options()
    if options and options.get("schema_translate_map"):
        return "schema_translate_map"
    if profile.reads_old(isolation_of(connection)):
        return "isolation level"
    return None
