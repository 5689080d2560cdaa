"""A plan says, for one cached class under one Cache, how its rows are keyed, stored and read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper

from cachedorm.declare.policies.shape import EntityShape, row_shape
from cachedorm.errors import ArgumentError
from cachedorm.orm.database.profile import Profile
from cachedorm.orm.mapping.field_stamps import field_stamps
from cachedorm.orm.mapping.key_values import asked_value, key_value, plain_key_type
from cachedorm.orm.mapping.row_plan import RowPlan
from cachedorm.orm.mapping.source import Readable, Source
from cachedorm.store.codec import UndecodableError
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.protocol.entry import FINGERPRINT_BYTES, Format
from cachedorm.store.protocol.keys import EntryKey, stamp_key, wildcard_tag
from cachedorm.store.runtime.clock import now_ms

# Relationships that a plain load leaves alone; any other a hit would have to load as well.
_LAZY = frozenset(
    {"select", True, "raise", "raise_on_sql", "noload", "dynamic", "write_only", None}
)
# Where the default comparison of strings is Python's.
_EXACT_STRINGS = frozenset({"postgresql", "sqlite", "oracle"})

# What a loaded row is worth: the concrete mapper's plan and its values as they are stored.
Row = tuple[RowPlan, tuple[Any, ...]]


class UnknownRow(Exception):
    """The row's discriminator names no class that is mapped here, or another at each reading."""


