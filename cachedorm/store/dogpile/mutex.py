"""dogpile's mutex over a lease: its holder may publish, and waiting for it is bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dogpile.cache.api import CacheMutex

from cachedorm.errors import NotCacheable
from cachedorm.store.entries.entries import Entries
from cachedorm.store.entries.fill import Served, Unleased
from cachedorm.store.entries.single_flight import Flight, ReadSnapshot
from cachedorm.store.protocol.entry import ABSENT
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted
from cachedorm.store.runtime.concurrency import Signal, domain, signal
from cachedorm.store.runtime.forks import follow_forks

Owner: TypeAlias = Hashable
MutexKey: TypeAlias = tuple[Hashable, str]

# What this caller's last read saw. dogpile asks for the mutex when it rejects that value.
_SEEN: Final[ContextVar[dict[str, ReadSnapshot] | None]] = ContextVar(
    "cachedorm_seen", default=None
)


@dataclass(slots=True, eq=False)
class Holding:
    """One caller's turn at a key. Without a lease it loads for itself and publishes nothing.

    ``inner``: within the caller's own outer turn, so it must not wait for that turn's lease.
    """

    place: MutexKey
    done: Signal
    lease: Granted | None = None
    inner: bool = False


class Mutexes:
    """The holders of one backend's keys. Not kept on the mutex, which dogpile shares."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self.begin_in_child()
        follow_forks(self)

    def begin_in_child(self) -> None:
        """Begin without holders: in a forked child, the parent's holders never release."""
        self._lock = threading.Lock()
        self._held: dict[MutexKey, Holding] = {}
        # Innermost last: a creator may ask for its own key again.
        self._turns: dict[tuple[str, Owner], list[Holding]] = {}

    def remember(self, keys: Sequence[EntryKey], asked: Sequence[ReadSnapshot]) -> None:
        """Remember what the caller has read: it may replace only the value that it saw."""
        _SEEN.set(dict(zip(map(str, keys), asked, strict=True)))

    def acquire(self, key: EntryKey, wait: bool) -> bool:
        """Take the caller's turn, and a lease if one is free.

        With ``wait`` the result is always True: one caller of this process at a time loads under a
        lease; behind a writer's intent, or without Redis, all load at once.
        """
        holding = self._take_turn(key, wait)
        if holding is None:
            return False
        try:
            got = self._obtain(key, wait=wait and not holding.inner)
        except BaseException:
            self._end_turn(holding)
            raise
        if not wait and (got is Unleased.HELD or isinstance(got, Served)):
            # Another caller renews the value, or has done so: the caller keeps what it has.
            self._end_turn(holding)
            return False
        with self._lock:
            self._turns.setdefault((key, _owner()), []).append(holding)
        holding.lease = got if isinstance(got, Granted) else None
        if got in (Unleased.INTENT, Unleased.INTEREST, Unleased.UNAVAILABLE):
            # Nothing will be published, so the others need not wait.
            self._end_turn(holding)
        return True

    def publish(self, key: EntryKey, value: Any) -> bool:
        """Publish under the caller's turn: return False if it has none."""
        with self._lock:
            turns = self._turns.get((key, _owner()))
        if not turns:
            return False
        holding = turns[-1]
        lease, holding.lease = holding.lease, None
        if lease is not None:
            self._publish(key, lease, value)
        return True

    def _publish(self, key: EntryKey, lease: Granted, value: Any) -> None:
        filling = self.entries.filler
        absent = value is ABSENT
        try:
            payload = b"" if absent else key.form.encode(value)
        except NotCacheable as error:
            self.entries.observer.error("encode", error)
            filling.release(key, lease)
        else:
            filling.publish(key, lease, payload, absent, filling.ttl_ms(key, absent=absent))

    def release(self, key: EntryKey) -> None:
        """End the caller's turn; a lease that published nothing is given up."""
        with self._lock:
            holding = self._pop(key, _owner())
        if holding is None:
            return
        if holding.lease is not None:
            self.entries.filler.release(key, holding.lease)
        self._end_turn(holding)

    def _pop(self, key: EntryKey, owner: Owner) -> Holding | None:
        mine: tuple[str, Owner] = (key, owner)
        if mine not in self._turns:
            # A thread may give its mutex to another one (dogpile's async_creation_runner).
            mine = next((each for each in self._turns if each[0] == key), mine)
        turns = self._turns.get(mine)
        if not turns:
            return None
        holding = turns.pop()
        if not turns:
            del self._turns[mine]
        return holding

    def locked(self, key: EntryKey) -> bool:
        """Return whether a caller of any process is filling the key now."""
        if (domain(), str(key)) in self._held:
            return True
        slot = self.entries.look((key,))[0].asked.slot
        return slot is not None and slot[:1] == b"L"

    def _take_turn(self, key: EntryKey, wait: bool) -> Holding | None:
        place = (domain(), str(key))
        mine = Holding(place, signal())
        while True:
            with self._lock:
                ahead = self._held.get(place)
                if ahead is None:
                    self._held[place] = mine
                    return mine
                if ahead in self._turns.get((key, _owner()), ()):
                    mine.inner = True
                    return mine
            if not wait:
                return None
            # A holder that outlives its lease loses its turn to a waiting caller.
            if not ahead.done.wait(self.entries.settings.lease_ms / 1000):
                self._end_turn(ahead)

    def _end_turn(self, holding: Holding) -> None:
        with self._lock:
            if self._held.get(holding.place) is holding:
                del self._held[holding.place]
        holding.done.set()

    def _obtain(self, key: EntryKey, *, wait: bool) -> Granted | Served | Unleased:
        seen = (_SEEN.get() or {}).get(key) or self.entries.look((key,))[0].asked
        return self.entries.filler.obtain(key, seen, Flight((None, key)), wait=wait)


class LeaseMutex(CacheMutex):
    """The mutex of one key."""

    def __init__(self, mutexes: Mutexes, key: EntryKey) -> None:
        self._mutexes = mutexes
        self._key = key

    def acquire(self, wait: bool = True) -> bool:
        return self._mutexes.acquire(self._key, wait)

    def release(self) -> None:
        self._mutexes.release(self._key)

    def locked(self) -> bool:
        return self._mutexes.locked(self._key)

    def __repr__(self) -> str:
        return f"LeaseMutex({str(self._key)!r})"


def _owner() -> Owner:
    """Identify the caller: a task's greenlets run one after another, threads do not."""
    task = asyncio.current_task() if domain() is not None else None
    return threading.get_ident(), id(task)
