"""Statements that ask for the rows with these primary keys, and for nothing else.

``select(Model).where(Model.id.in_([...]))``, and what ``selectinload`` sends for a many-to-one.
Only a statement whose every part is known here qualifies: an ORDER BY, a limit, a lock, a join, a
hint, loader options that say how the rows are loaded, all leave it plain SQL. The rows of such a
statement come in no order, says SQL, so any order is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BinaryExpression, BindParameter, Select
from sqlalchemy.orm import Load, Mapper, ORMExecuteState
from sqlalchemy.sql.elements import Tuple
from sqlalchemy.sql.operators import in_op

from cachedorm.declare.policies.model import Cached
from cachedorm.orm.database.compat import keys_in_front

Identity = tuple[Any, ...]

# What a statement of this kind has, and what SQLAlchemy keeps with it once it was executed.
_PARTS = frozenset(
    {
        "_raw_columns",
        "_where_criteria",
        "_propagate_attrs",
        "_label_style",
        "_compile_options",
        "_execution_options",  # part of those of the execution, which are looked at
        "_memoized_keys",
        "description",
        "dialect_options",
        # The many-to-one load's own; looked at below.
        "_from_obj",
        "_with_options",
    }
)
# Execution options that ask for nothing else: what SQLAlchemy adds itself, and autoflush.
_OPTIONS = frozenset(
    {
        "_result_disable_adapt_to_context",
        "_sa_orm_load_options",
        "autoflush",
        "prebuffer_rows",
        "sa_top_level_orm_context",
    }
)
_LOAD_OPTIONS = frozenset({"_autoflush", "_sa_top_level_orm_context"})
_COMPILE_OPTIONS = frozenset({"_current_path"})
# What an attribute of a class notes on its column.
_NOTES = frozenset({"entity_namespace", "parententity", "parentmapper", "proxy_key", "proxy_owner"})


@dataclass(frozen=True, slots=True)
class KeyList:
    """Which rows of which class, by primary key. ``with_keys``: each object beside its own key."""

    mapper: Mapper[Any]
    identities: list[Identity]
    with_keys: bool


def key_list(state: ORMExecuteState) -> KeyList | None:
    """What the statement asks for, if it is one of these; says quickly that it is none."""
    statement: Any = state.statement
    where: Any = getattr(statement, "_where_criteria", ())
    # Most statements go no further than this.
    if len(where) != 1 or getattr(where[0], "operator", None) is not in_op:
        return None
    mapper = _only_entity(statement)
    if mapper is None or not _asks_for_no_more(state, statement):
        return None
    condition = where[0]
    if type(condition) is not BinaryExpression or not _is_key(condition.left, mapper):
        return None
    values = _values(condition.right, state.parameters)
    if values is None:
        return None
    single = len(mapper.primary_key) == 1
    identities = [(value,) for value in values] if single else [tuple(each) for each in values]
    return KeyList(mapper, identities, with_keys=len(statement._raw_columns) > 1)


def _only_entity(statement: Any) -> Mapper[Any] | None:
    """The cached class whose rows alone are selected, with their keys in front or without."""
    if type(statement) is not Select:
        return None
    *before, entity = statement._raw_columns
    mapper: Any = entity._annotations.get("parententity")
    if not isinstance(mapper, Mapper) or not issubclass(mapper.class_, Cached):
        return None
    known: Any = mapper
    if entity is not known.__clause_element__():  # a column of it, or its bare table
        return None
    return mapper if not before or _same(keys_in_front(before), mapper.primary_key) else None


def _asks_for_no_more(state: ORMExecuteState, statement: Any) -> bool:
    parts = statement.__dict__
    if not (parts.keys() <= _PARTS or parts.keys() - _PARTS <= parts.get("_memoized_keys", set())):
        return False
    options = state.execution_options
    load_options = options.get("_sa_orm_load_options")
    if not options.keys() <= _OPTIONS or not _only(load_options, _LOAD_OPTIONS):
        return False
    if not _only(statement._compile_options, _COMPILE_OPTIONS) or parts.get("dialect_options"):
        return False
    return _is_bare(statement) or _is_many_to_one(statement)


def _only(options: Any, names: frozenset[str]) -> bool:
    """Whether no other option than these differs from its default; a class has only defaults."""
    return options is None or isinstance(options, type) or options.__dict__.keys() <= names


def _is_bare(statement: Any) -> bool:
    return not (
        statement._with_options or statement._from_obj or len(statement._raw_columns) > 1
    ) and not _path(statement)


def _is_many_to_one(statement: Any) -> bool:
    """Whether this is ``selectinload`` at work, and its options concern other loads than this."""
    path = _path(statement)
    entity = statement._raw_columns[-1]
    if not path or len(statement._raw_columns) == 1 or not _same(statement._from_obj, [entity]):
        return False
    return all(
        isinstance(option, Load) and _is_of_others(option, path)
        for option in statement._with_options
    )


def _path(statement: Any) -> Sequence[Any]:
    """The relationships that led here, with the mappers they start from."""
    current = getattr(statement._compile_options, "_current_path", None)
    path: Sequence[Any] = () if current is None else current.path
    return path


def _is_of_others(option: Any, path: Sequence[Any]) -> bool:
    """Whether a loader option says nothing of what is loaded at the end of this path."""
    return all(_is_of_another(element, path[-1]) for element in option.context)


def _is_of_another(element: Any, relation: Any) -> bool:
    """Whether this part of an option ends with the relationship that is loaded, or goes elsewhere.

    A path that goes on behind the relationship says how its objects are loaded.
    """
    steps = element.path.path
    if isinstance(steps[0], str):  # for everything, as ``raiseload("*")``
        return False
    if relation not in steps:
        return True
    behind = steps[steps.index(relation) + 1 :]
    return (
        behind in ((), (relation.mapper,))
        and dict(element.strategy or ()).keys() == {"lazy"}
        and element.local_opts.get("recursion_depth") is None
    )


def _is_key(left: Any, mapper: Mapper[Any]) -> bool:
    columns = left.clauses if isinstance(left, Tuple) else (left,)
    return len(columns) == len(mapper.primary_key) and all(
        _is_column(column, key, mapper)
        for column, key in zip(columns, mapper.primary_key, strict=True)
    )


def _is_column(column: Any, key: Any, mapper: Mapper[Any]) -> bool:
    if column is key:
        return True
    # An attribute of the class: the same column, with notes on it.
    notes = column._annotations
    return (
        notes.get("parententity") is mapper
        and notes.get("proxy_key") == mapper.get_property_by_column(key).key
        and notes.keys() <= _NOTES
    )


def _values(right: Any, given: Any) -> Sequence[Any] | None:
    """The values that the execution binds, if it binds nothing else."""
    if not isinstance(right, BindParameter) or not right.expanding:
        return None
    values = right.effective_value
    if given:
        if not isinstance(given, Mapping) or given.keys() != {right.key}:
            return None
        values = given[right.key]
    return values if isinstance(values, list | tuple) else None


def _same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(some) == len(others) and all(
        one is other for one, other in zip(some, others, strict=True)
    )
