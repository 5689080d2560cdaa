"""What is cached over each table: which keys a changed row invalidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper

from cachedorm.declare.policies.shape import EntityShape
from cachedorm.declare.queries.derived import DerivedQuery, DerivedTags
from cachedorm.declare.queries.query import CachedQuery
from cachedorm.errors import ArgumentError
from cachedorm.orm.mapping.key_values import key_value
from cachedorm.store.protocol.changes import Touched
from cachedorm.store.protocol.keys import (
    Template,
    membership_tag,
    stamp_key,
    value_tag,
    wildcard_tag,
)

TableName = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A query to refresh when a table is written: which column has its parameter's value."""

    query: CachedQuery[Any]
    column: str | None = None
    parameter: str | None = None


class Names:
    """The names of tables, where one without a schema stands in any of these schemas.

    They are those of the search path: ``books`` and ``public.books`` are one table then.
    """

    __slots__ = ("_schemas",)

    def __init__(self, schemas: Iterable[str] = ()) -> None:
        self._schemas = frozenset(schemas)

    def of(self, table: Table) -> TableName:
        """The name of this table, the same however its schema is spelled."""
        return self.spelled(table.schema, table.name)

    def spelled(self, schema: str | None, name: str) -> TableName:
        """The name of the table that is spelled so."""
        return None if schema in self._schemas else schema, name

    def __repr__(self) -> str:
        return f"<Names without a schema: {', '.join(sorted(self._schemas))}>"


# A row as a writer knows it: values by column name. A column that is not there is not known.
ColumnValues = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeyInterest:
    """Rows of a table are cached one by one, under keys made of these columns."""

    db: int
    template: Template
    columns: tuple[Column[Any], ...]
    mapper: Mapper[Any]
    write_through: bool

    def key_of(self, row: ColumnValues, dialect: Dialect) -> str | None:
        """The row's key; None if a column is null, so that the row has none.

        Raises KeyError for a column whose value is not known.
        """
        values: dict[str, Any] = {}
        for field, column in zip(self.template.fields, self.columns, strict=True):
            value = key_value(column, row[column.name], dialect)
            if value is None:
                return None
            values[field] = as_stored(column, value)
        return self.template.render(values)


