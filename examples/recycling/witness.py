"""Sees where an answer came from: the cache's own observer, and the SQL that the engine sent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from sqlalchemy import Engine, event

from cachedorm import Observer


@dataclass(slots=True)
class Seen:
    """What happened while one thing was done."""

    seconds: float = 0.0
    hits: int = 0
    missed: list[str] = field(default_factory=list)
    published: int = 0
    bypassed: list[str] = field(default_factory=list)
    invalidated: int = 0
    statements: int = 0
    commands: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        """Where the answer came from, in words."""
        if self.statements:
            if self.published:
                return "database, then kept"
            return f"database, not kept: {', '.join(self.bypassed) or 'refused'}"
        if not self.hits:
            return "the session itself"
        return "Redis, 1 command" if self.commands == 1 else f"Redis, {self.commands} commands"


class Witness(Observer):
    """Attributes every event to what is being done now; `during` begins something new."""

    def __init__(self) -> None:
        self.seen = Seen()

    def follow(self, engine: Engine) -> None:
        """Count the statements that this engine sends."""
        event.listen(engine, "before_cursor_execute", self._on_statement)

    def begin(self) -> Callable[[], Seen]:
        """Start watching; call what is returned to stop, and get what was seen."""
        seen = self.seen = Seen()
        began = perf_counter()

        def end() -> Seen:
            seen.seconds = perf_counter() - began
            self.seen = Seen()
            return seen

        return end

    def hit(self, region: str, key: str) -> None:
        self.seen.hits += 1

    def miss(self, region: str, key: str, reason: str) -> None:
        self.seen.missed.append(reason)

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        self.seen.published += published

    def bypass(self, region: str, reason: str) -> None:
        self.seen.bypassed.append(reason)

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        self.seen.invalidated += entries

    def error(self, what: str, error: BaseException) -> None:
        self.seen.errors.append(f"{what}: {error}")

    def _on_statement(self, *_: Any) -> None:
        self.seen.statements += 1
