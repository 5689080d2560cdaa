"""A stage for commits: what happens between INTEND and COMMIT, or between COMMIT and SETTLE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine


class Stage:
    """Put on an engine before it is attached, so that ours is wrapped around the staged COMMIT."""

    def __init__(self, engine: Engine | AsyncEngine) -> None:
        root: Any = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        self._engine: Engine = root
        self._commit = root.dialect.do_commit
        self.before: Callable[[], None] | None = None
        self.after: Callable[[], None] | None = None
        root.dialect.do_commit = self._staged

    def _staged(self, dbapi_connection: Any) -> None:
        # Each act once: what it does may commit as well.
        before, self.before = self.before, None
        if before is not None:
            before()
        after, self.after = self.after, None
        self._commit(dbapi_connection)
        if after is not None:
            after()

    @contextmanager
    def after_query(self, words: str, act: Callable[[], None]) -> Iterator[None]:
        """Within the block, act once when a statement with these words has been answered."""
        acts = [act]

        def answered(_: Any, __: Any, statement: str, *___: Any) -> None:
            if words in statement and acts:
                acts.pop()()

        event.listen(self._engine, "after_cursor_execute", answered)
        yield
        event.remove(self._engine, "after_cursor_execute", answered)