class TableInterest:
    """Everything cached over one table: whole entries, and the stamps that entries carry."""

    __slots__ = (
        "_memberships",
        "_stamps",
        "dbs",
        "derived",
        "keyless",
        "keys",
        "memberships",
        "primary_key",
        "primary_key_names",
        "refreshed",
        "spelled",
        "table",
        "tags",
        "through",
        "watched",
    )

    def __init__(self, table: Table) -> None:
        self.table = table
        self.keys: list[KeyInterest] = []
        self.dbs: set[int] = set()
        # Some entry over this table has a key that this table's rows do not tell.
        self.keyless = False
        # Some entries are written through.
        self.through = False
        # The databases of queries that no equality narrows on this table.
        self.memberships: set[int] = set()
        # The databases of queries that a value of the column narrows.
        self.tags: dict[Column[Any], set[int]] = {}
        # Tags that follow from several columns' values, such as the cells of a place.
        self.derived: list[DerivedTags] = []
        # The queries whose answers a writer refreshes.
        self.refreshed: list[Refreshed] = []
        self.primary_key = tuple(table.primary_key.columns)
        self.primary_key_names = frozenset(column.name for column in self.primary_key)
        self.watched: tuple[Column[Any], ...] = ()
        # The full names that the table goes by; entries and tags carry one of them.
        self.spelled: tuple[str, ...] = ()
        self._stamps: tuple[str, ...] = ()
        self._memberships: tuple[str, ...] = ()

    def spell(self, table: Table) -> None:
        """Follow the table under this spelling of its name too: its entries carry that."""
        self.spelled = tuple(sorted({*self.spelled, table.fullname}))
        self._stamps = tuple(stamp_key(wildcard_tag(name)) for name in self.spelled)
        self._memberships = tuple(stamp_key(membership_tag(name)) for name in self.spelled)

    def add(self, interest: KeyInterest) -> None:
        """Follow this table's rows for one more kind of entry."""
        self.keys.append(interest)
        self.dbs.add(interest.db)
        self.through = self.through or interest.write_through
        self._watch()

    def add_query(self, db: int, column: Column[Any] | None) -> None:
        """Follow this table for a query: by a column's value, or (None) as a whole."""
        self.dbs.add(db)
        mine = None if column is None else self.table.columns.get(column.key)
        if mine is not None:
            self.tags.setdefault(mine, set()).add(db)
            self._watch()
        elif column is None:
            self.memberships.add(db)
        else:
            # A second Table of this name has it and this one has not: its value is unknown.
            self.keyless = True

    def add_derived(self, tags: DerivedTags) -> None:
        """Follow this table for entries that carry these tags."""
        self.dbs.add(tags.db)
        mine = tuple(self.table.columns[column.key] for column in tags.columns)
        self.derived.append(replace(tags, columns=mine))
        self._watch()

    def has_tag(self, db: int, column: str) -> bool:
        """Whether writers touch the tags of this column's values in this database."""
        return any(each.name == column and db in dbs for each, dbs in self.tags.items())

    def _watch(self) -> None:
        # By name: two Table objects may stand for one table.
        others = {column.name for each in self.keys for column in each.columns}
        others.update(column.name for column in self.tags)
        others.update(column.name for each in self.derived for column in each.columns)
        others.difference_update(column.name for column in self.primary_key)
        self.watched = tuple(column for column in self.table.columns if column.name in others)

    @property
    def stamps(self) -> tuple[str, ...]:
        """The keys of the table's wildcard stamps; every entry over the table carries one."""
        return self._stamps

    def touch_all(self, touched: Touched) -> None:
        """Touch every entry over the table: it is not known which rows changed."""
        for db in self.dbs:
            touched.add_stamps(db, self._stamps)

    def touch(self, touched: Touched, row: ColumnValues, dialect: Dialect) -> None:
        """Touch the entries of a row that was changed, deleted or inserted."""
        if self.keyless:
            self.touch_all(touched)
        self._touch_tags(touched, row, dialect)
        for interest in self.keys:
            try:
                key = interest.key_of(row, dialect)
            except (KeyError, ArgumentError):
                self.touch_all(touched)
                continue
            if key is not None:
                touched.add_entries(interest.db, (key,))

    def offers(
        self, row: ColumnValues, dialect: Dialect
    ) -> Iterator[tuple[KeyInterest, str, tuple[Any, ...]]]:
        """The entries that a write-through may replace, with the values of their key's columns."""
        for interest in self.keys:
            if not interest.write_through:
                continue
            with suppress(KeyError, ArgumentError):
                key = interest.key_of(row, dialect)
                if key is not None:
                    yield interest, key, tuple(row[column.name] for column in interest.columns)

    def _touch_tags(self, touched: Touched, row: ColumnValues, dialect: Dialect) -> None:
        for db in self.memberships:
            touched.add_stamps(db, self._memberships)
        for column, dbs in self.tags.items():
            try:
                value = key_value(column, row[column.name], dialect)
                if value is None:
                    continue  # no equality finds a null
                stored = as_stored(column, value)
                tags = [value_tag(name, column.name, stored) for name in self.spelled]
            except (KeyError, ArgumentError):
                self.touch_all(touched)
                return
            for db in dbs:
                touched.add_stamps(db, [stamp_key(tag) for tag in tags])
        for each in self.derived:
            try:
                touched.add_stamps(each.db, [stamp_key(tag) for tag in each.tags_of(row)])
            except (KeyError, ArgumentError):
                self.touch_all(touched)
                return

    def __repr__(self) -> str:
        keys = ", ".join(interest.template.text for interest in self.keys)
        return f"<TableInterest {self.table.fullname}: {keys or 'followed'}>"


