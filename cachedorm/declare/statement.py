"""A statement that a cached read made: plain SQL to any session, answered where a Cache serves.

It carries the values of its parameters and binds them when it is executed, which costs nothing per
call, where ``Executable.params`` copies the whole statement on SQLAlchemy 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar
from weakref import ref

from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import cloned_traverse

S = TypeVar("S", bound=SelectBase)

# Execution options that ask for more than an answer holds: such an execution is plain SQL.
ASKING_MORE = frozenset(
    {"populate_existing", "yield_per", "stream_results", "schema_translate_map", "identity_token"}
)


class QueryCall:
    """One call of a cached read: which query, with which values, and the statement it made.

    A statement that was changed afterwards (``where``, ``limit``, ``with_for_update``) carries its
    call along and must be plain SQL: it is not the very statement that the call made.
    """

    __slots__ = ("_made", "query", "values")

    def __init__(self, query: Any, values: Mapping[str, Any]) -> None:
        self.query = query
        self.values = values
        self._made: Any = None

    def made(self, statement: object) -> None:
        """Remember the statement that this call gave."""
        self._made = ref(statement)

    def is_for(self, statement: object) -> bool:
        """Whether this is that very statement, and not a changed copy of it."""
        return self._made is not None and self._made() is statement


class CalledStatement:
    """Mixin of a statement class: the values of the call are its parameters' defaults."""

    inherit_cache = True
    _cachedorm_call: QueryCall

    def params(self, given: Any = None, /, **named: Any) -> Any:
        """A changed copy: plain SQL, with these values in place of the call's."""
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

    # Within another statement it is that statement's values that count, and it has none for these.

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
        """The method of a copy in which the values stand in the parameters' places."""
        call, copy = self._cachedorm_call, self
        if call.values:
            copy = _with_values(self, call.values)
            copy._cachedorm_call = QueryCall(call.query, {})
        return getattr(super(CalledStatement, copy), name)


def _with_values(statement: Any, values: Mapping[str, Any]) -> Any:
    """``unique_params``, which SQLAlchemy 2.1 deprecates: no other parameter is taken for these."""

    def give(bound: Any) -> None:
        if bound.key in values:
            bound.value, bound.required = values[bound.key], False
        bound._convert_to_unique()

    options = {"maintain_key": True, "detect_subquery_cols": True}
    return cloned_traverse(statement, options, {"bindparam": give})


def called(statement: S, call: QueryCall) -> S:
    """A copy of the statement, as cheap as copies come, that carries the call."""
    class_: Any = type(statement)
    class_ = _called_class(class_)
    copy = class_.__new__(class_)
    copy.__dict__.update(statement.__dict__)
    copy._cachedorm_call = call
    call.made(copy)
    return copy  # type: ignore[no-any-return]


def call_of(statement: object) -> QueryCall | None:
    """The call that made this very statement, or None."""
    call: QueryCall | None = getattr(statement, "_cachedorm_call", None)
    return call if call is not None and call.is_for(statement) else None


@cache
def _called_class(class_: Any) -> Any:
    if issubclass(class_, CalledStatement):
        return class_
    return type(class_.__name__, (CalledStatement, class_), {"inherit_cache": True})
