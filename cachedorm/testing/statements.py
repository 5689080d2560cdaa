"""Record the SQL that a piece of code sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from cachedorm.errors import ArgumentError
from cachedorm.orm.database.factories import Target, engines_of, factory_of


class Statements(list[str]):
    """The SQL that was sent, in order, without BEGIN and COMMIT."""

    def note(
        self, connection: Any, cursor: Any, text: str, parameters: Any, context: Any, many: bool
    ) -> None:
        """Record a statement: the listener of ``before_cursor_execute``."""
        self.append(text)


@contextmanager
def count_statements(*targets: Target) -> Iterator[Statements]:
    """The SQL that these engines, or the engines of these factories, send within the block.

    ``assert len(statements) == 1`` afterwards. Raises ArgumentError for other objects, and for a
    factory without a bind, whose SQL would not be counted; give its engine then.
    """
    if not targets:
        raise ArgumentError("count_statements(): give the engines or factories to count")
    sent = Statements()
    with listening({_sync(engine) for target in targets for engine in _engines(target)}, sent):
        yield sent


@contextmanager
def listening(engines: set[Engine], sent: Statements) -> Iterator[None]:
    """Record the statements of these engines within the block."""
    with ExitStack() as undo:
        for engine in engines:
            event.listen(engine, "before_cursor_execute", sent.note)
            undo.callback(event.remove, engine, "before_cursor_execute", sent.note)
        yield


def _engines(target: Target) -> list[Engine | AsyncEngine]:
    if isinstance(target, Engine | AsyncEngine):
        return [target]
    found = engines_of(factory_of(target))
    if not found:
        raise ArgumentError(
            f"count_statements({target!r}): it has no bind, so its SQL would not be counted;"
            " give the engine that its sessions use"
        )
    return found


def _sync(engine: Engine | AsyncEngine) -> Engine:
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine
