"""Commits of unknown outcome: their intents are kept alive until the database has decided."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cachedorm.store.protocol.changes import Touched, Written
from cachedorm.store.runtime.forks import follow_forks

ASK_EVERY = 1.0
KEPT_AT_MOST = 600.0


@dataclass(slots=True, eq=False)
class UndecidedCommit:
    """The intents of one such commit; times of its next steps in monotonic seconds."""

    touched: Touched
    token: bytes
    intent_ms: int
    decided: Callable[[], bool]
    until: float
    renew_at: float
    ask_at: float
    written: Written = field(default_factory=Written)


class UndecidedCommits:
    """All such commits. ``look_after`` does what is due and returns whether any is left.

    The COMMIT may fail here and still be applied by the server later. A reader that filled the
    old row in between would keep it for its TTL. So the keys stay hidden until the database
    says how it ended, at most ten minutes, and then until the intents expire.
    """

    __slots__ = ("__weakref__", "_clock", "_kept", "_lock")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin_in_child()
        follow_forks(self)

    def begin_in_child(self) -> None:
        # The parent keeps its own: it asks over its own database connection.
        self._kept: list[UndecidedCommit] = []
        self._lock = threading.Lock()

    def add(
        self,
        touched: Touched,
        token: bytes,
        intent_ms: int,
        decided: Callable[[], bool],
        written: Written,
    ) -> None:
        now, until = self._clock(), self._clock() + KEPT_AT_MOST
        kept = UndecidedCommit(touched, token, intent_ms, decided, until, now, now, written)
        with self._lock:
            self._kept.append(kept)

    def look_after(
        self,
        renew: Callable[[UndecidedCommit], None],
        settle: Callable[[UndecidedCommit], None],
        failed: Callable[[str, Exception], None],
    ) -> bool:
        """Ask, settle, renew. What ``decided`` or ``renew`` raises is tried again later."""
        for kept in list(self._kept):
            now = self._clock()
            if now >= kept.ask_at and self._is_decided(kept, failed):
                self._remove(kept)
                settle(kept)
            elif now >= kept.until:
                self._remove(kept)
                failed("keep", TimeoutError("a COMMIT is still undecided; its intents may expire"))
            elif now >= kept.renew_at:
                self._renew(kept, renew, failed)
        return bool(self._kept)

    def _is_decided(self, kept: UndecidedCommit, failed: Callable[[str, Exception], None]) -> bool:
        try:
            return kept.decided()
        except Exception as error:  # noqa: BLE001 - the database may be down
            failed("decided", error)
            return False
        finally:
            kept.ask_at = self._clock() + ASK_EVERY

    def _renew(
        self,
        kept: UndecidedCommit,
        renew: Callable[[UndecidedCommit], None],
        failed: Callable[[str, Exception], None],
    ) -> None:
        try:
            renew(kept)
        except Exception as error:  # noqa: BLE001 - the next pass tries again
            failed("renew", error)
        else:
            kept.renew_at = self._clock() + kept.intent_ms / 3000

    def _remove(self, kept: UndecidedCommit) -> None:
        with self._lock:
            self._kept.remove(kept)

    def __len__(self) -> int:
        return len(self._kept)
