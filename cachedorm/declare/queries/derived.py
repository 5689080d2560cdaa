"""DerivedQuery: the base of cached reads that bring their own plan, such as ``geo.Nearby``.

Its entries depend on tags that are derived from a row's values. Nothing outside of a subclass's
package knows the subclass: a Cache finds it here and asks it for its tags and its plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar
from weakref import WeakSet

from sqlalchemy import Column, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.selectable import SelectBase

from cachedorm.declare.policies.region import Region
from cachedorm.store.protocol.keys import Template

_declared: WeakSet[DerivedQuery] = WeakSet()
_declarations = count(1)


@dataclass(frozen=True, slots=True)
class DerivedTags:
    """Tags of a row, in one Redis database, that are computed from some of its columns.

    ``name`` says how: writers that know the name touch the same tags. ``tags_of`` takes values by
    column name. It raises KeyError for an unknown value, ArgumentError for one that has no tags.
    """

    db: int
    name: str
    columns: tuple[Column[Any], ...]
    tags_of: Callable[[Mapping[str, Any]], Iterable[str]]


class DerivedQuery(ABC):
    """A cached read of one table whose entries depend on derived tags."""

    _count: ClassVar[int] = 0

    # What kind of declaration it is, in a word for people.
    kind: ClassVar[str]
    region: Region
    template: Template
    ttl_ms: int | None
    # The parameters that follow the key's text.
    appended: tuple[str, ...]

    def declare(self) -> None:
        """Make this query known to every Cache, for as long as it is referenced."""
        _declared.add(self)
        DerivedQuery._count = next(_declarations)

    @abstractmethod
    def __call__(self, **values: Any) -> SelectBase:
        """The statement for these values."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it."""

    @property
    @abstractmethod
    def table(self) -> Table:
        """The table that the rows are in."""

    @property
    @abstractmethod
    def depends_on(self) -> str:
        """The text of the tags that its entries depend on."""

    @abstractmethod
    def derived_tags(self) -> DerivedTags:
        """The tags that a written row touches."""

    @abstractmethod
    def plan(self, region: Any, database: str, profile: Any, dialect: Dialect) -> Any:
        """How its entries are keyed, stored and read under one Cache."""


def derived_queries() -> list[DerivedQuery]:
    """Every derived query declared so far that is still in use."""
    return sorted(_declared, key=lambda each: (each.region.name, each.template.text))


def derived_count() -> int:
    """How many were declared so far, those that are gone included."""
    return DerivedQuery._count
