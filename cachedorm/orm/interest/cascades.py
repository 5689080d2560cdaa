"""Which other tables the database itself changes when one is written: its foreign keys.

The ORM leaves ON DELETE and ON UPDATE to the database, which reports nothing. What it does there
is read from the foreign keys of the mapped tables; what they do not declare is not seen.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Table
from sqlalchemy.exc import NoReferencedTableError

from cachedorm.orm.interest.tables import Names, TableName

AnyColumn = Column[Any]


class CascadeEffect(Enum):
    """What is done to the rows of a table."""

    DELETE = "delete"
    UPDATE = "update"
    TRUNCATE = "truncate"
    TRUNCATE_CASCADE = "truncate cascade"


@dataclass(frozen=True, slots=True)
class Cascade:
    """One thing that the database does to a child table.

    `columns` are the names of the child's columns that change (None: the whole row). At depth 1
    `keys` pairs the columns, parent's first: the rows concerned are those whose child columns
    equal the parent's, as both were *before* the statement. It is empty where exact rows are not
    to be had: deeper down, or on TRUNCATE.
    """

    table: Table
    effect: CascadeEffect
    columns: frozenset[str] | None
    depth: int
    keys: tuple[tuple[AnyColumn, AnyColumn], ...] = ()

    @property
    def exact(self) -> bool:
        """True if the rows can be selected beforehand by `keys`; else they are the whole table."""
        return bool(self.keys)


@dataclass(frozen=True, slots=True)
class _Reference:
    """A foreign key, from the side of the table that it refers to."""

    child: Table
    pairs: tuple[tuple[str, AnyColumn], ...]  # parent's column name, child's column
    parents: tuple[AnyColumn, ...]  # empty where the MetaData does not hold them
    on_delete: str
    on_update: str

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        return tuple((parent, child.name) for parent, child in self.pairs)


@dataclass(frozen=True, slots=True)
class _Step:
    """A table and what happens to it: what the next level follows from."""

    table: TableName
    effect: CascadeEffect
    columns: frozenset[str] | None


class Cascades:
    """The foreign keys of some tables, of any number of MetaData objects.

    Answers are kept, so make a new one when tables are added. Tables are identified by their
    names: two Table objects for one table of the database are one.
    """

    def __init__(self, tables: Iterable[Table], names: Names | None = None) -> None:
        self._tables = tuple(tables)
        self._names = names or Names()
        self._references = _references(self._tables, self._names)
        self._answers: dict[_Step, tuple[Cascade, ...]] = {}

    def __repr__(self) -> str:
        count = sum(map(len, self._references.values()))
        return f"<Cascades tables={len(self._tables)} foreign_keys={count}>"

    def of(
        self, table: Table, effect: CascadeEffect, columns: frozenset[str] | None = None
    ) -> tuple[Cascade, ...]:
        """Give what the database does to other rows when this is done to rows of `table`.

        `columns`: the names of those that an UPDATE sets; None where that is not known. A table
        that refers to itself is among its own children. An empty answer costs one look-up.
        """
        key = self._names.of(table)
        if key not in self._references or effect is CascadeEffect.TRUNCATE:
            return ()
        step = _Step(key, effect, columns if effect is CascadeEffect.UPDATE else None)
        answer = self._answers.get(step)
        if answer is None:
            answer = self._answers[step] = tuple(self._follow(step))
        return answer

    def _follow(self, start: _Step) -> Iterator[Cascade]:
        level = list(self._children(start, 1))
        yield from level
        followed: set[_Step] = set()
        told: set[_Step] = set()
        depth = 1
        while level:
            depth += 1
            steps = {self._step(cascade): None for cascade in level}
            level = [
                cascade
                for step in steps
                if step not in followed
                for cascade in self._children(step, depth)
            ]
            followed.update(steps)
            for cascade in level:
                if self._step(cascade) not in told:
                    told.add(self._step(cascade))
                    yield cascade

    def _step(self, cascade: Cascade) -> _Step:
        return _Step(self._names.of(cascade.table), cascade.effect, cascade.columns)

    def _children(self, step: _Step, depth: int) -> Iterator[Cascade]:
        for reference in self._references.get(step.table, ()):
            effect, columns = _acted(reference, step)
            if effect is None:
                continue
            exact = depth == 1 and effect is not CascadeEffect.TRUNCATE_CASCADE
            yield Cascade(
                reference.child, effect, columns, depth, _keys(reference) if exact else ()
            )


def _keys(reference: _Reference) -> tuple[tuple[AnyColumn, AnyColumn], ...]:
    children = (child for _, child in reference.pairs)
    return tuple(zip(reference.parents, children, strict=False))


# --- what one foreign key does

_NOTHING: Final = ("NO ACTION", "RESTRICT")


def _acted(
    reference: _Reference, step: _Step
) -> tuple[CascadeEffect | None, frozenset[str] | None]:
    match step.effect:
        case CascadeEffect.TRUNCATE_CASCADE:
            return CascadeEffect.TRUNCATE_CASCADE, None
        case CascadeEffect.DELETE:
            return _on_delete(reference)
        case CascadeEffect.UPDATE:
            return _on_update(reference, step.columns)
    return None, None


def _on_delete(reference: _Reference) -> tuple[CascadeEffect | None, frozenset[str] | None]:
    action = reference.on_delete
    if action.startswith(_NOTHING):
        return None, None
    if action.startswith("SET "):  # of PostgreSQL's SET NULL (a, b) as if it set all
        return CascadeEffect.UPDATE, frozenset(child.name for _, child in reference.pairs)
    return CascadeEffect.DELETE, None


def _on_update(
    reference: _Reference, columns: frozenset[str] | None
) -> tuple[CascadeEffect | None, frozenset[str] | None]:
    action = reference.on_update
    changed = [pair for pair in reference.pairs if columns is None or pair[0] in columns]
    if action.startswith(_NOTHING) or not changed:
        return None, None
    pairs = reference.pairs if action.startswith("SET ") else changed
    return CascadeEffect.UPDATE, frozenset(child.name for _, child in pairs)


# --- the foreign keys of the tables


def _references(
    tables: Iterable[Table], spelling: Names
) -> dict[TableName, tuple[_Reference, ...]]:
    by_key = {spelling.of(table): table for table in reversed(list(tables))}
    found: dict[TableName, dict[object, _Reference]] = {}
    for table in tables:
        for constraint in sorted(table.foreign_key_constraints, key=_column_names):
            parent, reference = _reference(constraint, by_key, spelling)
            same = (spelling.of(table), reference.names, reference.on_delete, reference.on_update)
            found.setdefault(parent, {}).setdefault(same, reference)
    return {parent: tuple(references.values()) for parent, references in found.items()}


def _column_names(constraint: ForeignKeyConstraint) -> list[str]:
    return [column.name for column in constraint.columns]


def _reference(
    constraint: ForeignKeyConstraint, by_key: Mapping[TableName, Table], spelling: Names
) -> tuple[TableName, _Reference]:
    targets = [_target(element, by_key, spelling) for element in constraint.elements]
    names = [name for _, name, _ in targets]
    parents = [column for _, _, column in targets if column is not None]
    reference = _Reference(
        child=constraint.table,
        pairs=tuple(zip(names, constraint.columns, strict=True)),
        parents=tuple(parents) if len(parents) == len(names) else (),
        on_delete=_action(constraint.ondelete),
        on_update=_action(constraint.onupdate),
    )
    return targets[0][0], reference


def _target(
    element: ForeignKey, by_key: Mapping[TableName, Table], spelling: Names
) -> tuple[TableName, str, AnyColumn | None]:
    """Give the table, the column's name, and the column if some MetaData holds it."""
    try:
        column = element.column
    except NoReferencedTableError:
        return _foreign_target(element, by_key, spelling)
    return spelling.of(column.table), column.name, column


def _foreign_target(
    element: ForeignKey, by_key: Mapping[TableName, Table], spelling: Names
) -> tuple[TableName, str, AnyColumn | None]:
    """Give the target of a foreign key into a table of another MetaData, or of none."""
    *schemas, name, column_key = element.target_fullname.rsplit(".", 2)
    child = element.constraint.table if element.constraint is not None else None
    default = child.metadata.schema if child is not None else None
    key = spelling.spelled(schemas[0] if schemas else default, name)
    column = by_key[key].columns.get(column_key) if key in by_key else None
    return key, column_key if column is None else column.name, column


def _action(text: str | None) -> str:
    return " ".join((text or "NO ACTION").upper().split())
