"""Many rows by their primary keys at once: one read of the cache, one SELECT for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import CHAR, ColumnElement, inspect, select, tuple_
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.base import instance_state

from cachedorm.errors import ArgumentError
from cachedorm.observe import Observer
from cachedorm.orm.affected import OWN
from cachedorm.orm.bypass import FollowerOf, why_bypass, why_not_publish
from cachedorm.orm.hydrate import hydrate
from cachedorm.orm.keyvalue import plain_key_type
from cachedorm.orm.plan import EntityPlan, Row, UnknownRow
from cachedorm.orm.rowplan import RowPlan
from cachedorm.store.batch import BATCH, fill_many
from cachedorm.store.codec import UndecodableError
from cachedorm.store.entry import ABSENT
from cachedorm.store.keys import EntryKey
from cachedorm.store.region import NO_VALUE, Loaded

Identity = tuple[Any, ...]

# Databases that compare text byte by byte unless told otherwise (and then it is declared).
_BINARY_COLLATION = frozenset({"postgresql", "sqlite"})


class ManyReader:
    """Reads many rows by primary key for the sessions of one Cache."""

    __slots__ = ("_enabled", "_follower_of", "_observer", "_plan_of")

    def __init__(
        self,
        plan_of: Callable[[Mapper[Any]], EntityPlan | None],
        follower_of: FollowerOf,
        enabled: Callable[[], bool],
        observer: Observer,
    ) -> None:
        self._plan_of = plan_of
        self._follower_of = follower_of
        self._enabled = enabled
        self._observer = observer

    def get_many(self, session: Session, class_: type, keys: Iterable[Any]) -> list[Any]:
        """The objects with these primary keys, in their order; None where there is no such row."""
        mapper = _mapper_of(class_)
        given: object = keys
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise ArgumentError(f"get_many(session, {class_.__name__}, {given!r}): give many keys")
        identities = [_identity(mapper, key) for key in keys]
        found = _own(session, mapper, identities)
        rest = list(
            dict.fromkeys(each for each in identities if each not in found and None not in each)
        )
        if rest:
            if session.autoflush:
                session._autoflush()
            for part in _parts(rest):
                found.update(self._get_part(session, mapper, part))
        return [_of_class(found.get(each), class_) for each in identities]

    def _get_part(
        self, session: Session, mapper: Mapper[Any], identities: Sequence[Identity]
    ) -> dict[Identity, Any]:
        plan = self._plan_of(mapper)
        if plan is None:
            return _from_database(session, mapper, identities)
        reason = self._why_bypass(session, plan)
        if reason is not None:
            self._observer.bypass(plan.region_name, reason)
            return _from_database(session, mapper, identities)
        keyed = dict(_keyed(plan, identities))
        try:
            found = self._served(session, plan, keyed)
        except (UnknownRow, UndecodableError):
            # What the mapper or the column's type has to say about it, it says there.
            return _from_database(session, mapper, identities)
        others = [each for each in identities if each not in found]
        if others:
            found.update(_from_database(session, mapper, others))
        return found

    def _why_bypass(self, session: Session, plan: EntityPlan) -> str | None:
        if not plan.by_primary_key:
            return "key is not the primary key"
        if not self._enabled():
            return "disabled"
        if plan.why_never is not None:
            return plan.why_never
        return why_bypass(session, plan, self._follower_of)

    def _served(
        self, session: Session, plan: EntityPlan, keyed: Mapping[Identity, EntryKey]
    ) -> dict[Identity, Any]:
        """Objects, and None for what is remembered not to be there."""
        identities, keys = list(keyed), list(keyed.values())
        if not keys:
            return {}
        entries = plan.region.entries

        def load(missing: Sequence[int]) -> dict[int, Loaded]:
            wanted = {identities[at]: at for at in missing}
            connection = session.connection(bind_arguments={"mapper": plan.mapper})
            return self._load(connection, plan, wanted)

        values = fill_many(entries, keys, entries.look(keys), load)
        found: dict[Identity, Any] = {}
        for identity, value in zip(identities, values, strict=True):
            if value is ABSENT:
                found[identity] = None
            elif value is not NO_VALUE:
                row_plan, row = value
                live = row_plan.live(row)
                key = (plan.identity_class, plan.identity(row_plan, live), None)
                found[identity] = hydrate(session, row_plan, key, live)
        return found

    def _load(
        self, connection: Connection, plan: EntityPlan, wanted: Mapping[Identity, int]
    ) -> dict[int, Loaded]:
        rows = rows_by_identity(connection, plan, list(wanted))
        publish = why_not_publish(connection, plan, self._follower_of) is None
        loaded = {
            wanted[identity]: Loaded(row, plan.ttl_of(row), publish)
            for identity, row in rows.items()
            if identity in wanted
        }
        if _compares_exactly(plan.mapper, connection.dialect):
            nobody = Loaded(ABSENT, plan.negative_ttl_ms, publish)
            loaded.update((at, nobody) for at in wanted.values() if at not in loaded)
        # Else who is absent cannot be told from here: those are read in SQLAlchemy's own way.
        return loaded


def rows_by_identity(
    connection: Connection, plan: EntityPlan, identities: Sequence[Identity]
) -> dict[Identity, Row]:
    """The rows with these primary keys, each as a row of its concrete mapper."""
    return dict(concrete_rows(connection, plan, _selected(connection, plan.root, identities)))


def concrete_rows(
    connection: Connection, plan: EntityPlan, rows: Iterable[Row]
) -> Iterator[tuple[Identity, Row]]:
    """The same rows, by primary key, each as its concrete mapper has it."""
    others: dict[RowPlan, list[Identity]] = {}
    for row in rows:
        identity = _identity_in(plan, row)
        concrete = plan.concrete(*row) if plan.polymorphic else row[0]
        if concrete is row[0]:
            yield identity, row
        else:
            others.setdefault(concrete, []).append(identity)
    # The leases were taken before both reads: a write between them takes them away.
    for row_plan, identities in others.items():
        for row in _selected(connection, row_plan, identities):
            if plan.concrete(*row) is row_plan:
                yield _identity_in(plan, row), row


def _identity_in(plan: EntityPlan, row: Row) -> Identity:
    row_plan, values = row
    return plan.identity(row_plan, row_plan.live(values))


def _selected(
    connection: Connection, row_plan: RowPlan, identities: Sequence[Identity]
) -> list[Row]:
    statement = row_plan.statement.where(_with_key(row_plan, identities))
    found = connection.execute(statement, execution_options=OWN)
    return [(row_plan, tuple(row)) for row in found]


def _with_key(row_plan: RowPlan, identities: Sequence[Identity]) -> ColumnElement[bool]:
    attributes = row_plan.shape.attributes
    columns = [attributes[position].column for position in row_plan.key_positions]
    if len(columns) == 1:
        return columns[0].in_([identity[0] for identity in identities])
    return tuple_(*columns).in_(identities)


def _mapper_of(class_: type) -> Mapper[Any]:
    try:
        mapper: Any = inspect(class_)
    except NoInspectionAvailable:
        mapper = None
    if not isinstance(mapper, Mapper):
        raise ArgumentError(f"get_many(session, {class_!r}, ...): give a mapped class")
    return mapper


def _identity(mapper: Mapper[Any], key: Any) -> Identity:
    if isinstance(key, dict):
        names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        if set(key) != set(names):
            raise ArgumentError(f"get_many: {key!r} names not {', '.join(names)}")
        return tuple(key[name] for name in names)
    identity = tuple(key) if isinstance(key, tuple | list) else (key,)
    if len(identity) != len(mapper.primary_key):
        names = [column.name for column in mapper.primary_key]
        raise ArgumentError(
            f"get_many: {key!r} is no primary key of {mapper.class_.__name__}; it has"
            f" {len(names)}: {', '.join(names)}"
        )
    return identity


def _own(
    session: Session, mapper: Mapper[Any], identities: Iterable[Identity]
) -> dict[Identity, Any]:
    """What the session holds already, and has not expired."""
    found: dict[Identity, Any] = {}
    for identity in identities:
        instance = session.identity_map.get((mapper._identity_class, identity, None))
        if instance is not None and not instance_state(instance).expired:
            found[identity] = instance
    return found


def _keyed(plan: EntityPlan, identities: Iterable[Identity]) -> Iterator[tuple[Identity, EntryKey]]:
    """The keys of those that may be served; the others are the database's to compare."""
    for identity in identities:
        try:
            yield identity, plan.key_of(plan.in_key_order(identity))
        except ArgumentError:
            continue


