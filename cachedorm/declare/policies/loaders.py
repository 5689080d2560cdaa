"""Loaders that refill the expired attributes of cached classes from a cache.

SQLAlchemy refreshes loaded objects through the ``expired_attribute_loader`` of the class manager,
not through ``get`` or ``do_orm_execute``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.base import ATTR_WAS_SET, PASSIVE_NO_RESULT, SQL_OK


class ExpiredLoader:
    """Refill expired attributes through the object's session, if it reads from a cache."""

    def __init__(self, mapper: Mapper[Any], original: Callable[..., None]) -> None:
        self._mapper = mapper
        self.original = original

    def __call__(self, state: Any, names: Any, passive: Any) -> None:
        refresh = getattr(state.session, "_cachedorm_refresh", None)
        if refresh is None or not refresh(self._mapper, state, names):
            self.original(state, names, passive)


class LoadLeftOut:
    """Load one attribute that the cache does not hold, when it is accessed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, state: Any, passive: Any) -> Any:
        if not passive & SQL_OK:
            return PASSIVE_NO_RESULT
        state.manager.expired_attribute_loader.original(state, {self.name}, passive)
        return ATTR_WAS_SET


class LeftOut:
    """Give attributes that the cache leaves out a loader of their own when they expire.

    An access to one expired attribute refills all of them, and they then count as loaded. The
    attributes that the cache cannot fill must not be among them.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def __call__(self, state: Any, _names: Any) -> None:
        expired = self._names & state.expired_attributes
        if not expired or getattr(state.session, "_cachedorm_refresh", None) is None:
            return
        state.expired_attributes.difference_update(expired)
        if "callables" not in state.__dict__:
            state.callables = {}
        state.callables.update({name: LoadLeftOut(name) for name in expired})


def install(mapper: Mapper[Any], left_out: frozenset[str]) -> None:
    """Install these loaders on a cached class, once."""
    manager: Any = mapper.class_manager
    if isinstance(manager.expired_attribute_loader, ExpiredLoader):
        return
    manager.expired_attribute_loader = ExpiredLoader(mapper, manager.expired_attribute_loader)
    if left_out:
        event.listen(mapper.class_, "expire", LeftOut(left_out), raw=True)
