"""Many rows by their primary keys at once: one read of the cache, one SELECT for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import CHAR, ColumnElement, inspect, select, tuple_
from sqlalchemy.engine import Connection, Dialect, IteratorResult
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.base import instance_state

from cachedorm.errors import ArgumentError
from cachedorm.orm.database.compat import entity_result, keyed_result
from cachedorm.orm.database.profile import INTERNAL_OPTIONS
from cachedorm.orm.mapping.entity_plan import EntityPlan, Row, UnknownRow
from cachedorm.orm.mapping.hydration import hydrate_each
from cachedorm.orm.mapping.key_values import plain_key_type
from cachedorm.orm.mapping.row_plan import RowPlan
from cachedorm.orm.reading.key_list import Identity, KeyList
from cachedorm.orm.reading.read_path import BYPASSED, Bypassed, ReadPath, note_session
from cachedorm.store.codec import UndecodableError
from cachedorm.store.entries.batch import BATCH, fill_many
from cachedorm.store.entries.entries import NO_VALUE, Entries, EntryLookup
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.entry import ABSENT
from cachedorm.store.protocol.keys import EntryKey

# Databases that compare text byte by byte unless a collation is declared.
_BINARY_COLLATION = frozenset({"postgresql", "sqlite"})


class ManyReader:
    """Reads many rows by primary key for the sessions of one Cache."""

    __slots__ = ("_path", "_plan_of")

    def __init__(
        self,
        plan_of: Callable[[Mapper[Any]], EntityPlan | None],
        path: ReadPath,
    ) -> None:
        self._plan_of = plan_of
        self._path = path

    def get_many(self, session: Session, class_: type, keys: Iterable[Any]) -> list[Any]:
        """The objects with these primary keys, in their order; None where there is no such row."""
        note_session(session)
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

    def answer(self, session: Session, asked: KeyList) -> IteratorResult[Any] | Bypassed:
        """The rows of a statement that asks for them by primary key, or BYPASSED.

        They are those of one moment, as one SELECT would give them: where some come from the cache
        and some from the database, a commit in between leaves all of them to the database.
        """
        plan = self._plan_of(asked.mapper)
        if plan is None or not plan.by_primary_key:
            return BYPASSED
        reason = self._why_bypass(session, plan) or _why_not_as_one(asked)
        if reason is None:
            try:
                found = self._found(session, plan, asked)
                if found is not None:
                    return _result(asked, found)
                reason = "changed meanwhile"
            except (ArgumentError, UndecodableError):
                reason = "key of another type"
            except UnknownRow:
                reason = "unknown discriminator"
        self._path.count_bypass(plan.region_name, reason)
        return BYPASSED

    def _found(
        self, session: Session, plan: EntityPlan, asked: KeyList
    ) -> dict[Identity, Any] | None:
        """The objects by key; None if they may not be of one moment."""
        # NULL equals nothing.
        identities = [each for each in dict.fromkeys(asked.identities) if None not in each]
        keyed = {each: plan.key_of_identity(each) for each in identities}
        found = self._served(session, plan, keyed, as_one=True)
        return found if len(found) == len(keyed) else None

    def _get_part(
        self, session: Session, mapper: Mapper[Any], identities: Sequence[Identity]
    ) -> dict[Identity, Any]:
        plan = self._plan_of(mapper)
        if plan is None:
            return _from_database(session, mapper, identities)
        reason = self._why_bypass(session, plan)
        if reason is not None:
            self._path.count_bypass(plan.region_name, reason)
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
        return self._path.why_bypass(session, plan) or plan.why_never

    def _served(
        self,
        session: Session,
        plan: EntityPlan,
        keyed: Mapping[Identity, EntryKey],
        *,
        as_one: bool = False,
    ) -> dict[Identity, Any]:
        """Objects, and None for what is remembered not to be there.

        ``as_one``: nothing, if they may not all be of one moment.
        """
        identities, keys = list(keyed), list(keyed.values())
        if not keys:
            return {}
        entries = plan.region.entries

        def load(missing: Sequence[int]) -> dict[int, Loaded]:
            wanted = {identities[at]: at for at in missing}
            connection = session.connection(bind_arguments={"mapper": plan.mapper})
            return self._load(connection, plan, wanted)

        looks = entries.look(keys)
        values = fill_many(entries, keys, looks, load)
        if as_one and not _are_of_one_moment(entries, keys, looks):
            return {}
        return _objects(session, dict(zip(identities, values, strict=True)))

    def _load(
        self, connection: Connection, plan: EntityPlan, wanted: Mapping[Identity, int]
    ) -> dict[int, Loaded]:
        rows = rows_by_identity(connection, plan, list(wanted))
        publish = self._path.publishes(connection, plan)
        loaded = {
            wanted[identity]: Loaded(row, plan.ttl_of(row), publish)
            for identity, row in rows.items()
            if identity in wanted
        }
        if _compares_exactly(plan.mapper, connection.dialect):
            absent = Loaded(ABSENT, plan.negative_ttl_ms, publish)
            loaded.update((at, absent) for at in wanted.values() if at not in loaded)
        # Else a missing row may have been found under another spelling: SQLAlchemy reads those.
        return loaded


def _objects(session: Session, values: Mapping[Identity, Any]) -> dict[Identity, Any]:
    found: dict[Identity, Any] = {}
    rows: dict[RowPlan, list[tuple[Identity, tuple[Any, ...]]]] = {}
    for identity, value in values.items():
        if value is ABSENT:
            found[identity] = None
        elif value is not NO_VALUE:
            row_plan, row = value
            rows.setdefault(row_plan, []).append((identity, row_plan.live(row)))
    for row_plan, keyed in rows.items():
        objects = hydrate_each(session, row_plan, [row for _, row in keyed])
        found.update((key, each) for (key, _), each in zip(keyed, objects, strict=True))
    return found


def _are_of_one_moment(
    entries: Entries, keys: Sequence[EntryKey], looks: Sequence[EntryLookup]
) -> bool:
    """Whether what was found still stands after the rest was loaded: then it stood at that time."""
    hits = [at for at, look in enumerate(looks) if look.value is not NO_VALUE]
    if len(hits) in (0, len(keys)):
        return True
    return entries.unchanged([keys[at] for at in hits], [looks[at] for at in hits])


def _why_not_as_one(asked: KeyList) -> str | None:
    return "more keys than one read takes" if len(asked.identities) > BATCH else None


def _result(asked: KeyList, found: Mapping[Identity, Any]) -> IteratorResult[Any]:
    class_ = asked.mapper.class_
    objects = [each for each in found.values() if isinstance(each, class_)]
    if not asked.with_keys:
        return entity_result(class_, objects)
    return keyed_result(class_, [(_key_of(each), each) for each in objects])


def _key_of(instance: Any) -> Identity:
    key: Any = instance_state(instance).key
    identity: Identity = key[1]
    return identity


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
        identity = _identity_in(row)
        concrete = plan.concrete(*row) if plan.polymorphic else row[0]
        if concrete is row[0]:
            yield identity, row
        else:
            others.setdefault(concrete, []).append(identity)
    # The leases were taken before both reads: a write between them takes them away.
    for row_plan, identities in others.items():
        for row in _selected(connection, row_plan, identities):
            if plan.concrete(*row) is row_plan:
                yield _identity_in(row), row


def _identity_in(row: Row) -> Identity:
    row_plan, values = row
    return row_plan.identity_of(row_plan.live(values))


def _selected(
    connection: Connection, row_plan: RowPlan, identities: Sequence[Identity]
) -> list[Row]:
    statement = row_plan.statement.where(_with_key(row_plan, identities))
    found = connection.execute(statement, execution_options=INTERNAL_OPTIONS)
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
            f"get_many: {key!r} is not a primary key of {mapper.class_.__name__}; it has"
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
            yield identity, plan.key_of_identity(identity)
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
