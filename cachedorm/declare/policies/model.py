"""Cached: the mixin that gives a mapped class its cache policy and the ``by`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

from sqlalchemy import Select, bindparam, event, select
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.sql import ClauseElement

from cachedorm.declare.policies.loaders import install
from cachedorm.declare.policies.policy import CachePolicy
from cachedorm.declare.policies.shape import count_mapped, declare_shape, entity_shape, left_out
from cachedorm.declare.statement import QueryCall, called
from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.store.protocol.keys import Template


class KeyRead:
    """The read "this row by its cache key" of one class: the statement, and how it is called."""

    __slots__ = ("class_", "fields", "mapper", "statement", "text")

    def __init__(self, class_: type[Any], mapper: Mapper[Any], template: Template) -> None:
        self.class_ = class_
        self.mapper = mapper
        self.fields = template.fields
        self.text = template.text
        attributes = ((name, getattr(class_, name)) for name in self.fields)
        self.statement: Select[Any] = select(class_).where(
            *(column == bindparam(name, type_=column.type) for name, column in attributes)
        )

    def plain(self, key: Mapping[str, Any]) -> Select[Any]:
        """The same with SQL for a value, which only the database can tell: never served."""
        return select(self.class_).where(
            *(getattr(self.class_, name) == key[name] for name in self.fields)
        )

    def check(self, key: Mapping[str, Any]) -> None:
        """Raise ArgumentError unless the key's fields are all there, and nothing else."""
        name = self.class_.__name__
        if len(key) != len(self.fields) or any(field not in key for field in self.fields):
            raise ArgumentError(
                f"{name}.by({', '.join(key)}) must name exactly the fields of its key"
                f" {self.text!r}: {', '.join(self.fields)}"
            )
        for field in self.fields:
            if key[field] is None:
                raise ArgumentError(
                    f"{name}.by({field}=None): a key is never null;"
                    f" for rows without one write select({name}).where(...)"
                )


class Cached:
    """Mixin for a mapped class whose ``__cache__`` says where its rows are cached."""

    __cache__: ClassVar[CachePolicy]

    @classmethod
    def by(cls, **key: Any) -> Select[Self]:
        """A statement for the row with this cache key, served from the cache where one is attached.

        Takes exactly the fields of the policy's key, by keyword, none of them None; any session
        can execute it. Raises ArgumentError.
        """
        read = _key_reads.get(cls)
        if read is None:
            read = _key_reads[cls] = _key_read(cls, key)
        read.check(key)
        if any(isinstance(value, ClauseElement) for value in key.values()):
            return read.plain(key)
        return called(read.statement, QueryCall(read, key))


_key_reads: WeakKeyDictionary[type, KeyRead] = WeakKeyDictionary()


def _key_read(class_: type, key: Mapping[str, Any]) -> KeyRead:
    mapper: Mapper[Any] = class_mapper(class_)
    shape = entity_shape(mapper)
    if shape is None or shape.template is None:
        raise ArgumentError(
            f"{class_.__name__}.by({', '.join(key)}): its __cache__ has no key;"
            ' give the policy one, such as key="thing:{id}"'
        )
    return KeyRead(class_, mapper, shape.template)


@event.listens_for(Cached, "after_mapper_constructed", propagate=True)
def _count(_mapper: Mapper[Any], _class: type) -> None:
    count_mapped()


@event.listens_for(Cached, "mapper_configured", propagate=True)
def _check_declaration(mapper: Mapper[Any], _class: type) -> None:
    name = mapper.class_.__name__
    if getattr(mapper.class_, "__cache__", None) is None:
        raise DeclarationError(
            f"{name} has the Cached mixin but no __cache__; write __cache__ = CachePolicy(REGION),"
            " or take the mixin away"
        )
    declare_shape(mapper)
    install(mapper, left_out(mapper))


@event.listens_for(Mapper, "mapper_configured")
def _check_mixin(_mapper: Mapper[Any], class_: type) -> None:
    if isinstance(getattr(class_, "__cache__", None), CachePolicy) and not issubclass(
        class_, Cached
    ):
        raise DeclarationError(
            f"{class_.__name__} has __cache__ but not the Cached mixin, so it would not be cached;"
            f" write class {class_.__name__}(Cached, ...)"
        )
