"""Which columns of a SELECT are equal to a known value in every row that matters to its answer.

They follow from the conditions: equalities with a value (``missions.user_id = :user_id``) and
between columns (``missions.user_id = characters.user_id``). The condition of an outer join only
restricts its optional side, by the values of the other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import BindParameter, FromClause
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BooleanClauseList,
    ClauseList,
    ColumnClause,
    Grouping,
)
from sqlalchemy.sql.selectable import FromGrouping, Join
from sqlalchemy.types import NullType, TypeEngine

from cachedorm.declare.kinds import kind_of, why_no_key

# An IN of more values depends on the table's membership instead, since each value is a stamp.
VALUES_MAX = 20

# A column of one source of rows. A table that is read twice is two sources.
SourceColumn = tuple[int, str]


@dataclass(frozen=True, slots=True)
class ValueSource:
    """Where the value of a narrow tag comes from: a parameter or the statement itself."""

    parameter: str | None = None
    values: tuple[Any, ...] = ()
    many: bool = False
    # The bind that holds the value; a statement of the same shape has another value there.
    bound: str | None = field(default=None, compare=False)

    def of(self, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values for these parameters."""
        if self.parameter is None:
            return self.values
        value = parameters[self.parameter]
        return tuple(value) if self.many else (value,)

    def __str__(self) -> str:
        if self.parameter is not None:
            return f":{self.parameter}"
        return ", ".join(map(repr, self.values))


@dataclass(slots=True)
class SelectScope:
    """The known equalities of one SELECT. An inner SELECT sees those of the SELECTs around it.

    ``own`` are the sources that it reads itself. The others belong to the SELECTs around it.
    """

    own: set[int]
    outer: SelectScope | None = None
    # For each column, the columns that have the same value in every row of the answer.
    same: dict[SourceColumn, set[SourceColumn]] = field(default_factory=dict)
    known: dict[SourceColumn, ValueSource] = field(default_factory=dict)

    def all_around(self) -> set[int]:
        """The sources of this SELECT and of every one around it."""
        return self.own | (self.outer.all_around() if self.outer is not None else set())

    def join(self, one: SourceColumn, other: SourceColumn) -> None:
        """Note that the two columns are equal in every row."""
        both = self._class(one) | self._class(other)
        for place in both:
            self.same[place] = both

    def learn(self, place: SourceColumn, source: ValueSource) -> None:
        """Note that the column is equal to this value in every row."""
        self.known.setdefault(place, source)

    def value(self, place: SourceColumn) -> ValueSource | None:
        """The value that the column is equal to, directly or through another column."""
        members = sorted(self._class(place))
        for member in members:
            if member in self.known:
                return self.known[member]
        if self.outer is not None:
            for member in members:
                # A source of this SELECT has rows of its own here.
                found = None if member[0] in self.own else self.outer.value(member)
                if found is not None:
                    return found
        return None

    def _class(self, place: SourceColumn) -> set[SourceColumn]:
        return self.same.get(place, {place})


def learn_equalities(froms: Iterable[FromClause], where: Any, scope: SelectScope) -> None:
    """Note the equalities of a SELECT's joins and conditions."""
    froms = tuple(froms)
    for each in froms:
        _learn_inner_joins(each, scope)
    _learn_all(where, scope)
    for each in froms:
        _learn_outer_joins(each, scope)


def leaves(source: FromClause) -> Iterator[FromClause]:
    """The sources that are joined here."""
    source = _ungrouped(source)
    if isinstance(source, Join):
        yield from leaves(source.left)
        yield from leaves(source.right)
    else:
        yield source


def joins(source: FromClause) -> Iterator[Join]:
    """The joins within this source."""
    source = _ungrouped(source)
    if isinstance(source, Join):
        yield source
        yield from joins(source.left)
        yield from joins(source.right)


def id_of(source: Any) -> int:
    """The identity that annotated copies of a source share with it."""
    return hash(source)


def _ungrouped(source: FromClause) -> FromClause:
    while isinstance(source, FromGrouping):
        source = source.element
    return source


