"""The shape of a model's cached entries, and the checks of its declaration.

A shape is made once per mapper, when mappers configure, and does not depend on a Cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, ColumnElement, DateTime, Join, Table, UniqueConstraint
from sqlalchemy.orm import ColumnProperty, Mapper
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import iterate

from cachedorm.declare.kinds import kind_of, why_no_key
from cachedorm.declare.policies.policy import CachePolicy
from cachedorm.declare.policies.region import Regions
from cachedorm.errors import DeclarationError
from cachedorm.store.codec import Kind
from cachedorm.store.protocol.keys import Template

# Functions of their arguments alone. Others may read the clock, settings or other tables.
_PURE = frozenset(
    {
        *("abs", "ceil", "char_length", "coalesce", "concat", "floor", "greatest", "initcap"),
        *("least", "left", "length", "lower", "ltrim", "md5", "mod", "nullif", "power"),
        *("replace", "reverse", "right", "round", "rtrim", "sign", "sqrt", "substr"),
        *("substring", "trim", "upper"),
    }
)
_WRITTEN_OUT = frozenset({"textclause", "column"})


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """One attribute that an entry stores, and the column or expression that it is read from."""

    name: str
    column: ColumnElement[Any]


@dataclass(frozen=True, slots=True, eq=False)
class RowShape:
    """What an entry stores of a row of one concrete mapper."""

    mapper: Mapper[Any]
    attributes: tuple[Attribute, ...]
    excluded: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class EntityShape:
    """How the rows of one cached class and of its subclasses are keyed."""

    owner: Mapper[Any]
    policy: CachePolicy
    template: Template | None
    by_primary_key: bool


_shapes: WeakKeyDictionary[Mapper[Any], EntityShape] = WeakKeyDictionary()
_mapped = 0
_rows: WeakKeyDictionary[Mapper[Any], RowShape] = WeakKeyDictionary()


def declare_shape(mapper: Mapper[Any]) -> None:
    """Check the declaration of the mapper's class and keep its shape; raises DeclarationError."""
    policy = getattr(mapper.class_, "__cache__", None)
    if policy is None:
        return
    who = f"{mapper.class_.__name__}.__cache__"
    if not isinstance(policy, CachePolicy):
        raise DeclarationError(f"{who} must be a CachePolicy, got {policy!r}")
    _check_region(mapper, policy, who)
    owner = _owner(mapper, policy, who)
    template = None
    if not policy.follow_only:
        _check_rows(mapper, who)
        if mapper.concrete:
            raise DeclarationError(
                f"{who}: concrete inheritance gives rows of several tables one key;"
                " use joined or single-table inheritance, or give follow_only=True"
            )
        template = policy.template or _default_template(owner, who)
        if owner is mapper:  # what names its columns, for its subclasses too
            _check_key(mapper, template, who)
            _check_expires_at(mapper, policy, who)
        _rows[mapper] = _row_shape(mapper, policy, who)
        if policy.on_write == "write_through":
            _check_write_through(mapper, who)
    if owner is mapper:
        _shapes[mapper] = EntityShape(owner, policy, template, _is_primary_key(mapper, template))


def entity_shape(mapper: Mapper[Any]) -> EntityShape | None:
    """The shape of the mapper's rows, or None if its class declares no cache."""
    for each in mapper.iterate_to_root():
        shape = _shapes.get(each)
        if shape is not None:
            return shape
    return None


def shapes() -> list[EntityShape]:
    """The shape of every configured mapper that declares one, in the order of configuration."""
    return list(_shapes.values())


def count_mapped() -> None:
    """Count one more cached class; its shape is made when mappers configure."""
    global _mapped  # noqa: PLW0603
    _mapped += 1


def mapped_count() -> int:
    """The number of cached classes mapped so far, including those that are gone."""
    return _mapped


def row_shape(mapper: Mapper[Any]) -> RowShape:
    """What an entry stores of a row of this concrete mapper."""
    return _rows[mapper]


def left_out(mapper: Mapper[Any]) -> frozenset[str]:
    """The attributes that an entry of this concrete mapper leaves out."""
    shape = _rows.get(mapper)
    return frozenset() if shape is None else shape.excluded


def loose_row_shape(mapper: Mapper[Any]) -> RowShape:
    """What a query stores of a row of this mapper, with or without a policy of its class.

    Attributes that a policy excludes stay out of queries' entries too. Raises DeclarationError.
    """
    known = _rows.get(mapper)
    if known is None:
        policy = getattr(mapper.class_, "__cache__", None)
        known = _rows[mapper] = _row_shape(mapper, policy, mapper.class_.__name__)
    return known


