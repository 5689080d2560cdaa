"""What a query's answer depends on, read off the statement: for each table a tag, or the whole.

A row of a table can only change the answer if it satisfies every condition that the statement puts
on that table. Where one of them is an equality with a known value (``missions.user_id = :user_id``,
also by way of a join: ``missions.user_id = characters.user_id``), rows of another value do not
matter, and the *narrow tag* of that column and value says it all. A table without such a condition
is depended on as a whole, by its *membership*.

What cannot be analysed is an error that asks for ``depends_on``, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import BindParameter, Column, FromClause, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BooleanClauseList,
    ClauseList,
    ColumnClause,
    ColumnElement,
    Grouping,
    TextClause,
)
from sqlalchemy.sql.functions import FunctionElement, GenericFunction, now
from sqlalchemy.sql.selectable import (
    CTE,
    Alias,
    CompoundSelect,
    Join,
    Select,
    SelectBase,
    Subquery,
    TableClause,
    TextualSelect,
    Values,
)
from sqlalchemy.sql.visitors import iterate

from cachedorm.declare.kinds import why_no_key

# An IN of more values than this depends on the table's membership instead: each value is a stamp.
VALUES_MAX = 20

# Functions that only look at their arguments, and give the same answer for the same ones.
_PURE = frozenset(
    ["abs", "array_agg", "array_length", "avg", "btrim", "cardinality", "ceil", "ceiling", "char_length", "coalesce", "concat", "concat_ws", "count", "cube", "date_part", "date_trunc", "dense_rank", "every", "exp", "extract", "first_value", "floor", "greatest", "grouping_sets", "initcap", "json_agg", "json_build_object", "json_object_agg", "jsonb_agg", "jsonb_build_object", "jsonb_object_agg", "lag", "last_value", "lead", "least", "left", "length", "ln", "log", "lower", "lpad", "ltrim", "max", "md5", "min", "mod", "mode", "nth_value", "ntile", "nullif", "octet_length", "percent_rank", "percentile_cont", "percentile_disc", "position", "power", "rank", "regexp_replace", "repeat", "replace", "reverse", "right", "rollup", "round", "row_number", "rpad", "rtrim", "sign", "split_part", "sqrt", "stddev", "string_agg", "strpos", "substr", "substring", "sum", "to_char", "translate", "trim", "trunc", "upper", "variance", "bool_and", "bool_or", "cume_dist", "similarity", "word_similarity", "unaccent", "st_asbinary", "st_asewkb", "st_astext", "st_distance", "st_dwithin", "st_x", "st_y", "st_makepoint", "st_setsrid", "st_geogfromtext", "st_geomfromtext", "st_geogfromwkb", "st_geomfromewkb", "st_geogfromewkb"]
)


class NotAnalysable(Exception):
    """The statement holds something whose effect on the answer cannot be told; says what."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value of a narrow tag comes from: a parameter of the query, or the statement."""

    parameter: str | None = None
    values: tuple[Any, ...] = ()
    many: bool = False
    # The bind it was read from; a statement of the same shape has another value there.
    bound: str | None = field(default=None, compare=False)

    def of(self, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values under these parameters."""
        if self.parameter is None:
            return self.values
        value = parameters[self.parameter]
        return tuple(value) if self.many else (value,)

    def __str__(self) -> str:
        if self.parameter is not None:
            return f":{self.parameter}"
        return ", ".join(map(repr, self.values))


@dataclass(frozen=True, slots=True)
class Dependency:
    """One table that the answer depends on: by a column's value, or (no column) as a whole."""

    table: Table
    column: Column[Any] | None = None
    source: Source | None = None

    def __str__(self) -> str:
        if self.column is None:
            return f"{self.table.fullname}.*"
        return f"{self.table.fullname}.{self.column.name}={self.source}"


Place = tuple[int, str]


@dataclass(slots=True)
class _Scope:
    """The known equalities of one SELECT; an inner one sees those of the outer ones as well."""

    outer: _Scope | None = None
    # Each place's class: the places whose values are the same in every row of the answer.
    same: dict[Place, set[Place]] = field(default_factory=dict)
    known: dict[Place, Source] = field(default_factory=dict)

    def join(self, one: Place, other: Place) -> None:
        """The two columns are equal in every row."""
        both = self._class(one) | self._class(other)
        for place in both:
            self.same[place] = both

    def learn(self, place: Place, source: Source) -> None:
        """The column is equal to this in every row."""
        self.known.setdefault(place, source)

    def value(self, place: Place) -> Source | None:
        """What the column is equal to, by itself or by way of another."""
        members = sorted(self._class(place))
        for member in members:
            if member in self.known:
                return self.known[member]
        if self.outer is not None:
            for member in members:
                found = self.outer.value(member)
                if found is not None:
                    return found
        return None

    def _class(self, place: Place) -> set[Place]:
        return self.same.get(place, {place})


def dependencies_of(statement: SelectBase) -> tuple[Dependency, ...]:
    """What the answer of a SELECT depends on, a line for each table it reads.

    Raises NotAnalysable for text, functions with unknown effects, volatile functions and sources
    that are no tables.
    """
    found: dict[str, Dependency] = {}
    _check_elements(statement)
    for dependency in _analysed(statement, None):
        key = str(dependency)
        found.setdefault(key, dependency)
    # A table that is read as a whole somewhere needs no narrower tag beside it.
    whole = {each.table.fullname for each in found.values() if each.column is None}
    return tuple(
        each
        for each in found.values()
        if each.column is None or each.table.fullname not in whole
    )


def _analysed(statement: Any, outer: _Scope | None) -> Iterator[Dependency]:
    match statement:
        case CompoundSelect():
            for each in statement.selects:
                yield from _analysed(each, outer)
        case Select():
            yield from _analysed_select(statement, outer)
        case Grouping() if isinstance(statement.element, SelectBase):
            yield from _analysed(statement.element, outer)
        case _ if isinstance(getattr(statement, "element", None), SelectBase):
            yield from _analysed(statement.element, outer)
        case _:
            raise NotAnalysable(f"a {type(statement).__name__}")


def _analysed_select(statement: Select[Any], outer: _Scope | None) -> Iterator[Dependency]:
    scope = _Scope(outer)
    froms = statement.get_final_froms()
    for each in froms:
        _learn_joins(each, scope)
    _learn_all(_conjuncts(statement.whereclause), scope)
    for each in froms:
        _learn_outer_joins(each, scope)
    for each in froms:
        yield from _read_from(each, scope)
    for inner in _inner_selects(statement):
        yield from _analysed(inner, scope)


def _learn_joins(source: FromClause, scope: _Scope) -> None:
    """Inner joins: their conditions hold for every row of the answer."""
    if not isinstance(source, Join):
        return
    _learn_joins(source.left, scope)
    if not source.isouter and not source.full:
        _learn_joins(source.right, scope)
        _learn_all(_conjuncts(source.onclause), scope)


def _learn_outer_joins(source: FromClause, scope: _Scope) -> None:
    """Outer joins: their conditions restrict the optional side alone, by what the other holds."""
    if not isinstance(source, Join):
        return
    _learn_outer_joins(source.left, scope)
    if source.full:
        return
    if source.isouter:
        _learn_joins(source.right, scope)
        optional = {id_of(leaf) for leaf in _leaves(source.right)}
        for element in _conjuncts(source.onclause):
            _learn_directed(element, optional, scope)
    _learn_outer_joins(source.right, scope)


def _learn_directed(element: Any, optional: set[int], scope: _Scope) -> None:
    for place, other in _equal_sides(element):
        if place[0] not in optional:
            continue
        if isinstance(other, Source):
            scope.learn(place, other)
        elif other[0] in optional:
            scope.join(place, other)
        else:
            source = scope.value(other)
            if source is not None:
                scope.learn(place, source)


def _learn_all(elements: Iterator[Any], scope: _Scope) -> None:
    for element in elements:
        for place, other in _equal_sides(element):
            if isinstance(other, Source):
                scope.learn(place, other)
            else:
                scope.join(place, other)


def _equal_sides(element: Any) -> Iterator[tuple[Place, Place | Source]]:
    if not isinstance(element, BinaryExpression):
        return
    if element.operator is operators.in_op:
        place = _place(element.left)
        source = _sources_in(element.right)
        if place is not None and source is not None:
            yield place, source
        return
    if element.operator is not operators.eq:
        return
    for one, other in ((element.left, element.right), (element.right, element.left)):
        place = _place(one)
        if place is None:
            continue
        if isinstance(other, BindParameter):
            yield place, _source(other)
        elif (there := _place(other)) is not None:
            yield place, there


def _place(element: Any) -> Place | None:
    column = element
    table = getattr(column, "table", None)
    if not isinstance(column, ColumnClause) or table is None or why_no_key(column.type) is not None:
        return None
    return id_of(table), column.key


def _source(bound: BindParameter[Any]) -> Source:
    if bound.required or (bound.value is None and bound.callable is None and not bound.unique):
        return Source(parameter=bound.key, many=bool(bound.expanding), bound=bound.key)
    value = bound.effective_value
    values = tuple(value) if bound.expanding else (value,)
    return Source(values=values, many=bool(bound.expanding), bound=bound.key)


def _sources_in(right: Any) -> Source | None:
    if isinstance(right, Grouping):
        right = right.element
    if isinstance(right, BindParameter):
        source = _source(right)
        small = source.parameter is not None or len(source.values) <= VALUES_MAX
        return replace(source, many=True) if small else None
    if isinstance(right, ClauseList) and all(isinstance(each, BindParameter) for each in right):
        values = tuple(each.effective_value for each in right)
        return Source(values=values, many=True) if len(values) <= VALUES_MAX else None
    return None


def _conjuncts(where: Any) -> Iterator[ColumnElement[Any]]:
    if isinstance(where, Grouping):
        yield from _conjuncts(where.element)
    elif isinstance(where, BooleanClauseList) and where.operator is operators.and_:
        for clause in where.clauses:
            yield from _conjuncts(clause)
    elif where is not None:
        yield where


def _leaves(source: FromClause) -> Iterator[FromClause]:
    if isinstance(source, Join):
        yield from _leaves(source.left)
        yield from _leaves(source.right)
    else:
        yield source


def _read_from(source: FromClause, scope: _Scope) -> Iterator[Dependency]:
    for leaf in _leaves(source):
        table = _table_of(leaf)
        if table is not None:
            yield _narrowest(leaf, table, scope)
        elif isinstance(leaf, Subquery | CTE) or isinstance(
            getattr(leaf, "element", None), SelectBase
        ):
            yield from _analysed(leaf.element, None)  # type: ignore[union-attr]
        elif not isinstance(leaf, Values):
            raise NotAnalysable(f"the source {str(leaf)!r}, which is no table")


def _table_of(leaf: FromClause) -> Table | None:
    inner: Any = leaf
    while isinstance(inner, Alias):
        inner = inner.element
    if isinstance(inner, Table):
        return inner
    if isinstance(inner, TableClause) and not isinstance(inner, CTE):
        raise NotAnalysable(f"the source {inner.name!r}, of which only the name is known")
    return None


def _narrowest(leaf: FromClause, table: Table, scope: _Scope) -> Dependency:
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


def _inner_selects(statement: Select[Any]) -> Iterator[Any]:
    """The SELECTs inside the columns, conditions and orders of this one, outermost first."""
    parts: list[Any] = [*statement._raw_columns, *statement._order_by_clauses]
    parts += [*statement._group_by_clauses, *statement._having_criteria]
    parts += [clause for clause in statement._where_criteria]
    for source in statement.get_final_froms():
        parts += [each.onclause for each in _joins(source) if each.onclause is not None]
    for part in parts:
        yield from _selects_in(part)


def _joins(source: FromClause) -> Iterator[Join]:
    if isinstance(source, Join):
        yield source
        yield from _joins(source.left)
        yield from _joins(source.right)


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


def _check_elements(statement: SelectBase) -> None:
    for element in iterate(statement):
        if isinstance(element, TextualSelect | TextClause):
            raise NotAnalysable(f"SQL text: {str(element)!r}")
        if isinstance(element, ColumnClause) and element.is_literal and str(element) != "*":
            raise NotAnalysable(f"a literal column: {str(element)!r}")
        if isinstance(element, FunctionElement):
            _check_function(element)
        if isinstance(element, Select) and element._for_update_arg is not None:
            raise NotAnalysable("FOR UPDATE: a lock cannot be cached")


def _check_function(function: FunctionElement[Any]) -> None:
    name = getattr(function, "name", type(function).__name__).lower()
    if isinstance(function, now) or name in _VOLATILE:
        raise NotAnalysable(f"{name}(), whose value changes by itself")
    known = name in _PURE or (isinstance(function, GenericFunction) and name in _PURE)
    if not known:
        raise NotAnalysable(f"the function {name}(), which may read other tables or change by itself")


_VOLATILE = frozenset(
    ["now", "current_timestamp", "localtimestamp", "statement_timestamp", "transaction_timestamp", "clock_timestamp", "timeofday", "current_date", "current_time", "localtime", "random", "gen_random_uuid", "uuid_generate_v4", "nextval", "setval", "currval", "current_user", "session_user", "user", "current_setting", "txid_current", "age"]
)


def id_of(source: Any) -> int:
    """What an annotated copy of a source shares with the source itself."""
    return hash(source)


def explain(dependencies: Sequence[Dependency]) -> str:
    """The dependencies, as ``repr`` shows them."""
    return ", ".join(str(each) for each in dependencies) or "nothing"
