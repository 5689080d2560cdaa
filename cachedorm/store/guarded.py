"""Slots behind a breaker and a journal: what raises CacheUnavailable is cheap to have asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cachedorm.errors import CacheUnavailable
from cachedorm.store.commits.journal import Journal
from cachedorm.store.protocol.changes import Fixed, Offer, Touched
from cachedorm.store.protocol.interest_registry import Glance
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Acquired, Filled, Slots, Wanted
from cachedorm.store.runtime import concurrency
from cachedorm.store.runtime.circuit_breaker import Breaker

T = TypeVar("T")


class Guarded:
    """The Slots contract over other slots. Two more reasons for CacheUnavailable:

    the breaker is open; or, for what serves or stores values, commits are untold in that
    database. Then its values may be older than a commit of this process, so they are no answer
    until ``wake``'s worker has told Redis of those commits.
    """

    sleep = staticmethod(concurrency.sleep)
    signal = staticmethod(concurrency.signal)
    shielded = staticmethod(concurrency.shielded)
    domain = staticmethod(concurrency.domain)

    def __init__(
        self, slots: Slots, breaker: Breaker, journal: Journal, wake: Callable[[], None]
    ) -> None:
        self._slots = slots
        self._breaker = breaker
        self._journal = journal
        self._wake = wake
        self._read = slots.read
        self.registry = slots.registry

    def read(self, db: int, keys: Sequence[str]) -> tuple[Sequence[bytes | None], bytes]:
        breaker = self._breaker
        if db in self._journal.untold:
            self._distrust(db)
        # Written out, because this is every hit.
        ticket = breaker.enter() if breaker.is_open else 0
        try:
            found = self._read(db, keys)
        except CacheUnavailable:
            breaker.failed(ticket)
            raise
        except BaseException:
            breaker.gave_up(ticket)
            raise
        breaker.succeeded(ticket)
        return found

    def _distrust(self, db: int) -> None:
        # A forked child has the journal but not the worker.
        self._wake()
        raise CacheUnavailable(f"commits are not told yet in Redis database {db}")

    def _ask(self, act: Callable[[], T]) -> T:
        ticket = self._breaker.enter()
        try:
            answer = act()
        except CacheUnavailable:
            self._breaker.failed(ticket)
            raise
        except BaseException:
            self._breaker.gave_up(ticket)
            raise
        self._breaker.succeeded(ticket)
        return answer

    def _ask_trusted(self, db: int, act: Callable[[], T]) -> T:
        if db in self._journal.untold:
            self._distrust(db)
        return self._ask(act)

    def identity_again(self, db: int) -> bytes:
        return self._ask(lambda: self._slots.identity_again(db))

    def acquire(
        self,
        db: int,
        key: EntryKey,
        token: bytes,
        lease_ms: int,
        stamp_ttl_ms: int,
        *,
        server: bytes,
        replace: bytes | None = None,
    ) -> Acquired:
        return self._ask_trusted(
            db,
            lambda: self._slots.acquire(
                db, key, token, lease_ms, stamp_ttl_ms, server=server, replace=replace
            ),
        )

    def publish(self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int) -> bool:
        return self._ask_trusted(db, lambda: self._slots.publish(db, key, token, slot, ttl_ms))

    def release(self, db: int, key: str, token: bytes) -> bool:
        return self._ask(lambda: self._slots.release(db, key, token))

    def acquire_many(
        self,
        db: int,
        wanted: Sequence[Wanted],
        lease_ms: int,
        stamp_ttl_ms: int,
        *,
        server: bytes,
    ) -> list[Acquired]:
        return self._ask_trusted(
            db,
            lambda: self._slots.acquire_many(db, wanted, lease_ms, stamp_ttl_ms, server=server),
        )

    def publish_many(self, db: int, filled: Sequence[Filled]) -> list[bool]:
        return self._ask_trusted(db, lambda: self._slots.publish_many(db, filled))

    def release_many(self, db: int, leases: Sequence[tuple[str, bytes]]) -> None:
        self._ask(lambda: self._slots.release_many(db, leases))

    def intend(
        self,
        touched: Touched,
        offers: Sequence[Offer],
        token: bytes,
        intent_ms: int,
        timeout: float | None = None,
        glance: Glance | None = None,
    ) -> dict[Offer, Fixed]:
        return self._ask(
            lambda: self._slots.intend(touched, offers, token, intent_ms, timeout, glance)
        )

    def renew(
        self, touched: Touched, token: bytes, intent_ms: int, timeout: float | None = None
    ) -> None:
        self._ask(lambda: self._slots.renew(touched, token, intent_ms, timeout))

    def settle(
        self,
        touched: Touched,
        token: bytes,
        values: Mapping[Offer, tuple[bytes, int]],
        timeout: float | None = None,
        glance: Glance | None = None,
    ) -> None:
        self._ask(lambda: self._slots.settle(touched, token, values, timeout, glance))

    def refresh(
        self, db: int, key: EntryKey, token: bytes, lease_ms: int, *, seen: bytes
    ) -> Acquired:
        return self._ask_trusted(
            db, lambda: self._slots.refresh(db, key, token, lease_ms, seen=seen)
        )

    def replace(
        self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int | None, *, seen: bytes
    ) -> bool:
        return self._ask_trusted(
            db, lambda: self._slots.replace(db, key, token, slot, ttl_ms, seen=seen)
        )

    def put(
        self, db: int, key: EntryKey, head: bytes, payload: bytes, ttl_ms: int, stamp_ttl_ms: int
    ) -> bool:
        return self._ask_trusted(
            db, lambda: self._slots.put(db, key, head, payload, ttl_ms, stamp_ttl_ms)
        )

    def delete(self, db: int, keys: Sequence[str]) -> None:
        self._ask(lambda: self._slots.delete(db, keys))

    def scan(self, db: int, cursor: int, pattern: str) -> tuple[int, list[str]]:
        return self._ask(lambda: self._slots.scan(db, cursor, pattern))

    def clear(self, db: int, stamps: Sequence[str]) -> None:
        self._ask(lambda: self._slots.clear(db, stamps))

    def close(self) -> None:
        self._slots.close()

    def __repr__(self) -> str:
        return f"Guarded({self._slots!r}, {self._breaker!r}, {self._journal!r})"