def _learn_inner_joins(source: FromClause, scope: SelectScope) -> None:
    """Note the conditions of inner joins, which hold for every row of the answer."""
    source = _ungrouped(source)
    if not isinstance(source, Join):
        return
    _learn_inner_joins(source.left, scope)
    if not source.isouter and not source.full:
        _learn_inner_joins(source.right, scope)
        _learn_all(source.onclause, scope)


def _learn_outer_joins(source: FromClause, scope: SelectScope) -> None:
    """Note the conditions of outer joins, which restrict the optional side alone."""
    source = _ungrouped(source)
    if not isinstance(source, Join):
        return
    _learn_outer_joins(source.left, scope)
    if source.full:
        return
    if source.isouter:
        _learn_inner_joins(source.right, scope)
        optional = {id_of(leaf) for leaf in leaves(source.right)}
        for element in _conjuncts(source.onclause):
            _learn_directed(element, optional, scope)
    _learn_outer_joins(source.right, scope)


def _learn_directed(element: Any, optional: set[int], scope: SelectScope) -> None:
    for place, other in _equal_sides(element):
        if place[0] not in optional:
            continue
        if isinstance(other, ValueSource):
            scope.learn(place, other)
        elif other[0] in optional:
            scope.join(place, other)
        else:
            source = scope.value(other)
            if source is not None:
                scope.learn(place, source)


def _learn_all(condition: Any, scope: SelectScope) -> None:
    for element in _conjuncts(condition):
        for place, other in _equal_sides(element):
            if isinstance(other, ValueSource):
                scope.learn(place, other)
            else:
                scope.join(place, other)


def _conjuncts(condition: Any) -> Iterator[Any]:
    if isinstance(condition, Grouping):
        yield from _conjuncts(condition.element)
    elif isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for clause in condition.clauses:
            yield from _conjuncts(clause)
    elif condition is not None:
        yield condition


def _equal_sides(element: Any) -> Iterator[tuple[SourceColumn, SourceColumn | ValueSource]]:
    if not isinstance(element, BinaryExpression):
        return
    if element.operator is operators.in_op:
        place = _place(element.left)
        source = _listed(element.right, element.left)
        if place is not None and source is not None:
            yield place, source
    elif element.operator is operators.eq:
        for one, other in ((element.left, element.right), (element.right, element.left)):
            place = _place(one)
            if place is None or not _same_text(one.type, other.type):
                continue
            if isinstance(other, BindParameter):
                yield place, _source(other)
            elif (there := _place(other)) is not None:
                yield place, there


def _place(element: Any) -> SourceColumn | None:
    table = getattr(element, "table", None)
    if not isinstance(element, ColumnClause) or table is None:
        return None
    return None if why_no_key(element.type) is not None else (id_of(table), element.key)


def _same_text(one: TypeEngine[Any], other: TypeEngine[Any]) -> bool:
    """Whether values that the database finds equal have the same text in a tag.

    A date equals the midnight of a timestamp, but its text differs.
    """
    if isinstance(other, NullType) or one is other:
        return True
    zones = [bool(getattr(each, "timezone", False)) for each in (one, other)]
    return kind_of(one) == kind_of(other) and zones[0] == zones[1]


def _source(bound: BindParameter[Any]) -> ValueSource:
    many = bool(bound.expanding)
    if not bound.unique:  # named by the author: another value may come with the call
        return ValueSource(parameter=bound.key, many=many, bound=bound.key)
    value: Any = bound.effective_value
    return ValueSource(values=tuple(value) if many else (value,), many=many, bound=bound.key)


def _listed(right: Any, left: Any) -> ValueSource | None:
    if isinstance(right, Grouping):
        right = right.element
    if isinstance(right, BindParameter) and _same_text(left.type, right.type):
        source = replace(_source(right), many=True)
    elif isinstance(right, ClauseList) and all(
        isinstance(each, BindParameter) and each.unique and _same_text(left.type, each.type)
        for each in right
    ):
        source = ValueSource(values=tuple(each.effective_value for each in right), many=True)
    else:
        return None
    return source if len(source.values) <= VALUES_MAX else None
