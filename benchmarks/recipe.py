"""SQLAlchemy's dogpile recipe (its ``examples/dogpile_caching``), as short as it can be: a rival.

Results are frozen and pickled, merged into the session on a hit, and never invalidated by writes.
"""

from __future__ import annotations

from typing import Any

from dogpile.cache import CacheRegion
from dogpile.cache.api import NO_VALUE
from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session, loading, sessionmaker
from sqlalchemy.orm.interfaces import UserDefinedOption


class FromCache(UserDefinedOption):
    """Asks for the result from a region, under a key that the caller makes."""

    propagate_to_loaders = False

    def __init__(self, region: CacheRegion, key: str) -> None:
        super().__init__(payload=None)
        self.region = region
        self.key = key


def install(factory: sessionmaker[Session]) -> None:
    """Answer ``FromCache`` statements of this factory's sessions."""
    event.listen(factory, "do_orm_execute", _answer)


def _answer(state: ORMExecuteState) -> Any:
    for option in state.user_defined_options:
        if isinstance(option, FromCache):
            found = option.region.get(option.key)
            if found is NO_VALUE:
                found = state.invoke_statement().freeze()
                option.region.set(option.key, found)
            merge: Any = loading.merge_frozen_result
            return merge(state.session, state.statement, found, load=False)()
    return None
