"""What differs between SQLAlchemy 2.0 and 2.1, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import sqlalchemy
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

_IS_20 = sqlalchemy.__version__.startswith("2.0.")
_NOTHING: Mapping[str, Any] = {}


_Read = Callable[[Session], Mapping[Any, Any]]

if _IS_20:
    # The binds of single classes and tables that a session was given.
    session_binds: _Read = attrgetter("_Session__binds")

    # The execution options that all of a session's statements get.
    def session_options(_session: Session, /) -> Mapping[Any, Any]:
        return _NOTHING

    _UNIQUE: dict[str, Any] = {"_unique_filters": [id]}
else:
    session_binds = attrgetter("binds")
    session_options: _Read = attrgetter("execution_options")  # type: ignore[no-redef]
    _UNIQUE = {"_create_unique_filters": lambda _result: [id]}


_metadata: WeakKeyDictionary[type, SimpleResultMetaData] = WeakKeyDictionary()


def entity_result(class_: type, objects: Iterable[object]) -> IteratorResult[Any]:
    """A result whose rows hold one object each, as ``select(class_)`` gives it."""
    metadata = _metadata.get(class_)
    if metadata is None:
        metadata = _metadata[class_] = SimpleResultMetaData(
            (class_.__name__,), [(class_,)], **_UNIQUE
        )
    return IteratorResult(metadata, iter([(found,) for found in objects]))


def rows_result(
    names: Sequence[str],
    extra: Sequence[tuple[Any, ...]],
    entities: Sequence[bool],
    rows: Sequence[tuple[Any, ...]],
    *,
    repeats: bool = False,
) -> IteratorResult[Any]:
    """A result of these rows; entities are compared by identity, columns by value.

    One that repeats them in the database wants ``unique()``, as SQLAlchemy's own does.
    """
    filters = [id if entity else None for entity in entities]
    unique: dict[str, Any] = (
        {"_unique_filters": filters}
        if _IS_20
        else {"_create_unique_filters": lambda _result: filters}
    )
    result: IteratorResult[Any] = IteratorResult(
        SimpleResultMetaData(names, extra, **unique), iter(rows)
    )
    if repeats:
        result._unique_filter_state = (set(), _unique_missing)
    return result


def repeats_rows(compiled: Any) -> bool:
    """Whether a joined collection repeats the rows of this statement."""
    return bool(getattr(compiled.compile_state, "multi_row_eager_loaders", False))


def _unique_missing(_row: object) -> NoReturn:
    raise InvalidRequestError(
        "The unique() method must be invoked on this Result, as it contains results that include"
        " joined eager loads against collections"
    )


def keys_in_front(columns: Sequence[Any]) -> Sequence[Any]:
    """The key columns that ``selectinload`` selects in front of the entity."""
    if _IS_20 and len(columns) == 1 and "bundle" in columns[0]._annotations:
        clauses: Sequence[Any] = columns[0].clauses
        return clauses
    return () if _IS_20 else columns


def keyed_result(
    class_: type, keyed: Iterable[tuple[tuple[Any, ...], object]]
) -> IteratorResult[Any]:
    """A result of objects with their keys in front, as ``selectinload`` takes it."""
    rows: list[tuple[Any, ...]] = [
        (key, found) if _IS_20 else (*key, found) for key, found in keyed
    ]
    width = len(rows[0]) if rows else 1
    names = [*(f"key_{number}" for number in range(width - 1)), class_.__name__]
    entities = [name is names[-1] for name in names]
    return rows_result(names, [() for _ in names], entities, rows)
