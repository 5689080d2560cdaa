"""The session class that ``attach`` gives to a factory: SQLAlchemy's own, with cached reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import event
from sqlalchemy.engine import IteratorResult
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlalchemy.orm.base import PASSIVE_OFF, RELATED_OBJECT_OK, SQL_OK

from cachedorm.declare.policies.model import Cached, KeyRead
from cachedorm.declare.queries.query import CacheOption
from cachedorm.declare.statement import ASKING_MORE, CalledStatement, QueryCall, call_of
from cachedorm.orm.database.compat import entity_result
from cachedorm.orm.reading.entities import Reader
from cachedorm.orm.reading.key_list import key_list
from cachedorm.orm.reading.many import ManyReader
from cachedorm.orm.reading.queries import QueryReader
from cachedorm.orm.reading.read_path import BYPASSED, note_session
from cachedorm.store.entries.provenance import current

if TYPE_CHECKING:
    _Base = Session
else:
    _Base = object

# Options of an execution that ask for more than the statement.
_MORE = frozenset({"execution_options", "bind_arguments", "_parent_execute_state", "_add_event"})
# Marks an execution that went past the cache already.
_PAST = {"cachedorm_past": True}
_FETCH = SQL_OK | RELATED_OBJECT_OK


class CachedReads(_Base):
    """Mixin in front of a Session class: cached reads are answered from the cache."""

    _cachedorm_reader: ClassVar[Reader]
    _cachedorm_queries: ClassVar[QueryReader]
    _cachedorm_many: ClassVar[ManyReader]

    def _cachedorm_get(self, entity: Any, ident: Any) -> Any:
        """What ``get`` answers without SQL of its own, or BYPASSED."""
        if not (isinstance(entity, type) and issubclass(entity, Cached)):
            return BYPASSED
        if current() is not None:
            note_session(self)
        identity = ident if type(ident) is tuple else (ident,)
        mapper: Mapper[Any] = entity.__mapper__  # type: ignore[attr-defined]
        try:
            state = self.identity_map._dict.get((mapper._identity_class, identity, None))
        except TypeError:
            return BYPASSED  # a dict or a list: SQLAlchemy knows what is meant
        if state is not None:
            instance = state.obj()
            if instance is not None and not state.expired and isinstance(instance, entity):
                return instance
            return BYPASSED
        return self._cachedorm_reader.get(self, mapper, identity)

    def _identity_lookup(  # type: ignore[override]
        self,
        mapper: Mapper[Any],
        primary_key_identity: Any,
        identity_token: Any = None,
        passive: Any = PASSIVE_OFF,
        lazy_loaded_from: Any = None,
        **options: Any,
    ) -> Any:
        note_session(self)
        found = super()._identity_lookup(
            mapper,
            primary_key_identity,
            identity_token=identity_token,
            passive=passive,
            lazy_loaded_from=lazy_loaded_from,
            **options,
        )
        if found is not None or lazy_loaded_from is None or passive & _FETCH != _FETCH:
            return found
        if identity_token is not None or not issubclass(mapper.class_, Cached):
            return None
        # Options of the statement that loaded the parent (criteria, raiseload) hold for its
        # lazy loads too, and only SQL applies them.
        if lazy_loaded_from.load_options or _may_raise(lazy_loaded_from.mapper, mapper):
            return None
        served = self._cachedorm_reader.get(self, mapper, tuple(primary_key_identity))
        # None goes on to SQL: a foreign key to a row that is not there is rare, and is checked.
        return None if served is BYPASSED else served

    def _execute_internal(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Answer the statement of a cached read before SQLAlchemy's layers are entered.

        Two doors answer a statement, and both are needed. This one takes a cached read that is
        executed as it is, without an ORMExecuteState, a compile state or events: a hit of three
        rows takes 0.4 times as long as through ``do_orm_execute`` (measured). That event sees all
        the others: executions with parameters or options, ad hoc queries and lists of keys. There
        ``_answer`` decides what may be served.
        """
        call = call_of(statement) if isinstance(statement, CalledStatement) else None
        if call is not None and not (
            params or any(map(options.get, _MORE))
        ):  # else do_orm_execute decides what may be served
            found = _called(self, call)
            if found is not BYPASSED:
                return found.scalar() if options.get("_scalar_result") else found
            options["execution_options"] = _PAST
        return super()._execute_internal(statement, params, **options)

    def _cachedorm_refresh(self, mapper: Mapper[Any], state: Any, names: Any) -> bool:
        return self._cachedorm_reader.refresh(self, mapper, state, names)


class DirectGet(CachedReads):
    """For session classes whose ``get`` is SQLAlchemy's: a hit passes none of its layers."""

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """As ``Session.get``; a hit needs neither a connection nor a transaction."""
        if not options or not _asks_more_of_get(options):
            found = self._cachedorm_get(entity, ident)
            if found is not BYPASSED:
                return found
        return super().get(entity, ident, **options)


