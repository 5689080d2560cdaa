"""Explicit invalidation: find the entries and stamps of a row, a key, a tag or a field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import Table, inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import InstanceState, Mapper

from cachedorm.declare.policies.region import Region
from cachedorm.declare.policies.shape import EntityShape, entity_shape, shapes
from cachedorm.declare.policies.tag import Tag
from cachedorm.declare.queries.derived import derived_queries
from cachedorm.declare.queries.query import CachedQuery, declared_queries
from cachedorm.errors import ArgumentError, CacheUnavailable
from cachedorm.observe import Observer
from cachedorm.orm.attachment import Attachment
from cachedorm.orm.interest.tables import as_stored
from cachedorm.orm.mapping.field_stamps import field_stamps, is_tagged, narrowed_by, stamped_fields
from cachedorm.orm.mapping.key_values import key_value
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.batch import unlink_matching
from cachedorm.store.protocol.changes import Touched
from cachedorm.store.protocol.keys import stamp_key, value_tag, wildcard_tag
from cachedorm.store.store import Store


class Invalidator:
    """Invalidate entries of one Cache, for writes that it does not track.

    If Redis is unavailable, the invalidation is queued and sent later."""

    __slots__ = ("_attachment", "_live", "_observer", "_store")

    def __init__(
        self,
        followed: Attachment,
        store: Store,
        live: Callable[[Region], CachedRegion],
        observer: Observer,
    ) -> None:
        self._attachment = followed
        self._store = store
        self._live = live
        self._observer = observer

    def invalidate(self, what: Any, key: Sequence[Any]) -> None:
        """Invalidate entries: of an object's row, of a model's key, with a tag, or of a region."""
        if isinstance(what, Region):
            _no_key(what, key)
            self._store.clear(what.db, sorted(self._stamps_of(what)))
        else:
            self._store.invalidate(self.touched_by(what, key))

    def invalidate_where(self, field: str, value: Any) -> None:
        """Invalidate every entry whose template or tags have this field with this value."""
        self._store.invalidate(self.touched_where(field, value))

    def invalidate_matching(self, pattern: str, regions: Iterable[Region]) -> int:
        """End every entry of the regions whose key matches; how many keys that were.

        A region that cannot be looked through is cleared instead: nothing old is left.
        """
        if not pattern:
            raise ArgumentError("invalidate_matching(''): give a glob pattern, as in 'user:*:42'")
        gone = 0
        for db, stamps in self._by_db(regions).items():
            try:
                gone += unlink_matching(self._store.slots, db, pattern)
            except CacheUnavailable as error:
                self._observer.error("scan", error)
                self._store.clear(db, sorted(stamps))
        return gone

    def regions(self) -> list[Region]:
        """The regions of everything that is declared."""
        self._attachment.known_interests()
        found = [shape.policy.region for shape in shapes()]
        found += [query.region for query in declared_queries()]
        found += [query.region for query in derived_queries()]
        return list(dict.fromkeys(found))

    def _by_db(self, regions: Iterable[Region]) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for region in regions:
            found.setdefault(region.db, set()).update(self._stamps_of(region))
        return found

    def touched_by(self, what: Any, key: Sequence[Any]) -> Touched:
        """The entries of an object's row, of a model's key, or with a tag; ArgumentError."""
        touched = Touched()
        if isinstance(what, Tag):
            _no_key(what, key)
            self._touch_tag(touched, what)
        elif isinstance(what, type):
            self._touch_key(touched, what, key)
        else:
            _no_key(what, key)
            self._attachment.touch_object(touched, _identified(what))
        return touched

    def touched_where(self, field: str, value: Any) -> Touched:
        """Every entry of every region whose template or tags have this field with this value.

        Raises ArgumentError if there is no such field, or the value cannot be part of a key.
        """
        if value is None:
            raise ArgumentError(f"invalidate_where({field}=None): no key is made of a null")
        interests = self._attachment.known_interests()
        dialect = self._attachment.dialect
        touched = Touched()
        known = False
        for shape in shapes():
            known |= _touch_shape(touched, shape, field, value, dialect)
        for query in declared_queries():
            known |= _touch_query(touched, query, field, value, dialect)
        for interest in interests:
            for column, dbs in interest.tags.items():
                if field in _names(column):
                    known = True
                    _touch_value(touched, interest.table, column, dbs, value, dialect)
        if not known:
            raise ArgumentError(
                f"invalidate_where({field}=...): no key template and no tag has a field of this"
                f" name; there are: {', '.join(sorted(set(_fields())))}"
            )
        return touched

    def _stamps_of(self, region: Region) -> set[str]:
        """The wildcards by which all of a region ends, whatever was read in this process."""
        self._attachment.known_interests()
        tables = [
            table
            for shape in shapes()
            if shape.policy.region == region
            for mapper in shape.owner.self_and_descendants
            for table in mapper.tables
        ]
        tables += [
            dependency.table
            for query in declared_queries()
            if query.region == region
            for dependency in query.dependencies
        ]
        tables += [query.table for query in derived_queries() if query.region == region]
        names = (getattr(table, "fullname", str(table)) for table in tables)
        return {stamp_key(wildcard_tag(name)) for name in names} | self._live(region).stamps

    def _touch_tag(self, touched: Touched, named: Tag) -> None:
        interest = self._attachment.known_interests()[named.table]
        tags = {} if interest is None else interest.tags
        dbs = next((dbs for each, dbs in tags.items() if each.name == named.column.name), None)
        if dbs is None:
            known = ", ".join(each.name for each in tags) or "none"
            raise ArgumentError(
                f"invalidate(tag({named})): no declared query is narrowed by this column, so"
                f" nothing carries such a tag; tags of {named.table.fullname}: {known}"
            )
        _touch_value(touched, named.table, named.column, dbs, named.value, self._attachment.dialect)

    def _touch_key(self, touched: Touched, class_: type, key: Sequence[Any]) -> None:
        shape = _shape_of(class_)
        if shape is None or shape.template is None:
            raise ArgumentError(f"invalidate({class_.__name__}): it is not cached by key")
        fields = shape.template.fields
        call = f"invalidate({', '.join((class_.__name__, *map(repr, key)))})"
        if len(key) < len(fields):
            raise ArgumentError(
                f"{call}: the key has {', '.join(fields)}; missing: {', '.join(fields[len(key) :])}"
            )
        if len(key) > len(fields):
            raise ArgumentError(
                f"{call}: the key has {', '.join(fields)}; given: {len(key)} values"
            )
        values = {
            field: self._key_value(call, shape, field, value)
            for field, value in zip(fields, key, strict=True)
        }
        touched.add_entries(shape.policy.region.db, (shape.template.render(values),))

    def _key_value(self, call: str, shape: EntityShape, field: str, value: Any) -> Any:
        column = _column(shape, field)
        try:
            return key_value(column, value, self._attachment.dialect)
        except ArgumentError:
            expected = _python_type(column)
            if expected is None or type(value) is expected:
                raise
            raise ArgumentError(
                f"{call}: {field} expects {expected.__name__}, got {type(value).__name__}"
            ) from None


def _python_type(column: Any) -> type | None:
    try:
        found: type = column.type.python_type
    except NotImplementedError:
        return None
    return found


def _no_key(what: Any, key: Sequence[Any]) -> None:
    if key:
        raise ArgumentError(f"invalidate({what!r}, ...): a key goes with a model, not with this")


def _identified(what: Any) -> InstanceState[Any]:
    try:
        state = inspect(what)
    except NoInspectionAvailable:
        state = None
    if not isinstance(state, InstanceState):
        raise ArgumentError(
            f"invalidate({what!r}): give an object, a model and its key, a tag or a Region"
        )
    if state.key is None:
        raise ArgumentError(f"invalidate({what!r}): the object has no identity yet")
    return state


def _shape_of(class_: type) -> EntityShape | None:
    try:
        mapper: Any = inspect(class_)
    except NoInspectionAvailable:
        mapper = None
    if not isinstance(mapper, Mapper):
        raise ArgumentError(f"invalidate({class_!r}): it is not a mapped class")
    return entity_shape(mapper)


def _column(shape: EntityShape, field: str) -> Any:
    return shape.owner.get_property(field).columns[0]


def _touch_shape(
    touched: Touched, shape: EntityShape, field: str, value: Any, dialect: Dialect
) -> bool:
    """Whether the model's key has the field; touches its entries with the value."""
    if shape.template is None or field not in shape.template.fields:
        return False
    column, db = _column(shape, field), shape.policy.region.db
    bound = _bound(column, value, dialect)
    if bound is None:
        return True
    # As asked for, and as a row has it: absence is remembered under what was asked for.
    for each in (bound, as_stored(column, bound)):
        if len(shape.template.fields) == 1:
            touched.add_entries(db, (shape.template.render({field: each}),))
        else:
            touched.add_stamps(db, field_stamps((field,), {field: each}))
    return True