def attribute_names(mapper: Mapper[Any]) -> list[str]:
    """The names of the mapper's column attributes, in the order they were declared."""
    return [prop.key for prop in mapper.iterate_properties if isinstance(prop, ColumnProperty)]


def _check_region(mapper: Mapper[Any], policy: CachePolicy, who: str) -> None:
    regions = getattr(mapper.class_, "__cache_regions__", None)
    if isinstance(regions, Regions):
        regions.require(policy.region, who)


def _owner(mapper: Mapper[Any], policy: CachePolicy, who: str) -> Mapper[Any]:
    owner = mapper
    for each in mapper.iterate_to_root():
        inherited = getattr(each.class_, "__cache__", None)
        if inherited is policy:
            owner = each
        elif inherited is not None:
            raise DeclarationError(
                f"{who} differs from {each.class_.__name__}.__cache__, whose rows it shares;"
                " declare one policy on the base class"
            )
    return owner


def _check_rows(mapper: Mapper[Any], who: str) -> None:
    if not isinstance(mapper.persist_selectable, Table | Join):
        raise DeclarationError(
            f"{who}: {mapper.class_.__name__} is mapped to a query, whose rows have no writes to"
            " follow; map a table, or give follow_only=True"
        )
    discriminator = mapper.polymorphic_on
    if discriminator is not None and not isinstance(discriminator, Column):
        raise DeclarationError(
            f"{who}: polymorphic_on={discriminator} is computed; store the discriminator in a"
            " column, or give follow_only=True"
        )


def _check_write_through(mapper: Mapper[Any], who: str) -> None:
    # A writer replaces the entry with the row of one table, and does not know the row's class.
    if len(mapper.tables) > 1 or mapper.polymorphic_on is not None:
        raise DeclarationError(
            f"{who}: write_through needs a mapper of one table and one class;"
            ' use on_write="invalidate" (the default)'
        )


def _default_template(owner: Mapper[Any], who: str) -> Template:
    """The key of a policy that gives none: the table, with its schema, and the primary key."""
    table = owner.local_table
    if not isinstance(table, Table):
        raise DeclarationError(
            f"{who}: {owner.class_.__name__} is mapped to a join, which has no name for a default"
            ' key; give one, such as key="thing:{id}"'
        )
    names = [owner.get_property_by_column(column).key for column in owner.primary_key]
    text = ":".join((table.fullname, *(f"{{{name}}}" for name in names)))
    try:
        return Template(text)
    except DeclarationError as error:
        raise DeclarationError(
            f'{who}: the default key {text!r} cannot be used ({error}); give key="..."'
        ) from None


def _check_key(mapper: Mapper[Any], template: Template, who: str) -> None:
    names = attribute_names(mapper)
    if not template.fields:
        raise DeclarationError(
            f"{who}: key {template.text!r} names no attribute, so all rows would share one entry;"
            f" name the primary key or a unique attribute of {mapper.class_.__name__}:"
            f" {', '.join(names)}"
        )
    for field in template.fields:
        if field not in names:
            raise DeclarationError(
                f"{who}: key {template.text!r} names no attribute of"
                f" {mapper.class_.__name__}: {field!r}; it has: {', '.join(names)}"
            )
        reason = why_no_key(_column(mapper, field).type)
        if reason is not None:
            raise DeclarationError(
                f"{who}: key {template.text!r} uses {field!r}, but {reason};"
                " key by another unique column"
            )
    if not _is_unique(mapper, template):
        raise DeclarationError(
            f"{who}: key {template.text!r}: {', '.join(template.fields)} is neither the primary key"
            f" of {mapper.local_table} nor unique; name unique columns or add a unique constraint"
        )


def _check_expires_at(mapper: Mapper[Any], policy: CachePolicy, who: str) -> None:
    name = policy.expires_at
    if name is None:
        return
    if name not in attribute_names(mapper):
        raise DeclarationError(
            f"{who}: expires_at={name!r} names no attribute of {mapper.class_.__name__};"
            f" it has: {', '.join(attribute_names(mapper))}"
        )
    if not isinstance(_column(mapper, name).type, DateTime):
        raise DeclarationError(
            f"{who}: expires_at={name!r} must be a datetime attribute; name one, or give"
            " ttl in seconds"
        )


def _is_primary_key(mapper: Mapper[Any], template: Template | None) -> bool:
    if template is None:
        return False
    fields = {_column(mapper, field) for field in template.fields}
    return fields == set(mapper.primary_key)


def _is_unique(mapper: Mapper[Any], template: Template) -> bool:
    if _is_primary_key(mapper, template):
        return True
    fields = {_column(mapper, field) for field in template.fields}
    return any(fields == columns for table in mapper.tables for columns in _unique_sets(table))


