"""Statements made by cached reads: plain SQL to any session, answered by a session with a Cache.

Such a statement carries the values of its parameters and binds them at execution. That is cheap,
whereas ``Executable.params`` copies the whole statement on SQLAlchemy 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar
from weakref import ref

from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import cloned_traverse

S = TypeVar("S", bound=SelectBase)

# Execution options that a cached answer cannot obey: such an execution is plain SQL.
ASKING_MORE = frozenset(
    {"populate_existing", "yield_per", "stream_results", "schema_translate_map", "identity_token"}
)


class QueryCall:
    """One call of a cached read: the query, the values and the statement that it made.

    A statement that is changed afterwards (``where``, ``limit``, ``with_for_update``) keeps its
    call. It must be plain SQL, since it is not the statement that the call made.
    """

    __slots__ = ("_made", "query", "values")

    def __init__(self, query: Any, values: Mapping[str, Any]) -> None:
        self.query = query
        self.values = values
        self._made: Any = None

    def made(self, statement: object) -> None:
        """Remember the statement that this call made."""
        self._made = ref(statement)

    def is_for(self, statement: object) -> bool:
        """Whether the call made this statement, and not one that this is a changed copy of."""
        return self._made is not None and self._made() is statement


class CalledStatement:
    """Mixin of a statement class that uses the values of the call as its parameters' defaults."""

    inherit_cache = True
    _cachedorm_call: QueryCall

    def params(self, given: Any = None, /, **named: Any) -> Any:
        """A changed copy: plain SQL, with these values instead of the call's."""
        changed = {**(given or {}), **named}
        copy: Any = super().params(changed)  # type: ignore[misc]
        call = self._cachedorm_call
        copy._cachedorm_call = QueryCall(call.query, {**call.values, **changed})
        return copy

    def _execute_on_connection(
        self, connection: Any, distilled_params: Any, execution_options: Any
    ) -> Any:
        values = self._cachedorm_call.values
        if values:
            given = distilled_params or [{}]
            distilled_params = [{**values, **each} for each in given]
        return super()._execute_on_connection(  # type: ignore[misc]
            connection, distilled_params, execution_options
        )

    # Within another statement the values must be literal: the outer one has none for them.

    def subquery(self, name: str | None = None) -> Any:
        return self._bound("subquery")(name)

    def cte(self, name: str | None = None, recursive: bool = False, nesting: bool = False) -> Any:
        return self._bound("cte")(name, recursive, nesting)

    def lateral(self, name: str | None = None) -> Any:
        return self._bound("lateral")(name)

    def exists(self) -> Any:
        return self._bound("exists")()

    def scalar_subquery(self) -> Any:
        return self._bound("scalar_subquery")()

    def self_group(self, against: Any = None) -> Any:
        return self._bound("self_group")(against)

    def _bound(self, name: str) -> Any:
        """The method of a copy whose parameters are replaced by their values."""
        call, copy = self._cachedorm_call, self
        if call.values:
            copy = _with_values(self, call.values)
            copy._cachedorm_call = QueryCall(call.query, {})
        return getattr(super(CalledStatement, copy), name)


def _with_values(statement: Any, values: Mapping[str, Any]) -> Any:
    """``unique_params``, which SQLAlchemy 2.1 deprecates: the names cannot clash with others."""

    def give(bound: Any) -> None:
        if bound.key in values:
            bound.value, bound.required = values[bound.key], False
        bound._convert_to_unique()

    options = {"maintain_key": True, "detect_subquery_cols": True}
    return cloned_traverse(statement, options, {"bindparam": give})


def called(statement: S, call: QueryCall) -> S:
    """A shallow copy of the statement that carries the call."""
    class_: Any = type(statement)
    class_ = _called_class(class_)
    copy = class_.__new__(class_)
    copy.__dict__.update(statement.__dict__)
    copy._cachedorm_call = call
    call.made(copy)
    return copy  # type: ignore[no-any-return]


def call_of(statement: object) -> QueryCall | None:
    """The call that made this statement, or None."""
    call: QueryCall | None = getattr(statement, "_cachedorm_call", None)
    return call if call is not None and call.is_for(statement) else None


@cache
def _called_class(class_: Any) -> Any:
    if issubclass(class_, CalledStatement):
        return class_
    return type(class_.__name__, (CalledStatement, class_), {"inherit_cache": True})
