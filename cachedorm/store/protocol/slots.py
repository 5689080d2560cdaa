"""What any place that keeps entries must be able to do, and the words it answers in.

A key holds nothing, a lease (``L`` token), an intent (``I`` token) or a value (``V`` header,
payload). ``Slots`` is the contract; Redis and this process's memory both keep it.
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
    """The lease is mine: read the database now, then publish with these stamps and this server.

    ``over``: it is a refresh lease, and these slot bytes are what the new value may replace.
    """

    token: bytes
    stamps: tuple[bytes, ...]
    server: bytes
    over: bytes | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else fills this entry, for at most this long."""

    remaining_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A writer is about to commit (``intent``), or it is too early after registering
    (``interest``): read the database, publish nothing."""

    reason: str = "intent"


@dataclass(frozen=True, slots=True)
class Valid:
    """Somebody published meanwhile: these bytes are servable."""

    slot: bytes
    server: bytes


Acquired: TypeAlias = Granted | Held | Refused | Valid


@dataclass(frozen=True, slots=True)
class Wanted:
    """One of many entries to lease: as in ``acquire``, a fresh token and what it may replace."""

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
    """Where entries live. Every method may raise CacheUnavailable, and says nothing then.

    ``registry`` is what this process knows of the registry of interests. ``acquire`` registers
    what is declared there before it grants anything.
    """

    registry: Registry

    def read(self, db: int, keys: Sequence[str]) -> tuple[Sequence[bytes | None], bytes]:
        """What stands at the keys (None also for another type), and the server's identity."""

    def identity_again(self, db: int) -> bytes:
        """The identity of the server, asked anew (at most once a second)."""

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
        """The right to publish one entry, or the reason why not; fixes the entry's stamps.

        ``server``: the identity that the caller's own read saw. ``replace``: slot bytes that the
        caller saw and cannot use; the lease takes their place if they still stand there.
        """

    def publish(self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int) -> bool:
        """True iff the lease was still there and the slot took its place."""

    def release(self, db: int, key: str, token: bytes) -> bool:
        """True iff the lease was still there; it is gone now."""

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
        """Hides everything touched until ``settle``; answers for each offer.

        ``registry_query``: looks at the registry too, when all of it is hidden.
        """

    def renew(
        self, touched: Touched, token: bytes, intent_ms: int, timeout: float | None = None
    ) -> None:
        """Hides everything touched for another ``intent_ms``."""

    def settle(
        self,
        touched: Touched,
        token: bytes,
        values: Mapping[Offer, tuple[bytes, int]],
        timeout: float | None = None,
        registry_query: RegistryQuery | None = None,
    ) -> None:
        """Ends what ``intend`` began. ``values``: slot bytes and TTL (ms) of clean offers only.

        ``registry_query``: looks at the registry too, after that.
        """

    def refresh(
        self, db: int, key: EntryKey, token: bytes, lease_ms: int, *, seen: bytes
    ) -> Acquired:
        """The right to replace the value that was seen, which is served meanwhile.

        Refused: something else stands there now. The grant has no stamps: the caller saw them.
        """

    def replace(
        self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int | None, *, seen: bytes
    ) -> bool:
        """True iff the refresh lease stood, and the value that was seen, servable as ever.

        Ends the refresh lease. Without ``ttl_ms`` the key ends when it was to end.
        """

    def put(
        self, db: int, key: EntryKey, head: bytes, payload: bytes, ttl_ms: int, stamp_ttl_ms: int
    ) -> bool:
        """Stores head + the entry's stamps + payload; False while a writer is about to commit."""

    def delete(self, db: int, keys: Sequence[str]) -> None:
        """Takes whatever stands at the keys away, leases too."""

    def scan(self, db: int, cursor: int, pattern: str) -> tuple[int, list[str]]:
        """Some keys that match a glob pattern, and where to go on; 0 after the last.

        A key that stands there from the first call to the last is found at least once.
        """

    def clear(self, db: int, stamps: Sequence[str]) -> None:
        """Takes the stamps away, all in one moment, and so every entry that carries one."""

    def close(self) -> None:
        """Frees what the calling colour can free."""
