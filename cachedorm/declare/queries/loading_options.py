"""The loader options of a statement: their text for a key, and those that a hit cannot obey."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ClauseElement, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import ColumnProperty
from sqlalchemy.sql.selectable import SelectBase

from cachedorm.declare.queries.eager import (
    asked_conditions,
    declared_conditions,
    eager_sources,
    option_elements,
)

# The strategies that forbid a relationship or leave it empty.
_FORBIDDEN = frozenset({"raise", "raise_on_sql", "noload"})


def why_not_loaded(statement: SelectBase) -> str | None:
    """The option that a hit could not obey, and what to do instead; None if there is none."""
    for option in getattr(statement, "_with_options", ()):
        # An option for every relationship of any class has no context.
        how = dict(getattr(option, "strategy", None) or ()).get("lazy")
        if how is not None and how != "select":
            return f'{how} for "*" does not say which relationships it means; name them'
    for element in option_elements(statement):
        reason = _why_not(dict(element.strategy or ()), element.path.natural_path)
        if reason is not None:
            return reason
    return None


def loading_text(statement: SelectBase, dialect: Dialect, *, values: bool) -> str:
    """A text of the loader options that changes whenever they do.

    It contains the ``values`` of the options' conditions if nothing else distinguishes them.
    """
    options = [
        (list(map(_named, element.path.natural_path)), element.strategy)
        for element in option_elements(statement)
    ]
    asked = [_sql(each, dialect, values=values) for each in asked_conditions(statement)]
    declared = [_sql(each, dialect, values=True) for each in declared_conditions(statement)]
    sources = [_sql(select(each), dialect, values=True) for each in eager_sources(statement)]
    return repr((options, asked, declared, sources)) if options or declared else ""


def _why_not(strategy: dict[str, Any], path: Any) -> str | None:
    what = path[-1] if isinstance(path[-1], ColumnProperty) else ".".join(map(str, path[1::2]))
    if strategy.get("query_expression"):
        return (
            f"with_expression({what}) loads what an entry does not hold; select the expression"
            " beside the entity"
        )
    if strategy.get("deferred") is False and isinstance(what, ColumnProperty) and what.deferred:
        return (
            f"undefer({what}) loads what an entry does not hold, since a hit's objects leave"
            " deferred columns for when they are touched; select the column beside the entity"
        )
    if strategy.get("lazy") in _FORBIDDEN:
        return (
            f"{strategy['lazy']} for {what}: a hit's objects load their relationships as the class"
            " says; declare it there"
        )
    return None


def _named(step: Any) -> str:
    class_: type | None = getattr(step, "class_", None)
    return str(step) if class_ is None else class_.__name__


def _sql(element: ClauseElement, dialect: Dialect, *, values: bool) -> str:
    compiled: Any = element.compile(dialect=dialect)
    return repr((str(compiled), sorted(compiled.params.items()) if values else None))