class LayeredGet(CachedReads):
    """For session classes with a ``get`` of their own, which keeps its say: served beneath it."""

    def _get_impl(
        self, entity: Any, primary_key_identity: Any, db_load_fn: Any, **options: Any
    ) -> Any:
        if not _asks_more_of_get(options):
            found = self._cachedorm_get(entity, primary_key_identity)
            if found is not BYPASSED:
                return found
        return super()._get_impl(entity, primary_key_identity, db_load_fn, **options)


def cached_session_class(
    base: type[Session], reader: Reader, queries: QueryReader, many: ManyReader
) -> type[Session]:
    """A subclass of the session class whose reads go through these readers."""
    namespace = {
        "_cachedorm_reader": reader,
        "_cachedorm_queries": queries,
        "_cachedorm_many": many,
        "__doc__": base.__doc__,
    }
    mixin = DirectGet if base.get is Session.get else LayeredGet
    made: type[Session] = type(base.__name__, (mixin, base), namespace)
    event.listen(made, "do_orm_execute", _answer)
    return made


def _may_raise(parent: Mapper[Any], target: Mapper[Any]) -> bool:
    """Whether a relationship between the two forbids SQL, which a hit must not hide till a miss."""
    return any(
        relation.lazy == "raise_on_sql" and relation.mapper.common_parent(target)
        for relation in parent.relationships
    )


def _answer(state: ORMExecuteState) -> IteratorResult[Any] | None:
    """Answer the very statement that a cached read made; anything else is plain SQL."""
    statement = state.statement
    call = call_of(statement)
    spot = _cache_option(state) if call is None else None
    if call is None and spot is None:
        return _listed(state)
    if state.parameters or _asks_more(state.execution_options) or _is_sent_elsewhere(state):
        return None
    autoflush = bool(state.execution_options.get("autoflush", True))
    if call is not None:
        found = _called(state.session, call, autoflush=autoflush)
    else:
        note_session(state.session)
        _flush(state.session, autoflush=autoflush)
        session: Any = state.session
        found = session._cachedorm_queries.answer_adhoc(session, statement, spot)
    return None if found is BYPASSED else found


def _listed(state: ORMExecuteState) -> IteratorResult[Any] | None:
    """Answer a statement that asks for rows by their primary keys, and for nothing else."""
    keys = key_list(state)
    if keys is None or _is_sent_elsewhere(state):
        return None
    session: Any = state.session
    note_session(session)
    _flush(session, autoflush=bool(state.execution_options.get("autoflush", True)))
    found = session._cachedorm_many.answer(session, keys)
    return None if found is BYPASSED else found


def _called(session: Any, call: QueryCall, *, autoflush: bool = True) -> Any:
    """The result of a cached read, or BYPASSED."""
    if current() is not None:
        note_session(session)
    # As in _flush, without its call.
    if autoflush and session.autoflush:
        session._autoflush()
    read = call.query
    if not isinstance(read, KeyRead):
        return session._cachedorm_queries.answer(session, read, call.values)
    values = [call.values[field] for field in read.fields]
    found = session._cachedorm_reader.by(session, read.mapper, values)
    if found is BYPASSED:
        return BYPASSED
    return entity_result(read.class_, () if found is None else (found,))


def _flush(session: Any, *, autoflush: bool) -> None:
    # SQLAlchemy flushes later than this; what is flushed makes this very read bypass the cache.
    if autoflush and session.autoflush:
        session._autoflush()


def _cache_option(state: ORMExecuteState) -> CacheOption | None:
    statement: Any = state.statement
    if state.is_select and (statement._with_options or _has_more_options(statement)):
        for option in state.user_defined_options:
            if isinstance(option, CacheOption):
                return option
    return None


def _has_more_options(statement: Any) -> bool:
    return bool(getattr(statement, "_memoized_select_entities", ()))


def _asks_more_of_get(options: dict[str, Any]) -> bool:
    """Whether options of ``get`` ask for more than the row; {} asks for a lock, 0 for a shard."""
    return (
        options.get("with_for_update") not in (None, False)
        or options.get("identity_token") is not None
        or any(
            options.get(name)
            for name in ("options", "populate_existing", "execution_options", "bind_arguments")
        )
    )


def _asks_more(options: Any) -> bool:
    if options.get("cachedorm_past") or options.get("identity_token") is not None:
        return True
    return any(options.get(name) for name in ASKING_MORE)


def _is_sent_elsewhere(state: ORMExecuteState) -> bool:
    return bool(state.bind_arguments.keys() - {"clause", "mapper"})
