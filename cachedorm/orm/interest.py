"""What is cached over each table: which keys a changed row makes doubtful."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper

from cachedorm.declare.shape import EntityShape
from cachedorm.errors import ArgumentError
from cachedorm.orm.keyvalue import key_value
from cachedorm.store.keys import Template, stamp_key, wildcard_tag
from cachedorm.store.slots import Touched

TableName = tuple[str | None, str]
# A row as a writer knows it: values by column name. A column that is not there is not known.
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeyInterest:
    """Rows of a table are cached one by one, under keys made of these columns."""

    db: int
    template: Template
    columns: tuple[Column[Any], ...]
    mapper: Mapper[Any]
    write_through: bool

    def key_of(self, row: Values, dialect: Dialect) -> str | None:
        """The row's key; None if a column is null, so that the row has none.

        Raises KeyError for a column whose value is not known.
        """
        values: dict[str, Any] = {}
        for field, column in zip(self.template.fields, self.columns, strict=True):
            value = key_value(column, row[column.name], dialect)
            if value is None:
                return None
            values[field] = _as_stored(column, value)
        return self.template.render(values)


class TableInterest:
    """Everything cached over one table: whole entries, and the stamps that entries carry."""

    __slots__ = ("_stamp", "dbs", "keyless", "keys", "primary_key", "table", "through", "watched")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.keys: list[KeyInterest] = []
        self.dbs: set[int] = set()
        # Some entry over this table has a key that this table's rows do not tell.
        self.keyless = False
        # Some entries are written through.
        self.through = False
        self.primary_key = tuple(table.primary_key.columns)
        self.watched: tuple[Column[Any], ...] = ()
        self._stamp = stamp_key(wildcard_tag(table.fullname))

    def add(self, interest: KeyInterest) -> None:
        """Follow this table's rows for one more kind of entry."""
        self.keys.append(interest)
        self.dbs.add(interest.db)
        self.through = self.through or interest.write_through
        # By name: two Table objects may stand for one table.
        others = {column.name for each in self.keys for column in each.columns}
        others.difference_update(column.name for column in self.primary_key)
        self.watched = tuple(column for column in self.table.columns if column.name in others)

    @property
    def stamp(self) -> str:
        """The key of the table's wildcard stamp, which every entry over the table carries."""
        return self._stamp

    def touch_all(self, touched: Touched) -> None:
        """It is not known which rows changed: every entry over the table is doubtful."""
        for db in self.dbs:
            touched.add_stamps(db, (self._stamp,))

    def touch(self, touched: Touched, row: Values, dialect: Dialect) -> None:
        """This row changed, or was, or came to be: the entries it has a key in are doubtful."""
        if self.keyless:
            self.touch_all(touched)
        for interest in self.keys:
            try:
                key = interest.key_of(row, dialect)
            except (KeyError, ArgumentError):
                self.touch_all(touched)
                continue
            if key is not None:
                touched.add_entries(interest.db, (key,))

    def offers(
        self, row: Values, dialect: Dialect
    ) -> Iterator[tuple[KeyInterest, str, tuple[Any, ...]]]:
        """The entries that a write-through may replace, with the values of their key's columns."""
        for interest in self.keys:
            if not interest.write_through:
                continue
            with suppress(KeyError, ArgumentError):
                key = interest.key_of(row, dialect)
                if key is not None:
                    yield interest, key, tuple(row[column.name] for column in interest.columns)

    def __repr__(self) -> str:
        keys = ", ".join(interest.template.text for interest in self.keys)
        return f"<TableInterest {self.table.fullname}: {keys or 'followed'}>"


class Interests:
    """The interest in every table that some declared model follows.

    Tables are told apart by schema and name: two Table objects may stand for one table.
    """

    __slots__ = ("_by_name", "_known", "known", "written_with")

    def __init__(self, shapes: Iterable[EntityShape], tables: Iterable[Table]) -> None:
        self._by_name: dict[TableName, TableInterest] = {}
        self._known = {_name(table) for table in tables}
        # What is registered of all this, and which tables are written along with one.
        self.known: frozenset[str] = frozenset()
        self.written_with: Callable[[Table], Iterable[str]] = _itself
        for shape in shapes:
            for mapper in shape.owner.self_and_descendants:
                self._follow(shape, mapper)

    def __getitem__(self, table: Table) -> TableInterest | None:
        return self._by_name.get(_name(table))

    def __iter__(self) -> Iterator[TableInterest]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def knows(self, table: Table) -> bool:
        """Whether this is a table that the mapped classes' metadata holds."""
        return _name(table) in self._known

    def touch_everything(self, touched: Touched) -> None:
        """Nothing is known of what was written: every entry of every table is doubtful."""
        for interest in self:
            interest.touch_all(touched)

    def _follow(self, shape: EntityShape, mapper: Mapper[Any]) -> None:
        db = shape.policy.region.db
        for table in mapper.tables:
            if not isinstance(table, Table):
                continue
            interest = self._by_name.setdefault(_name(table), TableInterest(table))
            interest.dbs.add(db)
            if shape.template is None or any(
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


def _itself(table: Table) -> tuple[str]:
    return (table.fullname,)


def _name(table: Table) -> TableName:
    return table.schema, table.name


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


def _as_stored(column: Column[Any], value: Any) -> Any:
    # varchar(n) drops blanks beyond its length without a word; the row has the shorter value.
    length = getattr(column.type, "length", None)
    if length is not None and isinstance(value, str) and len(value) > length:
        return value[:length]
    return value
