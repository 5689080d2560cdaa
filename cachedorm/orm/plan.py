"""A plan says, for one cached class under one Cache, how its rows are keyed, stored and read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper

from cachedorm.declare.kinds import decorator_of
from cachedorm.declare.shape import EntityShape, RowShape, row_shape
from cachedorm.orm.fields import field_stamps
from cachedorm.store.codec import UndecodableError, row_codec
from cachedorm.store.entry import FINGERPRINT_BYTES, Form
from cachedorm.store.keys import EntryKey, stamp_key, wildcard_tag
from cachedorm.store.region import CachedRegion

# Relationships that a plain load leaves alone; any other a hit would have to load as well.
_LAZY = frozenset(
    {"select", True, "raise", "raise_on_sql", "noload", "dynamic", "write_only", None}
)

# What a loaded row is worth: the concrete mapper's plan and its values.
Row = tuple["RowPlan", tuple[Any, ...]]


class RowPlan:
    """How a row of one concrete mapper is selected, stored and given back.

    What is stored of a TypeDecorator is the value it binds, so that a hit runs the decorator just
    as a row from the database does.
    """

    __slots__ = (
        "decode",
        "encode",
        "key_positions",
        "mapper",
        "name",
        "names",
        "shape",
        "statement",
        "unstored",
    )

    def __init__(self, shape: RowShape, owner: Mapper[Any], dialect: Dialect) -> None:
        self.shape = shape
        self.mapper = shape.mapper
        self.name = shape.mapper.class_.__name__
        self.names = tuple(attribute.name for attribute in shape.attributes)
        keys = [owner.get_property_by_column(column).key for column in owner.primary_key]
        self.key_positions = tuple(self.names.index(name) for name in keys)
        self.unstored = frozenset(
            key for key in shape.mapper.class_manager if key in shape.excluded
        )
        encode, decode = row_codec([attribute.kind for attribute in shape.attributes])
        decorated = [
            (position, attribute.decorator)
            for position, attribute in enumerate(shape.attributes)
            if attribute.decorator is not None
        ]
        if decorated:
            self.encode = lambda values: encode(bound_values(values, decorated, dialect))
            self.decode = lambda payload: restored_values(decode(payload), decorated, dialect)
        else:
            self.encode = encode
            self.decode = decode
        self.statement: Select[Any] = select(
            *(attribute.column for attribute in shape.attributes)
        ).select_from(shape.mapper.persist_selectable)

    def value(self, values: Sequence[Any], name: str) -> Any:
        """The value of the attribute of this name."""
        return values[self.names.index(name)]


class EntityPlan:
    """How the rows of one cached class are keyed, stored and read under one Cache."""

    __slots__ = (
        "_order",
        "by_primary_key",
        "class_",
        "criteria",
        "dialect",
        "eager",
        "fields",
        "form",
        "identity_class",
        "key_types",
        "mapper",
        "negative_ttl_ms",
        "policy",
        "polymorphic",
        "region",
        "region_name",
        "root",
        "rows",
        "stamps",
        "template",
        "ttl_field",
        "ttl_ms",
    )

    def __init__(
        self, shape: EntityShape, region: CachedRegion, database: str, dialect: Dialect
    ) -> None:
        assert shape.template is not None
        owner = shape.owner
        self.mapper = owner
        self.class_ = owner.class_
        self.identity_class = owner._identity_class
        self.policy = shape.policy
        self.template = shape.template
        self.fields = shape.template.fields
        self.by_primary_key = shape.by_primary_key
        self.region = region
        self.region_name = shape.policy.region.name
        self.dialect = dialect
        mappers = [mapper for mapper in owner.self_and_descendants if not mapper.concrete]
        self.rows = {mapper: RowPlan(row_shape(mapper), owner, dialect) for mapper in mappers}
        self.root = self.rows[owner]
        self.polymorphic = owner.polymorphic_on is not None
        tables = {table for mapper in mappers for table in mapper.tables}
        names = sorted(getattr(table, "fullname", str(table)) for table in tables)
        self.stamps = tuple(stamp_key(wildcard_tag(name)) for name in names)
        self.ttl_ms = shape.policy.ttl_ms
        self.negative_ttl_ms = shape.policy.negative_ttl_ms
        self.ttl_field = shape.policy.ttl if isinstance(shape.policy.ttl, str) else None
        columns = [owner.get_property(name).columns[0] for name in self.fields]
        self.key_types = tuple(python_type(column) for column in columns)
        criteria = (
            column == bindparam(f"key_{number}", type_=column.type)
            for number, column in enumerate(columns)
        )
        self.criteria: ColumnElement[bool] = and_(*criteria)
        order = [owner.get_property_by_column(column).key for column in owner.primary_key]
        self._order = (
            None
            if not self.by_primary_key or tuple(order) == self.fields
            else tuple(order.index(field) for field in self.fields)
        )
        self.eager = any(
            relation.lazy not in _LAZY for mapper in mappers for relation in mapper.relationships
        )
        self.form = Form(self._fingerprint(database, names), self._encode, self._decode)

    def key(self, values: Sequence[Any]) -> EntryKey:
        """The entry's key for these values of the key's fields, in the template's order."""
        named = dict(zip(self.fields, values, strict=True))
        stamps = self.stamps
        if len(self.fields) > 1:
            # One field alone does not name the key, so ``invalidate_where`` needs a stamp to end.
            stamps += field_stamps(self.fields, named)
        return EntryKey(self.template.render(named), stamps, self.form, self.ttl_ms)

    def in_key_order(self, identity: Sequence[Any]) -> Sequence[Any]:
        """A primary key in the order of the key template's fields."""
        order = self._order
        return identity if order is None else tuple(identity[position] for position in order)

    def concrete(self, plan: RowPlan, values: Sequence[Any]) -> RowPlan:
        """The plan of the mapper that the row's discriminator names."""
        column = self.mapper.polymorphic_on
        assert column is not None
        name = self.mapper.get_property_by_column(column).key
        mapper = self.mapper.polymorphic_map[plan.value(values, name)]
        return self.rows[mapper]

    def accepts(self, values: Sequence[Any]) -> bool:
        """Whether each value is of the very type that the column's rows have.

        A value of another type (``"1"`` for an integer key) is the database's to compare.
        """
        return all(
            type(value) is expected for value, expected in zip(values, self.key_types, strict=True)
        )

    def ttl_of(self, row: Row) -> int | None:
        """How long this row may be kept, in milliseconds; None is the region's own time.

        Zero or less (the row has expired already) means: not at all.
        """
        if self.ttl_field is None:
            return self.ttl_ms
        plan, values = row
        end = plan.value(values, self.ttl_field)
        if not isinstance(end, datetime):
            return 0
        now = datetime.now(UTC) if end.tzinfo is not None else datetime.now()  # noqa: DTZ005
        return int((end - now).total_seconds() * 1000)

    def identity(self, row: Row) -> tuple[Any, ...]:
        """The primary key of a row."""
        plan, values = row
        positions = plan.key_positions
        if len(positions) == 1:
            return (values[positions[0]],)
        return tuple(values[position] for position in positions)

    def _encode(self, row: Row) -> bytes:
        plan, values = row
        payload = plan.encode(values)
        if not self.polymorphic:
            return payload
        name = plan.name.encode()
        return bytes((len(name),)) + name + payload

    def _decode(self, payload: bytes) -> Row:
        if not self.polymorphic:
            return self.root, self.root.decode(payload)
        end = 1 + (payload[0] if payload else 0)
        plan = self._named(payload[1:end].decode(errors="replace"))
        return plan, plan.decode(payload[end:])

    def _named(self, name: str) -> RowPlan:
        for plan in self.rows.values():
            if plan.name == name:
                return plan
        raise UndecodableError(f"no mapper of {self.class_.__name__} is named {name!r}")

    def _fingerprint(self, database: str, tables: Sequence[str]) -> bytes:
        digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
        digest.update(repr((database, self.template.text, tables, self.polymorphic)).encode())
        for plan in sorted(self.rows.values(), key=lambda each: each.name):
            columns = [
                (each.name, repr(each.kind), repr(each.decorator)) for each in plan.shape.attributes
            ]
            digest.update(repr((plan.name, columns)).encode())
        return digest.digest()


def key_value(column: Any, value: Any, dialect: Dialect) -> Any:
    """The value as it goes to the database, which keys are made of."""
    decorator = decorator_of(column.type)
    if decorator is not None:
        return decorator.process_bind_param(value, dialect)
    return value


def python_type(column: Any) -> type | None:
    """The very type of the column's values in rows; None if that is not known."""
    if decorator_of(column.type) is not None:
        return None
    try:
        found: type = column.type.python_type
    except NotImplementedError:
        return None
    return found


def bound_values(
    values: tuple[Any, ...], decorated: Sequence[tuple[int, Any]], dialect: Dialect
) -> tuple[Any, ...]:
    changed = list(values)
    for position, decorator in decorated:
        changed[position] = decorator.process_bind_param(changed[position], dialect)
    return tuple(changed)


def restored_values(
    values: tuple[Any, ...], decorated: Sequence[tuple[int, Any]], dialect: Dialect
) -> tuple[Any, ...]:
    changed = list(values)
    try:
        for position, decorator in decorated:
            changed[position] = decorator.process_result_value(changed[position], dialect)
    except Exception as error:
        raise UndecodableError(f"{decorator!r} refused a stored value: {error!r}") from error
    return tuple(changed)
