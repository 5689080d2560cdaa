"""What a query's answer depends on, read from the statement: a tag or the whole of each table.

A row can only change the answer if it satisfies every condition that the statement puts on its
table. If one of them is an equality with a known value (``missions.user_id = :user_id``, also
through a join: ``missions.user_id = characters.user_id``), rows of another value do not matter, and
the answer depends on the *narrow tag* of that column and value. Otherwise it depends on the whole
table, by its *membership*.

A statement that cannot be analysed is an error that asks for ``depends_on``, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, FromClause, Table
from sqlalchemy.sql.selectable import (
    Alias,
    AliasedReturnsRows,
    CompoundSelect,
    GenerativeSelect,
    Lateral,
    Select,
    SelectBase,
    TableClause,
    Values,
)

from cachedorm.declare.queries.analysable import NotAnalysable, check_analysable, tables_within
from cachedorm.declare.queries.equalities import (
    SelectScope,
    ValueSource,
    id_of,
    joins,
    learn_equalities,
    leaves,
)

__all__ = ["Dependency", "NotAnalysable", "ValueSource", "dependencies_of", "explain"]


# Where 2.1 lets extensions such as DISTINCT ON add their clauses.
_EXTENSIONS = (
    "_pre_columns_clause",
    "_post_select_clause",
    "_post_criteria_clause",
    "_post_body_clause",
)


@dataclass(frozen=True, slots=True)
class Dependency:
    """One table that the answer depends on: by a column's value, or (no column) as a whole."""

    table: Table
    column: Column[Any] | None = None
    source: ValueSource | None = None

    def __str__(self) -> str:
        if self.column is None:
            return f"{self.table.fullname}.*"
        return f"{self.table.fullname}.{self.column.name}={self.source}"


def dependencies_of(statement: SelectBase) -> tuple[Dependency, ...]:
    """What the answer of a SELECT depends on, at least one dependency for each table it reads.

    Raises NotAnalysable for text, functions with unknown effects, volatile functions and sources
    that are not tables.
    """
    check_analysable(statement)
    found = {str(each): each for each in _analysed(statement, None)}
    read = {each.table.fullname for each in found.values()}
    for table in tables_within(statement):
        if table.fullname not in read:  # named in a place that the analysis above does not visit
            found.setdefault(f"{table.fullname}.*", Dependency(table))
    return without_narrower(found.values())


def without_narrower(dependencies: Iterable[Dependency]) -> tuple[Dependency, ...]:
    """The dependencies, without narrow tags of a table that is also read as a whole."""
    found = tuple(dict.fromkeys(dependencies))
    whole = {each.table.fullname for each in found if each.column is None}
    return tuple(each for each in found if each.column is None or each.table.fullname not in whole)


def explain(dependencies: Sequence[Dependency]) -> str:
    """The dependencies, as ``repr`` shows them."""
    return ", ".join(str(each) for each in dependencies) or "nothing"


def _analysed(statement: Any, outer: SelectScope | None) -> Iterator[Dependency]:
    match statement:
        case CompoundSelect():
            for each in statement.selects:
                yield from _analysed(each, outer)
            for inner in _selects_in_all(_clauses(statement)):
                yield from _analysed(inner, outer)
        case Select():
            yield from _analysed_select(statement, outer)
        case _ if isinstance(getattr(statement, "element", None), SelectBase):
            yield from _analysed(statement.element, outer)
        case _:
            raise NotAnalysable(f"a {type(statement).__name__}")


def _analysed_select(statement: Select[Any], outer: SelectScope | None) -> Iterator[Dependency]:
    froms = _own_froms(statement, outer)
    scope = SelectScope({id_of(leaf) for each in froms for leaf in leaves(each)}, outer)
    learn_equalities(froms, statement.whereclause, scope)
    for each in froms:
        yield from _read_from(each, scope)
    for inner in _selects_in_all(_parts(statement, froms)):
        yield from _analysed(inner, scope)


def _own_froms(statement: Select[Any], outer: SelectScope | None) -> list[FromClause]:
    """The FROMs that an inner SELECT renders, without those that SQLAlchemy correlates."""
    froms = list(statement.get_final_froms())
    if outer is None:
        return froms
    around = outer.all_around()
    if statement._correlate:
        theirs = around & {id_of(each) for each in statement._correlate}
        froms = [each for each in froms if id_of(each) not in theirs]
    if statement._correlate_except is not None:
        theirs = around - {id_of(each) for each in statement._correlate_except}
        froms = [each for each in froms if id_of(each) not in theirs]
    if statement._auto_correlate and len(froms) > 1:
        froms = [each for each in froms if id_of(each) not in outer.own]
    return froms


def _read_from(source: FromClause, scope: SelectScope) -> Iterator[Dependency]:
    for leaf in leaves(source):
        table = _table_of(leaf)
        inner = _select_of(leaf)
        if table is not None:
            yield _narrowest(leaf, table, scope)
        elif inner is not None:
            # Only a lateral subquery sees the sources beside it.
            yield from _analysed(inner, scope if isinstance(leaf, Lateral) else None)
        elif not isinstance(leaf, Values):
            raise NotAnalysable(f"the source {str(leaf)!r}, which is not a table")


def _select_of(leaf: FromClause) -> SelectBase | None:
    inner: Any = leaf
    while isinstance(inner, AliasedReturnsRows):
        inner = inner.element
    return inner if isinstance(inner, SelectBase) else None


def _table_of(leaf: FromClause) -> Table | None:
    inner: Any = leaf
    while isinstance(inner, Alias):
        inner = inner.element
    if isinstance(inner, Table):
        return inner
    if isinstance(inner, TableClause):
        raise NotAnalysable(f"the source {inner.name!r}, of which only the name is known")
    return None


def _narrowest(leaf: FromClause, table: Table, scope: SelectScope) -> Dependency:
    candidates = []
    for column in table.columns:
        source = scope.value((id_of(leaf), column.key))
        if source is not None:
            candidates.append((source.many, column.primary_key, column, source))
    if not candidates:
        return Dependency(table)
    # One value before many; then the order of declaration.
    _, _, column, source = min(candidates, key=lambda each: (each[0], not each[1]))
    return Dependency(table, column, source)


def _parts(statement: Select[Any], froms: Iterable[FromClause]) -> list[Any]:
    """The parts of a SELECT that may contain other SELECTs, without its sources."""
    parts: list[Any] = [*statement._raw_columns, *statement._where_criteria]
    parts += [*statement._having_criteria, *getattr(statement, "_distinct_on", ())]
    parts += [join.onclause for each in froms for join in joins(each)]
    parts += [getattr(statement, name, None) for name in _EXTENSIONS]
    return parts + _clauses(statement)


def _clauses(statement: GenerativeSelect) -> list[Any]:
    parts: list[Any] = [*statement._order_by_clauses, *statement._group_by_clauses]
    return [*parts, statement._limit_clause, statement._offset_clause, statement._fetch_clause]


def _selects_in_all(parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        if part is not None:
            yield from _selects_in(part)


def _selects_in(element: Any) -> Iterator[Any]:
    if isinstance(element, FromClause) and not isinstance(element, SelectBase):
        return
    if isinstance(element, SelectBase):
        yield element
        return
    inner = getattr(element, "element", None)
    if isinstance(inner, SelectBase):
        yield inner
        return
    get_children = getattr(element, "get_children", None)
    if get_children is not None:
        for child in get_children():
            yield from _selects_in(child)
