"""All rows of a cached class, page by page along the primary key, and where one has got to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from sqlalchemy import ColumnElement, Select, bindparam, select, tuple_
from sqlalchemy.engine import Connection

from cachedorm.errors import ArgumentError
from cachedorm.orm.database.profile import INTERNAL_OPTIONS
from cachedorm.orm.mapping.entity_plan import EntityPlan, Row, UnknownRow
from cachedorm.orm.reading.many import concrete_rows
from cachedorm.store.codec import UNDECODABLE, decode_plain, encode_plain
from cachedorm.store.protocol.keys import EntryKey

PageValues = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a warming has come: the last row's primary key, or a count of parameters."""

    name: str
    key: PageValues | None = None
    count: int = 0

    @classmethod
    def read(cls, text: str | None, name: str) -> Self:
        """The position that this text stands for; ArgumentError if it is of something else."""
        if text is None:
            return cls(name)
        try:
            whose, key, count = decode_plain(base64.urlsafe_b64decode(text))
        except (binascii.Error, ValueError, TypeError, *UNDECODABLE):
            raise ArgumentError(f"warm(after={text!r}): not a position of a warming") from None
        if whose != name:
            raise ArgumentError(
                f"warm(after=...): that is a position in {whose!r}, not in {name!r}"
            )
        return cls(name, key, count)

    def at(self, key: PageValues) -> Position:
        """After the row with this primary key."""
        return replace(self, key=key)

    def further(self, count: int) -> Position:
        """The position ``count`` parameters further."""
        return replace(self, count=self.count + count)

    @property
    def text(self) -> str:
        """For people to keep; ``read`` understands it."""
        return base64.urlsafe_b64encode(encode_plain([self.name, self.key, self.count])).decode()


@dataclass(frozen=True, slots=True)
class Page:
    """The keys of some rows that follow each other, by the values of the key's columns."""

    keys: Mapping[PageValues, EntryKey]
    rows: int
    after: PageValues | None
    last: PageValues


class Pages:
    """Reads the rows of one cached class in the order of their primary keys."""

    __slots__ = ("_beyond", "_first", "_names", "_next", "_plan", "_upto")

    def __init__(self, plan: EntityPlan, size: int) -> None:
        self._plan = plan
        self._names = plan.fields
        attributes = {each.name: each.column for each in plan.root.shape.attributes}
        key = [plan.root.shape.attributes[at].column for at in plan.root.key_positions]
        columns = [*key, *(attributes[field] for field in plan.fields)]
        # Named apart, for one column may be both.
        labelled = [column.label(f"c{at}") for at, column in enumerate(columns)]
        page: Select[Any] = select(*labelled).select_from(plan.mapper.persist_selectable)
        self._first = page.order_by(*key).limit(size)
        self._next = self._first.where(_compared(key, "after", ">"))
        whole = plan.root.statement
        self._upto = whole.where(_compared(key, "last", "<="))
        self._beyond = self._upto.where(_compared(key, "after", ">"))

    def page(self, connection: Connection, after: PageValues | None) -> Page:
        """The keys of the rows after this primary key; of the first ones without."""
        plan, width = self._plan, len(self._plan.root.key_positions)
        statement = self._first if after is None else self._next
        found = connection.execute(
            statement, _bound(after=after), execution_options=INTERNAL_OPTIONS
        ).all()
        keys: dict[PageValues, EntryKey] = {}
        for row in found:
            values = tuple(row[width:])
            if None not in values:
                try:
                    keys[values] = plan.key(values)
                except ArgumentError:
                    continue  # a value without key text: such a row is never cached
        last = tuple(found[-1][:width]) if found else ()
        return Page(keys, len(found), after, last)

    def rows(self, connection: Connection, page: Page) -> Iterable[Row]:
        """The rows of a page as they are now; some may have come, gone or moved since."""
        statement = self._upto if page.after is None else self._beyond
        bound = _bound(after=page.after, last=page.last)
        found = connection.execute(statement, bound, execution_options=INTERNAL_OPTIONS)
        root = self._plan.root
        rows = [row for each in found if self._is_of_a_class(row := (root, tuple(each)))]
        return [row for _, row in concrete_rows(connection, self._plan, rows)]

    def _is_of_a_class(self, row: Row) -> bool:
        """Whether the row's class is mapped here; one that is not shall not hold up the others."""
        try:
            return not self._plan.polymorphic or bool(self._plan.concrete(*row))
        except UnknownRow:
            return False

    def values(self, row: Row) -> PageValues:
        """The values of the key's columns."""
        plan, values = row
        return tuple(plan.value(values, name) for name in self._names)


def _compared(columns: list[Any], name: str, operator: str) -> ColumnElement[bool]:
    bounds = [bindparam(f"{name}_{at}", type_=column.type) for at, column in enumerate(columns)]
    if len(columns) == 1:
        compared: ColumnElement[bool] = columns[0].op(operator, is_comparison=True)(bounds[0])
    else:
        compared = tuple_(*columns).op(operator, is_comparison=True)(tuple_(*bounds))
    return compared


def _bound(**keys: PageValues | None) -> dict[str, Any]:
    return {
        f"{name}_{at}": value for name, key in keys.items() for at, value in enumerate(key or ())
    }
