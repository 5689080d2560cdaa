"""A row plan says how a row of one concrete mapper is selected, stored and given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Select, TypeDecorator, select, type_coerce
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeEngine

from cachedorm.declare.kinds import decorator_of, kind_of, raw_type
from cachedorm.declare.policies.shape import Attribute, RowShape, unstorable_text
from cachedorm.errors import DeclarationError, NotCacheable
from cachedorm.store.codec import Kind, UndecodableError, row_codec

_Restore = tuple[int, TypeDecorator[Any]]


class RowPlan:
    """How a row of one concrete mapper is selected, stored and given back.

    Of a TypeDecorator the database's own value is selected and stored; ``live`` turns it into the
    attribute's, for a row from the database and one from the cache alike. What a decorator would
    bind is not a substitute: one that hashes passwords would hash the hash.
    """

    __slots__ = (
        "_dialect",
        "_restored",
        "decode",
        "encode",
        "identity_class",
        "identity_of",
        "key_positions",
        "live",
        "mapper",
        "name",
        "names",
        "shape",
        "signature",
        "statement",
        "stored",
        "unstored",
    )

    def __init__(self, shape: RowShape, owner: Mapper[Any], dialect: Dialect) -> None:
        self._dialect = dialect
        self.shape = shape
        self.mapper = shape.mapper
        self.name = shape.mapper.class_.__name__
        self.names = tuple(attribute.name for attribute in shape.attributes)
        self.stored = frozenset(self.names)
        keys = [owner.get_property_by_column(column).key for column in owner.primary_key]
        self.key_positions = tuple(self.names.index(name) for name in keys)
        self.identity_class = shape.mapper._identity_class
        # The primary key in a row of live values.
        self.identity_of: Callable[[Sequence[Any]], tuple[Any, ...]] = (
            itemgetter(*self.key_positions)
            if len(self.key_positions) > 1
            else itemgetter(slice(self.key_positions[0], self.key_positions[0] + 1))
        )
        self.unstored = frozenset(
            key for key in shape.mapper.class_manager if key in shape.excluded
        )
        kinds = [_kind(attribute, dialect, shape.mapper) for attribute in shape.attributes]
        # What the stored bytes mean: part of every entry's fingerprint.
        self.signature = repr(
            [
                (attribute.name, str(attribute.column), str(kind))
                for attribute, kind in zip(shape.attributes, kinds, strict=True)
            ]
        )
        self.encode, self.decode = row_codec(kinds)
        self._restored: tuple[_Restore, ...] = tuple(_restored(shape.attributes, dialect))
        # The attributes' values from the stored ones.
        self.live: Callable[[tuple[Any, ...]], tuple[Any, ...]] = (
            self._restore if self._restored else tuple
        )
        self.statement: Select[Any] = select(
            *(own_value(attribute.column, dialect) for attribute in shape.attributes)
        ).select_from(shape.mapper.persist_selectable)

    def refills(self, names: Iterable[str]) -> bool:
        """Whether a stored row can fill these attributes: some of them, and none is left out."""
        return self.unstored.isdisjoint(names) and not self.stored.isdisjoint(names)

    def value(self, values: Sequence[Any], name: str) -> Any:
        """The value that the attribute of this name has in a row."""
        return self.live(tuple(values))[self.names.index(name)]

    def stored_of(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Values to store from live ones, where the database's own are not to be had.

        Only those from which ``live`` makes the same again: what a decorator binds need not be
        what it was made of (one that hashes would hash the hash). Raises NotCacheable.
        """
        changed = list(values)
        for position, decorator in self._restored:
            changed[position] = self._bound(decorator, values[position], self.names[position])
        return tuple(changed)

    def _bound(self, decorator: TypeDecorator[Any], value: Any, name: str) -> Any:
        try:
            bound = decorator.process_bind_param(value, self._dialect)
            again = decorator.process_result_value(bound, self._dialect)
        except Exception as error:
            raise NotCacheable(f"{self.name}.{name}: {decorator!r} refused: {error!r}") from error
        if type(again) is not type(value) or again != value:
            raise NotCacheable(
                f"{self.name}.{name}: {decorator!r} does not give back what it is given, so of an"
                " object loaded along with a relationship it cannot be stored"
            )
        return bound

    def _restore(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        changed = list(values)
        try:
            for position, decorator in self._restored:
                changed[position] = decorator.process_result_value(changed[position], self._dialect)
        except Exception as error:
            raise UndecodableError(f"{decorator!r} refused a stored value: {error!r}") from error
        return tuple(changed)

    def __repr__(self) -> str:
        return f"<RowPlan {self.name}: {', '.join(self.names)}>"


def _kind(attribute: Attribute, dialect: Dialect, mapper: Mapper[Any]) -> Kind:
    # Declarations were checked for PostgreSQL; here stands the database that is really used.
    kind = kind_of(attribute.column.type, dialect)
    if kind is None:
        who = f"{mapper.class_.__name__}.__cache__ on {dialect.name}"
        raise DeclarationError(unstorable_text(mapper, attribute.name, attribute.column, who))
    return kind


def restorer_of(type_: TypeEngine[Any], dialect: Dialect) -> TypeDecorator[Any] | None:
    """The decorator that makes live values of this type from the database's own, if one does."""
    found = decorator_of(type_._variant_mapping.get(dialect.name, type_))
    return found if found is not None and found._has_result_processor else None


def _restored(attributes: Sequence[Attribute], dialect: Dialect) -> list[_Restore]:
    found = (
        (at, restorer_of(attribute.column.type, dialect)) for at, attribute in enumerate(attributes)
    )
    return [(at, decorator) for at, decorator in found if decorator is not None]


def own_value(column: Any, dialect: Dialect) -> Any:
    """The column as the database has it, past the decorator of its type."""
    if restorer_of(column.type, dialect) is None:
        return column
    return type_coerce(column, raw_type(column.type, dialect))