class EntityPlan:
    """How the rows of one cached class are keyed, stored and read under one Cache."""

    __slots__ = (
        "_columns",
        "_dialect",
        "_discriminator",
        "_plain",
        "by_primary_key",
        "fields",
        "form",
        "in_key_order",
        "is_from",
        "key_of",
        "key_of_identity",
        "mapper",
        "negative_ttl_ms",
        "polymorphic",
        "region",
        "region_name",
        "root",
        "rows",
        "stamps",
        "statements",
        "tables",
        "template",
        "ttl_field",
        "ttl_ms",
        "why_never",
    )

    def __init__(
        self,
        shape: EntityShape,
        region: CachedRegion,
        database: str,
        profile: Profile,
        dialect: Dialect,
    ) -> None:
        assert shape.template is not None
        owner = shape.owner
        self.mapper = owner
        self.template = shape.template
        self.fields = shape.template.fields
        self.by_primary_key = shape.by_primary_key
        self.region = region
        self.region_name = shape.policy.region.name
        self.ttl_ms = shape.policy.ttl_ms
        self.negative_ttl_ms = shape.policy.negative_ttl_ms
        self.ttl_field = shape.policy.expires_at
        self._dialect = dialect
        self._columns = tuple(owner.get_property(name).columns[0] for name in self.fields)
        self._plan_rows(owner, dialect)
        self._plan_keys(owner, dialect)
        names = sorted(getattr(table, "fullname", str(table)) for table in self.tables)
        self.stamps = tuple(stamp_key(wildcard_tag(name)) for name in names)
        source = Source.of(owner, self.tables, profile)
        self.is_from = source.is_from
        fingerprint = self._fingerprint((database, *source.whose), names)
        self.form = Format(fingerprint, self._encode, self._decode)
        # The reason for which no read can be served, whatever the session, or None.
        self.why_never = self._why_never(dialect)

    def _plan_rows(self, owner: Mapper[Any], dialect: Dialect) -> None:
        mappers = [mapper for mapper in owner.self_and_descendants if not mapper.concrete]
        self.tables = tuple({table for mapper in mappers for table in mapper.tables})
        criteria: ColumnElement[bool] = and_(
            *(
                column == bindparam(f"key_{number}", type_=column.type)
                for number, column in enumerate(self._columns)
            )
        )
        self.rows = {mapper: RowPlan(row_shape(mapper), owner, dialect) for mapper in mappers}
        self.root = self.rows[owner]
        self.statements: dict[RowPlan, Select[Any]] = {
            plan: plan.statement.where(criteria) for plan in self.rows.values()
        }
        self.polymorphic = owner.polymorphic_on is not None
        self._discriminator = (
            owner.get_property_by_column(owner.polymorphic_on).key
            if owner.polymorphic_on is not None
            else ""
        )

    def _plan_keys(self, owner: Mapper[Any], dialect: Dialect) -> None:
        order = [owner.get_property_by_column(column).key for column in owner.primary_key]
        # A primary key in the order of the template's fields; None if that is its own order.
        self.in_key_order: Callable[[Sequence[Any]], Sequence[Any]] | None = (
            _ordered(tuple(order.index(field) for field in self.fields))
            if self.by_primary_key and tuple(order) != self.fields
            else None
        )
        plain = [plain_key_type(column, dialect) for column in self._columns]
        self._plain: type | None = plain[0] if len(plain) == 1 else None
        # The key of what a reader asks for; ArgumentError if only the database can compare it.
        self.key_of: Callable[[Sequence[Any]], EntryKey] = (
            self._plain_key_of if self._plain is not None else self._asked_key_of
        )

        # The same of a primary key.
        self.key_of_identity = self.key_of if self.in_key_order is None else self._reordered_key_of

    def key(self, values: Sequence[Any]) -> EntryKey:
        """The entry's key for a row that has these values in the key's fields, in their order."""
        exact = {}
        for field, column, value in zip(self.fields, self._columns, values, strict=True):
            exact[field] = key_value(column, value, self._dialect)
        return self._entry_key(exact)

    def key_of_row(self, row: Row) -> EntryKey:
        """The entry's key for this row."""
        plan, values = row
        return self.key([plan.value(values, field) for field in self.fields])

    def _plain_key_of(self, values: Sequence[Any]) -> EntryKey:
        value = values[0]
        if type(value) is not self._plain or len(values) != 1:
            raise ArgumentError(f"{value!r} is not a {self._plain}")
        return EntryKey(self.template.render_one(value), self.stamps, self.form, self.ttl_ms)

    def _reordered_key_of(self, identity: Sequence[Any]) -> EntryKey:
        assert self.in_key_order is not None
        return self.key_of(self.in_key_order(identity))

    def _asked_key_of(self, values: Sequence[Any]) -> EntryKey:
        if len(values) != len(self._columns):
            raise ArgumentError(f"{self.template.text!r} takes {len(self._columns)} values")
        asked = [
            asked_value(column, value, self._dialect)
            for column, value in zip(self._columns, values, strict=True)
        ]
        return self._entry_key(dict(zip(self.fields, asked, strict=True)))

    def _entry_key(self, values: dict[str, Any]) -> EntryKey:
        stamps = self.stamps
        if len(self.fields) > 1:
            # One field alone does not name the key, so ``invalidate_where`` needs a stamp to end.
            stamps += field_stamps(self.fields, values)
        return EntryKey(self.template.render(values), stamps, self.form, self.ttl_ms)

    def readable(self, payload: bytes, most: int) -> Readable:
        """The payload for people; raises only UNDECODABLE."""
        plan, values = self._decode(payload)
        return Readable(plan.name, 1, [dict(zip(plan.names, values, strict=True))])

    def concrete(self, plan: RowPlan, values: tuple[Any, ...]) -> RowPlan:
        """The plan of the mapper that the row's discriminator names; UnknownRow if there is none.

        Classes that were mapped after this plan was made are unknown too.
        """
        identity = plan.value(values, self._discriminator)
        mapper = self.mapper.polymorphic_map.get(identity)
        found = self.rows.get(mapper) if mapper is not None else None
        if found is None:
            raise UnknownRow(f"{self.mapper.class_.__name__} of kind {identity!r}")
        return found

    def ttl_of(self, row: Row) -> int | None:
        """How long this row may be kept, in milliseconds; None is the region's own time.

        Zero or less (the row has expired already, or does not say when) means: not at all.
        """
        if self.ttl_field is None:
            return self.ttl_ms
        plan, values = row
        end = plan.value(values, self.ttl_field)
        if not isinstance(end, datetime):
            return 0
        if end.tzinfo is None:
            # It does not say whose clock is meant: take the earlier of UTC's and this machine's.
            end = min(end.replace(tzinfo=UTC), end.astimezone())
        return int(end.timestamp() * 1000) - now_ms()

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
        raise UndecodableError(f"no mapper of {self.mapper.class_.__name__} is named {name!r}")

    def _fingerprint(self, database: tuple[str | None, ...], tables: Sequence[str]) -> bytes:
        digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
        digest.update(repr((database, self.template.text, tables, self.polymorphic)).encode())
        for plan in sorted(self.rows.values(), key=lambda each: each.name):
            digest.update(repr((plan.name, plan.signature)).encode())
        return digest.digest()

    def _why_never(self, dialect: Dialect) -> str | None:
        relations = (relation for mapper in self.rows for relation in mapper.relationships)
        if any(relation.lazy not in _LAZY for relation in relations):
            return "eager relationships"
        if dialect.name not in _EXACT_STRINGS and any(
            plain_key_type(column, dialect) is str for column in self._columns
        ):
            return "strings compare wider than Python's"
        return None


def _ordered(order: tuple[int, ...]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    def ordered(identity: Sequence[Any]) -> Sequence[Any]:
        if len(identity) != len(order):
            return identity  # not a primary key: making a key of it says so
        return tuple(identity[position] for position in order)

    return ordered