def _touch_query(
    touched: Touched, query: CachedQuery[Any], field: str, value: Any, dialect: Dialect
) -> bool:
    """The same for a query's key. Its tags are touched where they lead to its answers alone."""
    if field not in query.template.fields:
        return False
    db = query.region.db
    narrow = narrowed_by(query, field)
    bound = _bound(query.parameters[field], value, dialect)
    if bound is None and is_tagged(query, field):
        return True
    if bound is None:
        bound = value  # as a reader puts into the key what no row is looked for by
    if field in stamped_fields(query):
        touched.add_stamps(db, field_stamps((field,), {field: bound}))
    elif len(query.template.fields) == 1 and not query.appended:
        touched.add_entries(db, (query.template.render({field: bound}),))
    else:
        assert narrow is not None
        assert narrow.column is not None
        touched.add_stamps(
            db, (stamp_key(value_tag(narrow.table.fullname, narrow.column.name, bound)),)
        )
    return True


def _touch_value(
    touched: Touched, table: Table, column: Any, dbs: Iterable[int], value: Any, dialect: Dialect
) -> None:
    bound = _bound(column, value, dialect)
    if bound is not None:
        key = stamp_key(value_tag(table.fullname, column.name, as_stored(column, bound)))
        for db in dbs:
            touched.add_stamps(db, (key,))


def _bound(type_of: Any, value: Any, dialect: Dialect) -> Any:
    """The value as it goes to the database; None if it cannot stand there, so nothing has it."""
    for each in (value, *_other_spellings(value)):
        # An application's type decorator refuses in its own way.
        with suppress(Exception):
            return key_value(type_of, each, dialect)
    return None


def _other_spellings(value: Any) -> Iterator[Any]:
    """Convert the value: one field may be a number in one table and a string in another."""
    if isinstance(value, str):
        for spell in (int, UUID):
            with suppress(ValueError):
                yield spell(value)
    elif isinstance(value, int | UUID) and not isinstance(value, bool):
        yield str(value)


def _names(column: Any) -> set[str]:
    """What a column may be called: its own names, and those of the attributes mapped to it."""
    names = {column.name, column.key}
    for shape in shapes():
        for mapper in shape.owner.self_and_descendants:
            if column in mapper.columns.values():
                names.add(mapper.get_property_by_column(column).key)
    return names


def _fields() -> Iterator[str]:
    for shape in shapes():
        yield from shape.template.fields if shape.template is not None else ()
    for query in declared_queries():
        yield from query.template.fields
