"""Slots in this process: the steps of the scripts, under one lock.

For ``Cache()`` without a server. Its guarantees hold within the process: other processes
neither see nor invalidate these entries.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from cachedorm.observe import Commands
from cachedorm.store.memory.glob import glob
from cachedorm.store.memory.state import CountedIntents, MemoryInterests, SlotKey
from cachedorm.store.protocol.changes import Fixed, Offer, Touched
from cachedorm.store.protocol.entry import (
    HEADER_BYTES,
    SERVER_BYTES,
    STAMP_BYTES,
    TOKEN_BYTES,
    intent_slot,
    lease_slot,
    new_token,
    prefix,
)
from cachedorm.store.protocol.interest_registry import Registry, RegistryQuery
from cachedorm.store.protocol.keys import EntryKey, refresh_key
from cachedorm.store.protocol.slots import (
    Acquired,
    Filled,
    Granted,
    Held,
    Refused,
    Valid,
    Wanted,
)
from cachedorm.store.runtime import clock as clocks
from cachedorm.store.runtime.forks import follow_forks

SERVER = bytes(SERVER_BYTES)
MAX_ENTRIES = 100_000


class MemorySlots:
    """The Slots contract without a server. Drops the least recently used keys when full."""

    def __init__(
        self,
        max_entries: int = MAX_ENTRIES,
        clock: Callable[[], float] | None = None,
        commands: Commands | None = None,
    ) -> None:
        self._max_entries = max_entries
        self._commands = commands if commands is not None else Commands()
        self._clock = clock or clocks.monotonic
        # By the true clock unless another is given: when a test lets an hour pass for the entries,
        # the processes that have not registered again in that hour are not gone.
        self.registry = Registry(clock or time.monotonic)
        self._interests = MemoryInterests(clock or time.monotonic)
        self.begin_in_child()
        follow_forks(self)
        self._kept: OrderedDict[SlotKey, tuple[bytes, float]] = OrderedDict()
        # Beside the entries and not bounded with them: a writer's intent must not be evicted.
        self._intents = CountedIntents(self._clock)

    def begin_in_child(self) -> None:
        """A forked child keeps the entries, and sees only its own writers from now on."""
        self._lock = threading.Lock()

    def read(self, db: int, keys: Sequence[str]) -> tuple[list[bytes | None], bytes]:
        if self._commands.listeners:
            self._commands.notify(db, "mget")
        with self._lock:
            return [self._get(db, key) for key in keys], SERVER

    def identity_again(self, db: int) -> bytes:
        return SERVER

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
        self.registry.outlive(stamp_ttl_ms)
        self._tell("acquire", (db,))
        with self._lock:
            if self.registry.is_due:
                self._interests.register(self.registry)
            if not self.registry.is_ripe(key.stamps):
                return Refused("interest")
            # A fill that began now could read the database before that writer's COMMIT and be
            # published after its settle.
            if self._intended(db, (key, *key.stamps)):
                return Refused()
            slot = self._get(db, key) or b""
            if len(slot) == 1 + TOKEN_BYTES:
                if slot[:1] == b"I":
                    return Refused()
                # A lease whose stamp is gone can no longer publish anything servable.
                if slot[:1] == b"L" and slot[1:] != token and self._whole(db, key.stamps):
                    return Held(self._left_ms(db, key))
            if self._servable(db, key, slot) and slot != replace:
                return Valid(slot, SERVER)
            # Fixed before the database is read: a writer that deletes a stamp later makes the
            # value to be published unservable.
            stamps = self._fix(db, key.stamps, stamp_ttl_ms)
            self._set(db, key, lease_slot(token), lease_ms)
            return Granted(token, stamps, SERVER)

    def publish(self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int) -> bool:
        self.registry.outlive(ttl_ms)
        self._tell("publish", (db,))
        with self._lock:
            if self.registry.is_due:
                self._interests.register(self.registry)
            # A writer that touched the entry since ACQUIRE has removed the lease.
            if self._get(db, key) != lease_slot(token):
                return False
            self._put(db, key, slot, ttl_ms)
            return True

    def release(self, db: int, key: str, token: bytes) -> bool:
        self._tell("release", (db,))
        with self._lock:
            if self._get(db, key) != lease_slot(token):
                return False
            del self._kept[db, key]
            return True

    def acquire_many(
        self,
        db: int,
        wanted: Sequence[Wanted],
        lease_ms: int,
        stamp_ttl_ms: int,
        *,
        server: bytes,
    ) -> list[Acquired]:
        return [
            self.acquire(
                db,
                each.key,
                each.token,
                lease_ms,
                stamp_ttl_ms,
                server=server,
                replace=each.replace,
            )
            for each in wanted
        ]

    def publish_many(self, db: int, filled: Sequence[Filled]) -> list[bool]:
        return [self.publish(db, each.key, each.token, each.slot, each.ttl_ms) for each in filled]

    def release_many(self, db: int, leases: Sequence[tuple[str, bytes]]) -> None:
        for key, token in leases:
            self.release(db, key, token)

    def intend(
        self,
        touched: Touched,
        offers: Sequence[Offer],
        token: bytes,
        intent_ms: int,
        timeout: float | None = None,
        registry_query: RegistryQuery | None = None,
    ) -> dict[Offer, Fixed]:
        self._tell("intend", _dbs(touched, offers))
        with self._lock:
            self._look(registry_query)
            for place in _places(touched.stamps):
                self._intents.place(place, token, intent_ms)
                self._kept.pop(place, None)
            others: dict[SlotKey, int] = {}
            offered = [(offer.db, str(offer.key)) for offer in offers]
            for place in {*_places(touched.entries), *offered}:
                others[place] = self._intents.place(place, token, intent_ms)
                # Takes the value away, and a lease: that fill may have read the database already.
                self._set(*place, intent_slot(token), intent_ms)
            return {
                offer: self._offer(offer, others[place] == 0, intent_ms)
                for offer, place in zip(offers, offered, strict=True)
            }

    def renew(
        self, touched: Touched, token: bytes, intent_ms: int, timeout: float | None = None
    ) -> None:
        self.intend(touched, (), token, intent_ms, timeout)

    def settle(
        self,
        touched: Touched,
        token: bytes,
        values: Mapping[Offer, tuple[bytes, int]],
        timeout: float | None = None,
        registry_query: RegistryQuery | None = None,
    ) -> None:
        self._tell("settle", _dbs(touched, values))
        with self._lock:
            self._look(registry_query)
            for place in _places(touched.stamps):
                self._intents.withdraw(place, token)
                self._kept.pop(place, None)
            put = {
                (offer.db, str(offer.key)): (offer.key, *value) for offer, value in values.items()
            }
            for place in {*_places(touched.entries), *put}:
                others = self._intents.withdraw(place, token)
                slot = self._get(*place) or b""
                mine = slot == intent_slot(token)
                if place in put and mine and not others:
                    self._put(place[0], *put[place])
                elif not (others and not mine and _is_intent(slot)):
                    self._kept.pop(place, None)

    def refresh(
        self, db: int, key: EntryKey, token: bytes, lease_ms: int, *, seen: bytes
    ) -> Acquired:
        self._tell("refresh", (db,))
        with self._lock:
            if self._get(db, key) != seen:
                return Refused()
            standing = self._get(db, refresh_key(key))
            if standing not in (None, lease_slot(token)):
                return Held(self._left_ms(db, refresh_key(key)))
            self._set(db, refresh_key(key), lease_slot(token), lease_ms)
            return Granted(token, (), SERVER, seen)

    def replace(
        self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int | None, *, seen: bytes
    ) -> bool:
        lease = refresh_key(key)
        self._tell("replace", (db,))
        with self._lock:
            if (
                self._get(db, lease) != lease_slot(token)
                or self._get(db, key) != seen
                or self._intended(db, (key, *key.stamps))
                or not self._servable(db, key, slot)
            ):
                return False
            self._put(db, key, slot, self._left_ms(db, key) if ttl_ms is None else ttl_ms)
            del self._kept[db, lease]
            return True

    def put(
        self, db: int, key: EntryKey, head: bytes, payload: bytes, ttl_ms: int, stamp_ttl_ms: int
    ) -> bool:
        self._tell("put", (db,))
        with self._lock:
            if self._intended(db, (key, *key.stamps)) or _is_intent(self._get(db, key) or b""):
                return False
            stamps = self._fix(db, key.stamps, stamp_ttl_ms)
            self._put(db, key, b"".join((head, *stamps, payload)), ttl_ms)
            return True

    def delete(self, db: int, keys: Sequence[str]) -> None:
        if keys:
            self._tell("unlink", (db,))
        self._take_away(db, keys)

    def scan(self, db: int, cursor: int, pattern: str) -> tuple[int, list[str]]:
        self._tell("scan", (db,))
        matches = glob(pattern)
        with self._lock:
            keys = [key for each, key in self._kept if each == db and matches(key)]
        return 0, keys

    def clear(self, db: int, stamps: Sequence[str]) -> None:
        self._tell("clear", (db,))
        self._take_away(db, stamps)

    def close(self) -> None:
        with self._lock:
            self._kept.clear()
            self._intents.clear()

    def __repr__(self) -> str:
        return f"MemorySlots({len(self._kept)} of {self._max_entries} keys)"

    def _tell(self, name: str, dbs: Iterable[int]) -> None:
        """Report the command's name, once for each database that Redis would receive it in."""
        if self._commands.listeners:
            for db in dbs:
                self._commands.notify(db, name)

    def _take_away(self, db: int, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._kept.pop((db, key), None)

    # Everything below is called under the lock.

    def _look(self, registry_query: RegistryQuery | None) -> None:
        if registry_query is not None:
            registry_query.found = self._interests.look(registry_query.known)

    def _get(self, db: int, key: str) -> bytes | None:
        place = (db, key)
        kept = self._kept.get(place)
        if kept is None:
            return None
        if kept[1] <= self._clock():
            del self._kept[place]
            return None
        self._kept.move_to_end(place)
        return kept[0]

    def _set(self, db: int, key: str, slot: bytes, ttl_ms: int) -> None:
        place = (db, str(key))
        self._kept[place] = (slot, self._clock() + ttl_ms / 1000)
        self._kept.move_to_end(place)
        while len(self._kept) > self._max_entries:
            self._kept.popitem(last=False)

    def _put(self, db: int, key: EntryKey, slot: bytes, ttl_ms: int) -> None:
        self._set(db, key, slot, ttl_ms)
        for stamp in key.stamps:
            self._raise_ttl(db, stamp, ttl_ms)

    def _raise_ttl(self, db: int, key: str, ttl_ms: int) -> None:
        # Raise only: other entries live as long as this stamp.
        kept = self._kept.get((db, key))
        if kept is not None and kept[1] < self._clock() + ttl_ms / 1000:
            self._set(db, key, kept[0], ttl_ms)

    def _left_ms(self, db: int, key: str) -> int:
        return max(0, round((self._kept[db, key][1] - self._clock()) * 1000))

    def _fix(self, db: int, keys: Sequence[str], ttl_ms: int) -> tuple[bytes, ...]:
        stamps = []
        for key in keys:
            stamp = self._get(db, key)
            if stamp is None or len(stamp) != STAMP_BYTES:
                stamp = new_token()
                self._set(db, key, stamp, ttl_ms)
            self._raise_ttl(db, key, ttl_ms)
            stamps.append(stamp)
        return tuple(stamps)

    def _whole(self, db: int, keys: Sequence[str]) -> bool:
        return all(len(self._get(db, key) or b"") == STAMP_BYTES for key in keys)

    def _servable(self, db: int, key: EntryKey, slot: bytes) -> bool:
        start = prefix(key.form, SERVER)
        stamps = [self._get(db, stamp) or b"" for stamp in key.stamps]
        end = HEADER_BYTES + STAMP_BYTES * len(stamps)
        return (
            slot.startswith(start)
            and len(slot) >= end
            and slot[HEADER_BYTES - 1] == len(stamps)
            and slot[HEADER_BYTES:end] == b"".join(stamps)
        )

    def _intended(self, db: int, keys: Sequence[str]) -> bool:
        return any(self._intents.others((db, key)) for key in keys)

    def _offer(self, offer: Offer, alone: bool, stamp_ttl_ms: int) -> Fixed:
        # A writer that saw another's intent, here or on a stamp, never puts its own value: they
        # may share no row lock, and commit in either order.
        if not alone or self._intended(offer.db, offer.key.stamps):
            return Fixed(False, (), SERVER)
        return Fixed(True, self._fix(offer.db, offer.key.stamps, stamp_ttl_ms), SERVER)


def _places(keys: Mapping[int, set[str]]) -> list[SlotKey]:
    return [(db, str(key)) for db, those in keys.items() for key in those]


def _dbs(touched: Touched, offers: Iterable[Offer]) -> set[int]:
    return {*touched.dbs(), *(offer.db for offer in offers)}


def _is_intent(slot: bytes) -> bool:
    return len(slot) == 1 + TOKEN_BYTES and slot[:1] == b"I"
