"""CachedQuery: a SELECT whose answer is cached by its parameters and follows every write."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import cached_property
from itertools import count
from typing import Any, ClassVar, Generic, Literal, TypeVar
from weakref import WeakSet

from sqlalchemy import Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.selectable import SelectBase

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
from cachedorm.declare.statement import ASKING_MORE, Call, called
from cachedorm.errors import DeclarationError
from cachedorm.store.protocol.keys import Template

S = TypeVar("S", bound=SelectBase)
OnWrite = Literal["invalidate", "refresh"]

# A longer answer is not cached: it would hold up Redis, and every reader of it.
ROWS_MAX = 10_000

_declared: WeakSet[CachedQuery[Any]] = WeakSet()
_declarations = count(1)


class CachedQuery(Generic[S]):
    """A SELECT that any session executes, answered from the cache where one is attached.

    ``key`` is a template whose fields are parameters of the statement; parameters that are not in
    it are appended to the key. What the answer depends on is read off the statement (``repr``
    shows it); ``depends_on`` adds tables or mapped classes, and says it where the statement cannot
    be analysed. ``on_write="refresh"`` fills the entry anew when a commit has made it doubtful,
    which needs all parameters to follow from the rows that were written. An answer of more than
    ``rows_max`` rows is given and not kept. Calling it gives the statement; ArgumentError for
    parameters that are missing, unknown or of another type.
    Raises DeclarationError at once, or, for what only configured mappers tell, when a Cache is
    attached.
    """

    _count: ClassVar[int] = 0

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
        """The statement for these parameters: plain SQL to a session that no Cache serves."""
        values = self._takes.complete(values)
        statement = self.statement.params(values) if self._repeats_itself else self.statement
        return called(statement, Call(self, values))

    @cached_property
    def _repeats_itself(self) -> bool:
        return repeats_itself(self.statement)

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
        statement: Any = self.statement
        asks = sorted(ASKING_MORE.intersection(statement.get_execution_options()))
        if asks:
            raise DeclarationError(
                f"{self._who}: the statement has the execution option {asks[0]}, which no cached"
                " answer obeys; give it to the execution that needs it"
            )
        if not self._depends_on:
            try:
                check_analysable(self.statement)
            except NotAnalysable as error:
                raise DeclarationError(self._untold(error)) from None

    def _check_key(self) -> None:
        for name in self.template.fields:
            if name not in self.parameters:
                raise DeclarationError(
                    f"{self._who}: its key has the field {name!r}, which is no parameter of the"
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
            _declared.discard(self)  # one that cannot work keeps nothing else from working
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
                raise DeclarationError(self._untold(error)) from None
            found = ()
        added += map(Dependency, eager_tables(self.statement))
        if not found and not added:
            raise DeclarationError(f"{self._who}: the statement reads no table")
        return without_narrower((*found, *added))

    def _untold(self, error: NotAnalysable) -> str:
        return (
            f"{self._who}: it cannot be told what the answer depends on, because of {error};"
            " say depends_on=(Model, ...) with every table that it reads"
        )


def check_refresh(query: CachedQuery[Any], dependencies: Iterable[Dependency]) -> None:
    """Raise DeclarationError for a refresh that needs more than a written row's tags tell."""
    if query.on_write != "refresh" or not query.parameters:
        return
    names = set(query.parameters)
    for each in dependencies:
        source = each.source
        told = set() if source is None or source.many else {source.parameter}
        if told != names:
            missing = ", ".join(sorted(names - told))
            raise DeclarationError(
                f'CachedQuery({query.template.text!r}): on_write="refresh" needs a value for'
                f" {missing}, which a write that touches {each} does not tell;"
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
