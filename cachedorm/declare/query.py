"""CachedQuery: a SELECT whose answer is cached under a key of its parameters, and follows writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar
from weakref import WeakSet

from sqlalchemy import BindParameter, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import iterate

from cachedorm.declare.dependencies import (
    Dependency,
    NotAnalysable,
    dependencies_of,
    explain,
)
from cachedorm.declare.eager import eager_relations, tables_of
from cachedorm.declare.region import Region, milliseconds
from cachedorm.declare.statement import Call, called
from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.store.keys import Template

S = TypeVar("S", bound=SelectBase)
OnWrite = Literal["invalidate", "refresh"]

# A longer answer is not cached: it would hold up Redis, and every reader of it.
ROWS_MAX = 10_000

_declared: WeakSet[CachedQuery[Any]] = WeakSet()


class CachedQuery(Generic[S]):
    """A SELECT that any session executes, answered from the cache where one is attached.

    ``key`` is a template whose fields are parameters of the statement; parameters that are not in
    it are appended to the key. What the answer depends on is read off the statement (``repr``
    shows it); ``depends_on`` adds tables or mapped classes, and says it where the statement cannot
    be analysed. ``on_write="refresh"`` fills the entry anew when a commit has made it doubtful,
    which needs all parameters to follow from the rows that were written. Calling it gives the
    statement; ArgumentError for parameters that are missing, unknown or of another type.
    Raises DeclarationError, at once or when mappers configure.
    """

    def __init__(
        self,
        region: Region,
        key: str,
        statement: S,
        *,
        ttl: timedelta | float | None = None,
        on_write: OnWrite = "invalidate",
        depends_on: Iterable[type | Table] = (),
        rows_max: int = ROWS_MAX,
    ) -> None:
        self.region = region
        self.template = Template(key)
        self.statement = statement
        self.on_write = on_write
        self.rows_max = rows_max
        self.ttl_ms = region.ttl_ms if ttl is None else milliseconds(ttl, f"{self._who}: ttl")
        self._depends_on = tuple(depends_on)
        self._dependencies: tuple[Dependency, ...] | None = None
        self.parameters = _parameters(statement)
        self.defaults = {
            name: bound.effective_value
            for name, bound in self.parameters.items()
            if not bound.required
        }
        self.required = tuple(name for name in self.parameters if name not in self.defaults)
        self.appended = tuple(
            sorted(name for name in self.parameters if name not in self.template.fields)
        )
        self._check()
        _declared.add(self)

    def __call__(self, **values: Any) -> S:
        """The statement for these parameters: plain SQL to a session that no Cache serves."""
        if len(values) != len(self.parameters) or any(
            name not in values for name in self.parameters
        ):
            values = {**self.defaults, **values}
            if len(values) != len(self.parameters) or any(
                name not in values for name in self.parameters
            ):
                raise ArgumentError(self._wrong_names(values))
        return called(self.statement, Call(self, values))

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """What the answer depends on; DeclarationError if that cannot be told."""
        if self._dependencies is None:
            self._dependencies = self._analysed()
        return self._dependencies

    def __repr__(self) -> str:
        try:
            depends = explain(self.dependencies)
        except DeclarationError as error:
            depends = str(error)
        return f"<CachedQuery {self.template.text} in {self.region.name}; depends on {depends}>"

    @property
    def _who(self) -> str:
        return f"CachedQuery({self.template.text!r})"

    def _check(self) -> None:
        if self.on_write not in ("invalidate", "refresh"):
            raise DeclarationError(
                f'{self._who}: on_write={self.on_write!r}; give "invalidate" or "refresh"'
            )
        if not isinstance(self.statement, SelectBase):
            raise DeclarationError(f"{self._who}: {self.statement!r} is no SELECT")
        for name in self.template.fields:
            if name not in self.parameters:
                raise DeclarationError(
                    f"{self._who}: its key has the field {name!r}, which is no parameter of the"
                    f" statement; its parameters are: {', '.join(self.parameters) or 'none'}."
                    f" Write bindparam({name!r}) in the statement"
                )

    def _analysed(self) -> tuple[Dependency, ...]:
        added = tuple(
            Dependency(table) for each in self._depends_on for table in _tables(each, self._who)
        )
        try:
            found = dependencies_of(self.statement)
        except NotAnalysable as error:
            if not added:
                raise DeclarationError(
                    f"{self._who}: it cannot be told what the answer depends on, because of {error};"
                    " say depends_on=(Model, ...) with every table that it reads"
                ) from None
            found = ()
        added += tuple(
            Dependency(table)
            for relation in eager_relations(self.statement)
            for table in tables_of(relation)
        )
        whole = {each.table for each in added}
        narrow = tuple(each for each in found if each.table not in whole)
        if not narrow and not added:
            raise DeclarationError(f"{self._who}: the statement reads no table")
        return (*narrow, *dict.fromkeys(added))

    def _wrong_names(self, values: Mapping[str, Any]) -> str:
        missing = [name for name in self.required if name not in values]
        unknown = [name for name in values if name not in self.parameters]
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
        takes = ", ".join(self.parameters) or "none"
        return f"{self._who} takes the parameters {takes}; {'; '.join(parts)}"


def declared_queries() -> list[CachedQuery[Any]]:
    """Every query declared so far that is still in use."""
    return sorted(_declared, key=lambda query: (query.region.name, query.template.text))


def query_count() -> int:
    """How many queries are declared; grows when modules are imported later."""
    return len(_declared)


def _parameters(statement: SelectBase) -> dict[str, BindParameter[Any]]:
    """The parameters that a caller names: those with a name of their own."""
    found: dict[str, BindParameter[Any]] = {}
    for element in iterate(statement):
        if isinstance(element, BindParameter) and not element.unique:
            found.setdefault(element.key, element)
    return found


def _tables(what: Any, who: str) -> list[Table]:
    if isinstance(what, Table):
        return [what]
    mapper: Mapper[Any] | None = getattr(what, "__mapper__", None)
    if mapper is None:
        raise DeclarationError(f"{who}: depends_on={what!r} is neither a mapped class nor a Table")
    return [table for table in mapper.tables if isinstance(table, Table)]
