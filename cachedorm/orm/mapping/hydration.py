"""From the values of a cached row to a live, persistent object of a session.

The quick way sets an instance up as SQLAlchemy's own loader leaves it, through attributes that are
not public; ``quick_way_works`` tries it once on the SQLAlchemy at hand, and where it fails every
row goes through ``Session.merge(load=False)``, which is public and four times slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import Integer, String
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    class_mapper,
    make_transient_to_detached,
    mapped_column,
)
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.base import instance_state

from cachedorm.orm.mapping.row_plan import RowPlan

IdentityKey = tuple[type, tuple[Any, ...], Any]


def hydrate(session: Session, plan: RowPlan, values: tuple[Any, ...]) -> Any:
    """The session's object for this row: its own if it has one, else a new persistent one.

    The session's own object always wins: only its expired attributes are filled.
    """
    key = (plan.identity_class, plan.identity_of(values), None)
    state = session.identity_map._dict.get(key)
    if state is not None:
        instance = state.obj()
        if instance is not None:
            if state.expired_attributes:
                fill(plan, state, values, state.expired_attributes)
            return instance
    if not quick_way_works():
        return _merged(session, plan, key, values)
    return _made(session, plan, key, values)


def hydrate_each(
    session: Session, plan: RowPlan, rows: Iterable[tuple[Any, ...]]
) -> list[Any | None]:
    """The session's objects for many rows of one class, as ``hydrate`` gives them, in less time.

    None for a row whose primary key is null: an outer join found none.
    """
    class_, known, quick = plan.identity_class, session.identity_map._dict.get, quick_way_works()
    at, *more = plan.key_positions
    found: list[Any | None] = []
    for values in rows:
        identity = (values[at], *(values[each] for each in more)) if more else (values[at],)
        key = (class_, identity, None)
        if quick and identity[0] is not None and known(key) is None:
            found.append(_made(session, plan, key, values))
        elif all(part is None for part in identity):
            found.append(None)
        else:
            found.append(hydrate(session, plan, values))
    return found


def _made(session: Session, plan: RowPlan, key: IdentityKey, values: tuple[Any, ...]) -> Any:
    """A new persistent object, set up as SQLAlchemy's own loader does it."""
    manager: Any = plan.mapper.class_manager
    instance = manager.new_instance()
    state = instance_state(instance)
    instance.__dict__.update(zip(plan.names, values, strict=True))
    state.key = key
    state.identity_token = key[2]
    state.session_id = session.hash_key
    session.identity_map._add_unpresent(state, key)
    if plan.unstored:
        state.expired_attributes.update(plan.unstored)
    if manager.dispatch.load:
        manager.dispatch.load(state, None)
    if session.dispatch.loaded_as_persistent:
        session.dispatch.loaded_as_persistent(session, state)
    return instance


def fill(plan: RowPlan, state: Any, values: tuple[Any, ...], names: Any) -> frozenset[str]:
    """Give an object of the session those expired attributes that the row has; says which.

    Attributes that the session changed are not expired, so nothing of its own is lost.
    """
    unmodified = state.unmodified
    filled = {
        name: value
        for name, value in zip(plan.names, values, strict=True)
        if name in names and name in unmodified
    }
    if not filled:
        return frozenset()
    state.dict.update(filled)
    state._commit(state.dict, filled)
    state.expired_attributes.difference_update(filled)
    if state.manager.dispatch.refresh:
        state.manager.dispatch.refresh(state, None, frozenset(filled))
    return frozenset(filled)


def _merged(session: Session, plan: RowPlan, key: IdentityKey, values: tuple[Any, ...]) -> Any:
    instance = plan.mapper.class_manager.new_instance()
    for name, value in zip(plan.names, values, strict=True):
        set_committed_value(instance, name, value)
    make_transient_to_detached(instance)
    state = instance_state(instance)
    state.key = key
    state.expired_attributes.difference_update(plan.names)
    merged = session.merge(instance, load=False)
    if session.dispatch.loaded_as_persistent:
        session.dispatch.loaded_as_persistent(session, instance_state(merged))
    return merged


@cache
def quick_way_works() -> bool:
    """Whether this SQLAlchemy lets instances be set up directly; tried once a process."""

    class Base(DeclarativeBase):
        pass

    class Probe(Base):
        __tablename__ = "probe"
        id: Mapped[int] = mapped_column(Integer, primary_key=True)
        name: Mapped[str] = mapped_column(String)

    class ProbePlan:
        mapper = class_mapper(Probe)
        names = ("id", "name")
        unstored: frozenset[str] = frozenset()

    try:
        with Session() as session:
            key = (Probe, (1,), None)
            made = _made(session, ProbePlan, key, (1, "a"))  # type: ignore[arg-type]
            state = instance_state(made)
            kept = made in session and state.persistent and not session.dirty
            made.name = "b"
            return bool(kept and made in session.dirty and session.identity_map.get(key) is made)
    except (AttributeError, TypeError, KeyError):
        return False