class Interests:
    """The interest in every table that some declared model follows.

    Tables are identified by their names: two Table objects may stand for one table.
    """

    __slots__ = ("_by_name", "_known", "_names", "known", "written_with")

    def __init__(
        self,
        shapes: Iterable[EntityShape],
        tables: Iterable[Table],
        names: Names | None = None,
        *,
        queries: Iterable[CachedQuery[Any]] = (),
        derived: Iterable[DerivedQuery] = (),
    ) -> None:
        self._names = names or Names()
        self._by_name: dict[TableName, TableInterest] = {}
        self._known: dict[TableName, list[Table]] = {}
        for table in tables:
            self._known.setdefault(self._names.of(table), []).append(table)
        # What is registered of all this, and which tables are written along with one.
        self.known: frozenset[str] = frozenset()
        self.written_with: Callable[[Table], Iterable[str]] = self._itself
        for shape in shapes:
            for mapper in shape.owner.self_and_descendants:
                self._follow(shape, mapper)
        for query in queries:
            self._follow_query(query)
        for each in derived:
            self._follow_derived(each)

    def __getitem__(self, table: Table) -> TableInterest | None:
        return self._by_name.get(self._names.of(table))

    def __iter__(self) -> Iterator[TableInterest]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def knows(self, table: Table) -> bool:
        """Whether this is a table that the mapped classes' metadata holds."""
        return self._names.of(table) in self._known

    def tables(self, schema: str | None, name: str) -> Iterable[Table]:
        """The known tables that this name stands for."""
        return self._known.get(self._names.spelled(schema, name), ())

    def named(self, schema: str | None, name: str) -> str:
        """The name under which a table is registered: one, however its schema is spelled."""
        schema, name = self._names.spelled(schema, name)
        return name if schema is None else f"{schema}.{name}"

    def touch_everything(self, touched: Touched) -> None:
        """Touch every entry of every table: it is not known what was written."""
        for interest in self:
            interest.touch_all(touched)

    def _follow(self, shape: EntityShape, mapper: Mapper[Any]) -> None:
        db = shape.policy.region.db
        for table in mapper.tables:
            if not isinstance(table, Table):
                continue
            interest = self._spelled(table)
            interest.dbs.add(db)
            if shape.template is None:
                interest.memberships.add(db)
                continue
            if any(
                each.mapper is shape.owner and each.template == shape.template
                for each in interest.keys
            ):
                continue
            columns = _columns_of(mapper, table, shape.template.fields)
            if columns is not None:
                through = shape.policy.on_write == "write_through"
                interest.add(KeyInterest(db, shape.template, columns, shape.owner, through))
            else:
                interest.keyless = True

    def _follow_query(self, query: CachedQuery[Any]) -> None:
        for dependency in query.dependencies:
            table = dependency.table
            interest = self._spelled(table)
            interest.add_query(query.region.db, dependency.column)
            column, source = dependency.column, dependency.source
            if source is not None and source.many:
                # Of many values the whole table is depended on, so that stamps stay few.
                interest.add_query(query.region.db, None)
            if query.on_write == "refresh":
                parameter = None if source is None else source.parameter
                name = None if column is None or parameter is None else column.name
                interest.refreshed.append(Refreshed(query, name, parameter))

    def _follow_derived(self, query: DerivedQuery) -> None:
        interest = self._spelled(query.table)
        # Entries that no derived tag covers depend on the table as a whole.
        interest.add_query(query.region.db, None)
        interest.add_derived(query.derived_tags())

    def _spelled(self, table: Table) -> TableInterest:
        interest = self._by_name.setdefault(self._names.of(table), TableInterest(table))
        interest.spell(table)
        return interest

    def _itself(self, table: Table) -> tuple[str]:
        return (self.named(table.schema, table.name),)


def _columns_of(
    mapper: Mapper[Any], table: Table, fields: Iterable[str]
) -> tuple[Column[Any], ...] | None:
    found: list[Column[Any]] = []
    for field in fields:
        columns = mapper.get_property(field).columns
        mine = [column for column in columns if column.table is table]
        if not mine:
            return None
        found.append(mine[0])
    return tuple(found)


def as_stored(column: Column[Any], value: Any) -> Any:
    """The value as a row of the table has it."""
    # varchar(n) drops blanks beyond its length without a word; the row has the shorter value.
    length = getattr(column.type, "length", None)
    if length is not None and isinstance(value, str) and len(value) > length:
        return value[:length]
    return value
