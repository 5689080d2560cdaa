"""From the values of a cached row to a live, persistent object of a session.

The quick way sets an instance up as SQLAlchemy's own loader leaves it, through attributes that are
not public; ``quick_way_works`` tries it once on the SQLAlchemy at hand, and where it fails every
row goes through ``Session.merge(load=False)``, which is public and four times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def hydrate(session: Session, plan: RowPlan, key: IdentityKey, values: tuple[Any, ...]) -> Any:
    """The session's object for this row: its own if it has one, else a new persistent one.

    The session's own object always wins: only its expired attributes are filled.
    """
    identity_map = session.identity_map
    state = identity_map._dict.get(key)
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
    class_, known = plan.mapper._identity_class, session.identity_map._dict.get
    make = _maker(session, plan) if quick_way_works() else None
    at, *more = plan.key_positions
    found: list[Any | None] = []
    for values in rows:
        identity = (values[at], *(values[each] for each in more)) if more else (values[at],)
        key = (class_, identity, None)
        if make is not None and identity[0] is not None and known(key) is None:
            found.append(make(key, values))
        elif all(part is None for part in identity):
            found.append(None)
        else:
            found.append(hydrate(session, plan, key, values))
    return found


def _maker(session: Session, plan: RowPlan) -> Callable[[IdentityKey, tuple[Any, ...]], Any]:
    """What makes this session's objects of one class."""
    manager, names, unstored = plan.mapper.class_manager, plan.names, plan.unstored
    new, add, session_id = (
        manager.new_instance,
        session.identity_map._add_unpresent,
        session.hash_key,
    )
    load: Any = manager.dispatch.load or None
    loaded: Any = session.dispatch.loaded_as_persistent or None

    def make(key: IdentityKey, values: tuple[Any, ...]) -> Any:
        instance = new()
        state = instance_state(instance)
        instance.__dict__.update(zip(names, values, strict=True))
        state.key = key
        state.identity_token = key[2]
        state.session_id = session_id
        add(state, key)
        if unstored:
            state.expired_attributes.update(unstored)
        if load is not None:
            load(state, None)
        if loaded is not None:
            loaded(session, state)
        return instance

    return make


def _made(session: Session, plan: RowPlan, key: IdentityKey, values: tuple[Any, ...]) -> Any:
    return _maker(session, plan)(key, values)


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
