"""The session class that ``attach`` gives to a factory: SQLAlchemy's own, with cached reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import event
from sqlalchemy.engine import IteratorResult
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlalchemy.orm.base import SQL_OK

from cachedorm.declare.model import Cached, KeyRead
from cachedorm.declare.spot import SpotOption
from cachedorm.declare.statement import call_of
from cachedorm.orm.compat import entity_result
from cachedorm.orm.queries import QueryReader
from cachedorm.orm.reads import BYPASSED, Reader

if TYPE_CHECKING:
    _Base = Session
else:
    _Base = object


class CachedReads(_Base):
    """Mixin in front of a Session class: reads by key are answered from the cache."""

    _cachedorm_reader: ClassVar[Reader]
    _cachedorm_queries: ClassVar[QueryReader]

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """As ``Session.get``; a hit needs neither a connection nor a transaction."""
        if options and any(options.values()):
            return super().get(entity, ident, **options)
        if not (isinstance(entity, type) and issubclass(entity, Cached)):
            return super().get(entity, ident, **options)
        identity = ident if isinstance(ident, tuple) else (ident,)
        mapper: Mapper[Any] = entity.__mapper__  # type: ignore[attr-defined]
        state = self.identity_map._dict.get((mapper._identity_class, identity, None))  # type: ignore[attr-defined]
        if state is not None:
            instance = state.obj()
            if instance is not None and not state.expired and isinstance(instance, entity):
                return instance
            return super().get(entity, ident, **options)
        found = self._cachedorm_reader.get(self, mapper, identity)
        return super().get(entity, ident, **options) if found is BYPASSED else found

    def _identity_lookup(
        self,
        mapper: Mapper[Any],
        primary_key_identity: Any,
        identity_token: Any = None,
        passive: Any = SQL_OK,
        lazy_loaded_from: Any = None,
        **options: Any,
    ) -> Any:
        found = super()._identity_lookup(
            mapper,
            primary_key_identity,
            identity_token=identity_token,
            passive=passive,
            lazy_loaded_from=lazy_loaded_from,
            **options,
        )
        if found is not None or lazy_loaded_from is None or not passive & SQL_OK:
            return found
        if identity_token is not None or not issubclass(mapper.class_, Cached):
            return None
        served = self._cachedorm_reader.get(self, mapper, tuple(primary_key_identity))
        # None goes on to SQL: a foreign key to a row that is not there is rare, and is checked.
        return None if served is BYPASSED else served

    def _cachedorm_refresh(self, mapper: Mapper[Any], state: Any, names: Any) -> bool:
        return self._cachedorm_reader.refresh(self, mapper, state, names)


def cached_session_class(
    base: type[Session], reader: Reader, queries: QueryReader
) -> type[Session]:
    """A subclass of the session class whose reads go through these readers."""
    namespace = {
        "_cachedorm_reader": reader,
        "_cachedorm_queries": queries,
        "__doc__": base.__doc__,
    }
    made: type[Session] = type(base.__name__, (CachedReads, base), namespace)
    event.listen(made, "do_orm_execute", _answer)
    return made


def _answer(state: ORMExecuteState) -> IteratorResult[Any] | None:
    """Answer the very statement that a cached read made; anything else is plain SQL."""
    statement = state.statement
    call = call_of(statement)
    spot = None if call is not None else _spot_option(state)
    if call is None and spot is None:
        return None
    if state.parameters or _asks_more(state.execution_options):
        return None
    session: Any = state.session
    # The event comes before autoflush, and what is flushed must be seen, or bypass.
    if session.autoflush and state.execution_options.get("autoflush", True):
        session._autoflush()
    if call is None:
        answer = session._cachedorm_queries.answer_spot(session, statement, spot)
        return None if answer is BYPASSED else answer
    read = call.query
    if isinstance(read, KeyRead):
        values = [call.values[field] for field in read.fields]
        found = session._cachedorm_reader.by(session, read.mapper, values)
        if found is BYPASSED:
            return None
        return entity_result(read.class_, () if found is None else (found,))
    answer = session._cachedorm_queries.answer(session, read, call.values)
    return None if answer is BYPASSED else answer


def _spot_option(state: ORMExecuteState) -> SpotOption | None:
    if state.is_select:
        for option in state.user_defined_options:
            if isinstance(option, SpotOption):
                return option
    return None


def _asks_more(options: Any) -> bool:
    return bool(
        options.get("populate_existing")
        or options.get("yield_per")
        or options.get("stream_results")
        or options.get("schema_translate_map")
        or options.get("identity_token") is not None
    )
