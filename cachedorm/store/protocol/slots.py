"""The contract of a store of entries, and the types of its replies.

A key holds nothing, a lease (``L`` token), an intent (``I`` token) or a value (``V`` header,
payload). ``Slots`` is the contract; Redis and this process's memory both implement it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from cachedorm.store.protocol.changes import Fixed, Offer, Touched
from cachedorm.store.protocol.keys import EntryKey

if TYPE_CHECKING:
    from cachedorm.store.protocol.interest_registry import Registry, RegistryQuery


@dataclass(frozen=True, slots=True)
class Granted:
    """The caller has the lease: read the database, then publish with these stamps and this server.

    ``over``: the slot bytes that the new value may replace, if it is a refresh lease.
    """

    token: bytes
    stamps: tuple[bytes, ...]
    server: bytes
    over: bytes | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Another caller fills this entry, for at most this long."""

    remaining_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A writer is about to commit (``intent``), or it is too early after registering
    (``interest``): read the database, publish nothing."""

    reason: str = "intent"


@dataclass(frozen=True, slots=True)
class Valid:
    """Another caller published meanwhile: these bytes are servable."""

    slot: bytes
    server: bytes


Acquired: TypeAlias = Granted | Held | Refused | Valid


@dataclass(frozen=True, slots=True)
class Wanted:
    """One of many entries to lease, with a new token and what it may replace, as in ``acquire``."""

    key: EntryKey
    token: bytes
    replace: bytes | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """One of many entries to publish: the lease's token, the value's slot bytes, its TTL."""

    key: EntryKey
    token: bytes
    slot: bytes
    ttl_ms: int


class Slots(Protocol):
    """A store of entries. Every method may raise CacheUnavailable.

    ``registry`` is what this process knows of the registry of interests. ``acquire`` registers
    what is declared there before it grants anything.
    """

    registry: Registry

    def read(self, db: int, keys: Sequence[str]) -> tuple[Sequence[bytes | None], bytes]:
        """Return the slots at the keys (None also for another type) and the server's identity."""

    def identity_again(self, db: int) -> bytes:
        """Ask the server for its identity again (at most once a second)."""

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
        """Lease one entry, or return the reason why not; create missing stamps of the entry.

        ``server``: the identity that the caller's own read saw. ``replace``: slot bytes that the
        caller saw and cannot use; the lease replaces them if they are still there.
        """

    def publish(self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int) -> bool:
        """Replace the lease with the slot: return False if the lease was gone."""

    def release(self, db: int, key: str, token: bytes) -> bool:
        """Remove the lease: return False if it was gone."""

    def acquire_many(
        self,
        db: int,
        wanted: Sequence[Wanted],
        lease_ms: int,
        stamp_ttl_ms: int,
        *,
        server: bytes,
    ) -> list[Acquired]:
        """``acquire`` for each, in order, as one pipeline."""

    def publish_many(self, db: int, filled: Sequence[Filled]) -> list[bool]:
        """``publish`` for each, in order, as one pipeline."""

    def release_many(self, db: int, leases: Sequence[tuple[str, bytes]]) -> None:
        """``release`` for each key and token, as one pipeline."""

    def intend(
        self,
        touched: Touched,
        offers: Sequence[Offer],
        token: bytes,
        intent_ms: int,
        timeout: float | None = None,
        registry_query: RegistryQuery | None = None,
    ) -> dict[Offer, Fixed]:
        """Hide everything touched until ``settle``; return a reply to each offer.

        ``registry_query``: read the registry too, after everything is hidden.
        """

    def renew(
        self, touched: Touched, token: bytes, intent_ms: int, timeout: float | None = None
    ) -> None:
        """Hide everything touched for another ``intent_ms``."""

    def settle(
        self,
        touched: Touched,
        token: bytes,
        values: Mapping[Offer, tuple[bytes, int]],
        timeout: float | None = None,
        registry_query: RegistryQuery | None = None,
    ) -> None:
        """Undo ``intend``. ``values``: slot bytes and TTL (ms) of clean offers only.

        ``registry_query``: read the registry too, after that.
        """

    def refresh(
        self, db: int, key: EntryKey, token: bytes, lease_ms: int, *, seen: bytes
    ) -> Acquired:
        """Lease the right to replace the value that was seen, which is served meanwhile.

        Refused: the entry holds something else now. The grant has no stamps: the caller saw them.
        """

    def replace(
        self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int | None, *, seen: bytes
    ) -> bool:
        """Replace the value that was seen: return False unless it is still valid and leased.

        Removes the refresh lease. Without ``ttl_ms`` the key keeps its TTL.
        """

    def put(
        self, db: int, key: EntryKey, head: bytes, payload: bytes, ttl_ms: int, stamp_ttl_ms: int
    ) -> bool:
        """Store head + the entry's stamps + payload; False while a writer is about to commit."""

    def delete(self, db: int, keys: Sequence[str]) -> None:
        """Delete the keys, leases too."""

    def scan(self, db: int, cursor: int, pattern: str) -> tuple[int, list[str]]:
        """Return the next cursor, 0 after the last, and some keys that match a glob pattern.

        A key that exists from the first call to the last is found at least once.
        """

    def clear(self, db: int, stamps: Sequence[str]) -> None:
        """Delete the stamps atomically, which invalidates every entry that carries one."""

    def close(self) -> None:
        """Free what the calling thread or event loop can free."""
