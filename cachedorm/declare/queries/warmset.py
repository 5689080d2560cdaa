"""``WarmSet``: the entries that an application loads into its cache in advance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any
from weakref import WeakSet

from sqlalchemy.sql.selectable import SelectBase

from cachedorm.declare.queries.query import CachedQuery
from cachedorm.errors import DeclarationError

ParameterSets = Iterable[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]]
# A cached read that returns a statement for parameters, such as a Nearby.
StatementFactory = Callable[..., SelectBase]

_declared: WeakSet[WarmSet] = WeakSet()


class WarmSet:
    """A named set of entries that ``cachedorm warm`` and ``cache.warm`` fill.

    ``what`` is a mapped class (all its rows) or a cached query. A query takes ``parameters``: one
    mapping for each entry, or a function that returns them. Raises DeclarationError.
    """

    def __init__(
        self,
        name: str,
        what: type | CachedQuery[Any] | StatementFactory,
        parameters: ParameterSets | None = None,
    ) -> None:
        self.name = name
        self.what = what
        self.parameters = parameters
        self._check()
        _declared.add(self)

    def _check(self) -> None:
        who = f"WarmSet({self.name!r})"
        if not self.name:
            raise DeclarationError(f"{who}: the name must not be empty")
        if isinstance(self.what, type) and self.parameters is not None:
            raise DeclarationError(
                f"{who}: a mapped class takes no parameters; all its rows are loaded"
            )
        if not callable(self.what):
            raise DeclarationError(
                f"{who}: expected a mapped class or a cached query, got {self.what!r}"
            )

    @classmethod
    def of(cls, what: Any, parameters: ParameterSets | None = None) -> WarmSet:
        """An undeclared set, named after what it warms. A ``WarmSet`` is returned unchanged."""
        if isinstance(what, WarmSet):
            return what
        template = getattr(what, "template", None)
        made = cls.__new__(cls)
        made.name = str(getattr(what, "__name__", None) or getattr(template, "text", what))
        made.what = what
        made.parameters = parameters
        made._check()
        return made

    def each(self) -> Iterable[Mapping[str, Any]]:
        """The parameters of its entries; one empty mapping for a query that takes none."""
        given = self.parameters
        if given is None:
            return ({},)
        return given() if callable(given) else given

    def __repr__(self) -> str:
        return f"<WarmSet {self.name!r}: {self.what!r}>"


def declared_warm_sets() -> list[WarmSet]:
    """The declared sets that are still in use, by name; DeclarationError if two share a name."""
    found = sorted(_declared, key=lambda each: each.name)
    for one, other in pairwise(found):
        if one.name == other.name:
            raise DeclarationError(f"WarmSet({one.name!r}) is declared twice; rename one")
    return found