def _from_database(
    session: Session, mapper: Mapper[Any], identities: Sequence[Identity]
) -> dict[Identity, Any]:
    """The same in SQLAlchemy's own way."""
    columns = mapper.primary_key
    condition: ColumnElement[bool] = (
        columns[0].in_([identity[0] for identity in identities])
        if len(columns) == 1
        else tuple_(*columns).in_(identities)
    )
    objects = session.scalars(select(mapper.class_).where(condition)).unique().all()
    found = {tuple(mapper.primary_key_from_instance(each)): each for each in objects}
    for identity in identities:
        # A row may have been found by another spelling of its key: only the database can tell.
        if identity not in found and not _is_own_spelling(session, mapper, identity):
            found[identity] = session.get(mapper.class_, identity)
    return found


def _is_own_spelling(session: Session, mapper: Mapper[Any], identity: Identity) -> bool:
    """Whether a row with this key would come back with this very key."""
    dialect = session.get_bind(mapper).dialect
    types = (plain_key_type(column, dialect) for column in mapper.primary_key)
    return all(
        type(value) is expected for value, expected in zip(identity, types, strict=True)
    ) and _compares_exactly(mapper, dialect)


def _compares_exactly(mapper: Mapper[Any], dialect: Dialect) -> bool:
    """Whether the database takes two keys for equal only if Python does."""
    return not any(
        plain_key_type(column, dialect) is str
        and (isinstance(column.type, CHAR) or dialect.name not in _BINARY_COLLATION)
        for column in mapper.primary_key
    )


def _of_class(found: Any, class_: type) -> Any:
    return found if isinstance(found, class_) else None


def _parts(identities: Sequence[Identity]) -> Iterator[Sequence[Identity]]:
    for at in range(0, len(identities), BATCH):
        yield identities[at : at + BATCH]
