"""Cached: the mixin that gives a mapped class its cache policy and the ``by`` reads."""

from __future__ import annotations

from typing import Any, ClassVar, Self
from weakref import ref

from sqlalchemy import Select, event, select
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.orm.interfaces import UserDefinedOption

from cachedorm.declare.loaders import install
from cachedorm.declare.policy import CachePolicy
from cachedorm.declare.shape import declare_shape, entity_shape, left_out
from cachedorm.errors import ArgumentError


class ReadByKey(UserDefinedOption):
    """Marks a statement as "this row by its cache key", for sessions that a Cache serves.

    It remembers the very statement it was made for: a copy that was changed afterwards (``where``,
    ``limit``, ``with_for_update``) carries the option along and must be plain SQL.
    """

    __slots__ = ("_made", "mapper", "values")

    def __init__(self, mapper: Mapper[Any], values: tuple[Any, ...]) -> None:
        super().__init__(payload=None)
        self.mapper = mapper
        self.values = values

    def made(self, statement: Select[Any]) -> None:
        """Remember the statement that this option was put on."""
        self._made = ref(statement)

    def is_for(self, statement: object) -> bool:
        """Whether the statement is the one that was made, and not a changed copy."""
        return self._made() is statement


class Cached:
    """Mixin for a mapped class whose ``__cache__`` says where its rows are cached."""

    __cache__: ClassVar[CachePolicy]

    @classmethod
    def by(cls, **key: Any) -> Select[Self]:
        """A statement for the row with this cache key, served from the cache where one is attached.

        Takes exactly the fields of the policy's key, by keyword, none of them None; any session
        can execute it. Raises ArgumentError.
        """
        mapper: Mapper[Self] = class_mapper(cls)
        shape = entity_shape(mapper)
        if shape is None or shape.template is None:
            raise ArgumentError(
                f"{cls.__name__}.by({', '.join(key)}): its __cache__ has no key;"
                ' give the policy one, such as key="thing:{id}"'
            )
        fields = shape.template.fields
        if len(key) != len(fields) or any(name not in key for name in fields):
            raise ArgumentError(
                f"{cls.__name__}.by({', '.join(key)}) must name exactly the fields of its key"
                f" {shape.template.text!r}: {', '.join(fields)}"
            )
        missing = [name for name in fields if key[name] is None]
        if missing:
            raise ArgumentError(
                f"{cls.__name__}.by({missing[0]}=None): a key is never null;"
                f" for rows without one write select({cls.__name__}).where(...)"
            )
        option = ReadByKey(mapper, tuple(key[name] for name in fields))
        attributes = (getattr(cls, name) for name in fields)
        criteria = (column == key[name] for name, column in zip(fields, attributes, strict=True))
        statement = select(cls).where(*criteria).options(option)
        option.made(statement)
        return statement


@event.listens_for(Cached, "mapper_configured", propagate=True)
def _check_declaration(mapper: Mapper[Any], _class: type) -> None:
    declare_shape(mapper)
    install(mapper, left_out(mapper))
