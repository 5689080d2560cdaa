"""Cached SELECTs: ``CachedQuery``, declared once, and ``cached``, an option for any statement."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import cached_property
from itertools import count
from typing import Any, ClassVar, Generic, Literal, TypeVar
from weakref import WeakSet

from sqlalchemy import Table
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.interfaces import UserDefinedOption
from sqlalchemy.sql.selectable import FromClause, SelectBase

from cachedorm.declare.policies.region import Region, milliseconds
from cachedorm.declare.policies.shape import shapes
from cachedorm.declare.queries.analysable import check_analysable
from cachedorm.declare.queries.dependencies import (
    Dependency,
    NotAnalysable,
    dependencies_of,
    explain,
    without_narrower,
)
from cachedorm.declare.queries.eager import check_eager, eager_tables, repeats_itself
from cachedorm.declare.queries.parameters import Parameters
from cachedorm.declare.statement import ASKING_MORE, QueryCall, called
from cachedorm.errors import DeclarationError
from cachedorm.store.protocol.keys import Template

S = TypeVar("S", bound=SelectBase)
QueryOnWrite = Literal["invalidate", "refresh"]

# A longer answer is not cached: it would delay Redis and every reader of it.
ROWS_MAX = 10_000

_declared: WeakSet[CachedQuery[Any]] = WeakSet()
_declarations = count(1)


class CachedQuery(Generic[S]):
    """A SELECT that any session executes, answered from the cache if one is attached.

    ``key`` is a template whose fields are parameters of the statement. Other parameters are
    appended to the key. The statement says what the answer depends on (see ``repr``);
    ``depends_on`` adds tables or mapped classes, and replaces the analysis of a statement that
    cannot be analysed. ``on_write="refresh"`` loads the entry again when a commit has invalidated
    it, which requires that the written rows determine all parameters. An answer of more than
    ``rows_max`` rows is returned and not stored. Calling the query returns the statement, and
    raises ArgumentError for parameters that are missing, unknown or of another type.
    Raises DeclarationError at once, or when a Cache is attached, for faults that only show after
    mappers have configured.
    """

    _count: ClassVar[int] = 0

    def __init__(
        self,
        region: Region,
        key: str,
        statement: S,
        *,
        ttl: timedelta | float | None = None,
        on_write: QueryOnWrite = "invalidate",
        depends_on: Iterable[type | FromClause] = (),
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
        self._check()
        self._takes = Parameters(statement, self._who, self.template.fields)
        self.parameters = self._takes.bound
        self.defaults = self._takes.defaults
        self.appended = tuple(
            sorted(name for name in self.parameters if name not in self.template.fields)
        )
        self._check_key()
        _declared.add(self)
        CachedQuery._count = next(_declarations)

    def __call__(self, **values: Any) -> S:
        """The statement for these parameters: plain SQL to a session without a Cache."""
        values = self._takes.complete(values)
        statement = self.statement.params(values) if self._repeats_itself else self.statement
        return called(statement, QueryCall(self, values))

    @cached_property
    def _repeats_itself(self) -> bool:
        return repeats_itself(self.statement)

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """What the answer depends on; DeclarationError if it cannot be determined."""
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
            raise DeclarationError(
                f"{self._who}: the statement must be a SELECT, got {self.statement!r}"
            )
        statement: Any = self.statement
        asks = sorted(ASKING_MORE.intersection(statement.get_execution_options()))
        if asks:
            raise DeclarationError(
                f"{self._who}: the statement has the execution option {asks[0]}, which a cached"
                " answer cannot obey; give it to the execution that needs it"
            )
        if not self._depends_on:
            try:
                check_analysable(self.statement)
            except NotAnalysable as error:
                raise DeclarationError(self._not_analysable(error)) from None

    def _check_key(self) -> None:
        for name in self.template.fields:
            if name not in self.parameters:
                raise DeclarationError(
                    f"{self._who}: its key has the field {name!r}, which is not a parameter of the"
                    f" statement; its parameters are: {', '.join(self.parameters) or 'none'}."
                    f" Write bindparam({name!r}) in the statement"
                )

    def _check_no_model_has_key(self) -> None:
        for shape in shapes():
            if shape.template == self.template and shape.policy.region == self.region:
                raise DeclarationError(
                    f"{self._who}: {shape.owner.class_.__name__}.__cache__ has this key in region"
                    f" {self.region.name!r} too; give the query another key"
                )

    def _analysed(self) -> tuple[Dependency, ...]:
        try:
            self._check_no_model_has_key()
            found = self._found()
            check_refresh(self, found)
        except DeclarationError:
            _declared.discard(self)  # a broken query must not break the others
            raise
        return found

    def _found(self) -> tuple[Dependency, ...]:
        added = [
            Dependency(table) for each in self._depends_on for table in _tables(each, self._who)
        ]
        try:
            found = dependencies_of(self.statement)
            check_eager(self.statement)
        except NotAnalysable as error:
            if not added:
                raise DeclarationError(self._not_analysable(error)) from None
            found = ()
        added += map(Dependency, eager_tables(self.statement))
        if not found and not added:
            raise DeclarationError(f"{self._who}: the statement reads no table")
        return without_narrower((*found, *added))

    def _not_analysable(self, error: NotAnalysable) -> str:
        return (
            f"{self._who}: cannot determine what the answer depends on, because of {error};"
            " write depends_on=(Model, ...) with every table that it reads"
        )


class CacheOption(UserDefinedOption):
    """The option that ``cached`` puts on a statement."""

    __slots__ = ("region", "ttl_ms")

    def __init__(self, region: Region, ttl_ms: int) -> None:
        super().__init__(payload=None)
        self.region = region
        self.ttl_ms = ttl_ms


def cached(region: Region, *, ttl: timedelta | float | None = None) -> Any:
    """An option for ``select(...).options(cached(REGION))`` that caches the answer in the region.

    The entry is keyed by the compiled statement and its parameters. The region must follow every
    table that the statement reads: by a model's policy without a key, or by a declared
    ``CachedQuery``. If it does not, executing the statement raises a DeclarationError that says
    what is missing.
    """
    if not isinstance(region, Region):
        raise DeclarationError(
            f"cached: region must be a Region, got {region!r};"
            " write select(...).options(cached(REGION))"
        )
    return CacheOption(region, region.ttl_ms if ttl is None else milliseconds(ttl, "cached: ttl"))


def check_refresh(query: CachedQuery[Any], dependencies: Iterable[Dependency]) -> None:
    """Raise DeclarationError unless a written row's tags determine all parameters of a refresh."""
    if query.on_write != "refresh" or not query.parameters:
        return
    names = set(query.parameters)
    for each in dependencies:
        source = each.source
        known = set() if source is None or source.many else {source.parameter}
        if known != names:
            missing = ", ".join(sorted(names - known))
            raise DeclarationError(
                f'CachedQuery({query.template.text!r}): on_write="refresh" needs a value for'
                f" {missing}, which a write that touches {each} does not determine;"
                ' use on_write="invalidate" (the default), or make it a query of one parameter that'
                " an equality ties to every table"
            )


def declared_queries() -> list[CachedQuery[Any]]:
    """Every query declared so far that is still in use."""
    return sorted(_declared, key=lambda query: (query.region.name, query.template.text))


def query_count() -> int:
    """How many queries were declared so far; grows when modules are imported later."""
    return CachedQuery._count


def _tables(what: Any, who: str) -> list[Table]:
    if isinstance(what, Table):
        return [what]
    mapper: Mapper[Any] | None = getattr(what, "__mapper__", None)
    if mapper is None:
        raise DeclarationError(f"{who}: depends_on={what!r} is neither a mapped class nor a Table")
    return [table for table in mapper.tables if isinstance(table, Table)]
