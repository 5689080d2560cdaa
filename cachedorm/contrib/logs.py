"""Structured log records of a Cache: ``Cache(url, observers=[StructuredLogs()])``.

Each record has ``extra`` fields named ``cachedorm_*``, which any JSON formatter writes; the message
says the same for people.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cachedorm.observe import OBSERVER, LogObserver


@dataclass(slots=True)
class _Line:
    """When a line of one kind was last written, and how many were suppressed since."""

    at: float
    suppressed: int = 0


class StructuredLogs(LogObserver):
    """Log failures, the breaker, refused and slow fills, slow waits and bypasses, but not hits.

    Replaces the library's LogObserver. ``every``: seconds between lines of the same kind, region
    and reason; ``cachedorm_suppressed`` counts those suppressed before a line. ``slow``: seconds
    from which fills and waits are logged. ``keys=True`` logs keys too; they may identify people.
    Levels: warning for failures, info for slow and refused fills, debug for bypasses and
    invalidations.
    """

    def __init__(
        self,
        logger: logging.Logger | str = "cachedorm",
        *,
        every: float = 1.0,
        slow: float = 0.5,
        keys: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._every, self._slow, self._keys = every, slow, keys
        self._clock = clock
        self._lines: dict[tuple[object, ...], _Line] = {}
        self._lock = threading.Lock()

    def error(self, what: str, error: BaseException) -> None:
        # An observer's own error was logged with its traceback where it was caught.
        if what != OBSERVER:
            facts = {"operation": what, "error": type(error).__name__, "reason": str(error)}
            self._log(logging.WARNING, "error", (what,), f"{what}: {error}", facts)

    def breaker(self, is_open: bool) -> None:
        level = logging.WARNING if is_open else logging.INFO
        # Also written when a Cache is closed while its breaker is open.
        text = "Redis failed and is not asked for now" if is_open else "Redis is given up no longer"
        self._write(level, "breaker", text, {"open": is_open})

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        if published and seconds < self._slow:
            return
        text = f"{region}: filled in {seconds:.3f} s" + ("" if published else ", not stored")
        facts = {
            "region": region,
            "seconds": seconds,
            "size_bytes": size_bytes,
            "published": published,
        }
        self._log(logging.INFO, "fill", (region, published), text, self._with_key(facts, key))

    def wait(self, region: str, key: str, seconds: float) -> None:
        if seconds >= self._slow:
            facts = self._with_key({"region": region, "seconds": seconds}, key)
            text = f"{region}: waited {seconds:.3f} s for another fill"
            self._log(logging.INFO, "wait", (region,), text, facts)

    def bypass(self, region: str, reason: str) -> None:
        facts = {"region": region, "reason": reason}
        text = f"{region}: read the database: {reason}"
        self._log(logging.DEBUG, "bypass", (region, reason), text, facts)

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        facts = {"db": db, "entries": entries, "stamps": stamps}
        text = f"database {db}: {entries} entries and {stamps} stamps invalidated"
        self._log(logging.DEBUG, "invalidate", (db,), text, facts)

    def tell(self, moment: str, dbs: Sequence[int], seconds: float, done: bool) -> None:
        if seconds >= self._slow:
            facts = {
                "operation": moment,
                "dbs": list(dbs),
                "seconds": seconds,
                "done": done,
            }
            text = f"the Redis commands of a commit took {seconds:.3f} s ({moment})"
            self._log(logging.INFO, "tell", (moment,), text, facts)

    def _with_key(self, facts: Mapping[str, object], key: str) -> Mapping[str, object]:
        return {**facts, "key": str(key)} if self._keys and key else facts

    def _log(
        self,
        level: int,
        event: str,
        kind: tuple[object, ...],
        text: str,
        facts: Mapping[str, object],
    ) -> None:
        """Write the line unless one of its kind was written less than ``every`` ago."""
        if not self._logger.isEnabledFor(level):
            return
        suppressed = self._turn((event, *kind))
        if suppressed is not None:
            self._write(level, event, text, {**facts, "suppressed": suppressed})

    def _turn(self, kind: tuple[object, ...]) -> int | None:
        """How many lines of the kind were suppressed; None to suppress this one."""
        now = self._clock()
        with self._lock:
            line = self._lines.get(kind)
            if line is None or now - line.at >= self._every:
                self._lines[kind] = _Line(now)
                return 0 if line is None else line.suppressed
            line.suppressed += 1
            return None

    def _write(self, level: int, event: str, text: str, facts: Mapping[str, object]) -> None:
        named = {"event": event, **facts}
        extra = {f"cachedorm_{name}": value for name, value in named.items()}
        self._logger.log(level, "%s", text, extra=extra)