def _unique_sets(table: object) -> list[set[Any]]:
    if not isinstance(table, Table):
        return []
    found: list[set[Any]] = [
        set(constraint.columns)
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    found += [{column} for column in table.columns if column.unique]
    for index in table.indexes:
        partial = any(
            key.endswith("_where") and value is not None for key, value in index.kwargs.items()
        )
        if index.unique and not partial and len(index.expressions) == len(index.columns):
            found.append(set(index.columns))
    return found


def _row_shape(mapper: Mapper[Any], policy: CachePolicy | None, who: str) -> RowShape:
    names = attribute_names(mapper)
    exclude = policy.exclude if policy is not None else ()
    needed = _needed(mapper, policy)
    for name in exclude:
        if name not in names:
            raise DeclarationError(
                f"{who}: exclude={name!r} names no attribute of {mapper.class_.__name__};"
                f" it has: {', '.join(names)}"
            )
        if name in needed:
            raise DeclarationError(
                f"{who}: exclude={name!r} cannot be left out: the key, the primary key, the time to"
                " live, the version and the discriminator are always stored"
            )
    stored = [
        _attribute(mapper, prop, who)
        for prop in mapper.iterate_properties
        if isinstance(prop, ColumnProperty) and prop.key not in exclude
        if prop.key in needed or not (prop.deferred or _is_query_expression(prop))
    ]
    return RowShape(mapper, tuple(stored), frozenset(exclude))


def _needed(mapper: Mapper[Any], policy: CachePolicy | None) -> set[str]:
    """The attributes that an entry cannot do without."""
    needed = {mapper.get_property_by_column(column).key for column in mapper.primary_key}
    if policy is not None:
        needed.update(policy.template.fields if policy.template is not None else ())
        if policy.expires_at is not None:
            needed.add(policy.expires_at)
    for special in (mapper.version_id_col, mapper.polymorphic_on):
        if special is not None and special in mapper._columntoproperty:
            needed.add(mapper.get_property_by_column(special).key)
    return needed


def _is_query_expression(prop: ColumnProperty[Any]) -> bool:
    """Whether this is a ``query_expression()``, which an ordinary load leaves empty."""
    return ("query_expression", True) in (prop.strategy_key or ())


def _attribute(mapper: Mapper[Any], prop: ColumnProperty[Any], who: str) -> Attribute:
    column = prop.columns[0]
    reason = _why_not_followed(mapper, column)
    if reason is not None:
        raise DeclarationError(
            f"{who}: {prop.key!r} is computed from {reason}; name it in exclude"
            f" ({_excluding(mapper, prop.key)}), or read it by a query of its own"
        )
    if kind_of(column.type) is None:
        raise DeclarationError(unstorable_text(mapper, prop.key, column, who))
    return Attribute(prop.key, column)


def _why_not_followed(mapper: Mapper[Any], column: ColumnElement[Any]) -> str | None:
    """What an attribute is computed from that may change without a write to its row, or None."""
    if isinstance(column, Column):
        return None
    for element in iterate(column):
        reason = _why_not_followed_element(mapper, element)
        if reason is not None:
            return reason
    return None


def _why_not_followed_element(mapper: Mapper[Any], element: Any) -> str | None:
    if isinstance(element, SelectBase):
        return "a query, and writes to its rows do not invalidate this entry"
    if isinstance(element, FunctionElement) and element.name.lower() not in _PURE:
        return f"{element.name}(), which may change while the row does not"
    table = getattr(element, "table", None)
    if isinstance(table, Table) and table not in mapper.tables:
        return f"{table.fullname}, and writes to it do not invalidate this entry"
    if element.__visit_name__ in _WRITTEN_OUT and not isinstance(table, Table):
        return f"{element}, which may change while the row does not"
    return None


def unstorable_text(mapper: Mapper[Any], name: str, column: ColumnElement[Any], who: str) -> str:
    """The error text for an attribute whose type an entry cannot hold."""
    return (
        f"{who}: attribute {name!r} has type {column.type!r}, which cannot be stored"
        f" exactly; name it in exclude ({_excluding(mapper, name)}), or give it a type"
        f" of these: {', '.join(sorted(map(str, Kind.SIMPLE)))}, enum, array, geometry"
    )


def _excluding(mapper: Mapper[Any], name: str) -> str:
    return f"exclude={(*mapper.class_.__cache__.exclude, name)!r}"


def _column(mapper: Mapper[Any], name: str) -> Any:
    return mapper.get_property(name, _configure_mappers=False).columns[0]
