"""What differs between SQLAlchemy 2.0 and 2.1, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import Session

_IS_20 = sqlalchemy.__version__.startswith("2.0.")
_NOTHING: Mapping[str, Any] = {}


if _IS_20:

    def session_binds(session: Session) -> Mapping[Any, Any]:
        """The binds of single classes and tables that a session was given."""
        binds: Mapping[Any, Any] = session._Session__binds  # type: ignore[attr-defined]
        return binds

    def session_options(session: Session) -> Mapping[str, Any]:
        """The execution options that all of a session's statements get: none before 2.1."""
        return _NOTHING

    _UNIQUE: dict[str, Any] = {"_unique_filters": [id]}

else:

    def session_binds(session: Session) -> Mapping[Any, Any]:
        """The binds of single classes and tables that a session was given."""
        binds: Mapping[Any, Any] = session.binds  # type: ignore[attr-defined]
        return binds

    def session_options(session: Session) -> Mapping[str, Any]:
        """The execution options that all of a session's statements get."""
        options: Mapping[str, Any] = session.execution_options  # type: ignore[attr-defined]
        return options

    _UNIQUE = {"_create_unique_filters": lambda result: [id]}


def entity_result(class_: type, objects: Iterable[object]) -> IteratorResult[Any]:
    """A result whose rows hold one object each, as ``select(class_)`` gives it."""
    return IteratorResult(_entity_metadata(class_), iter([(found,) for found in objects]))


@lru_cache(maxsize=None)
def _entity_metadata(class_: type) -> SimpleResultMetaData:
    return SimpleResultMetaData((class_.__name__,), [(class_,)], **_UNIQUE)


def rows_result(
    names: Sequence[str],
    extra: Sequence[tuple[Any, ...]],
    entities: Sequence[bool],
    rows: Sequence[tuple[Any, ...]],
) -> IteratorResult[Any]:
    """A result of these rows; entities are told apart by identity, columns by value."""
    filters = [id if entity else None for entity in entities]
    unique: dict[str, Any] = (
        {"_unique_filters": filters}
        if _IS_20
        else {"_create_unique_filters": lambda result: filters}
    )
    return IteratorResult(SimpleResultMetaData(names, extra, **unique), iter(rows))
