"""Invalidations that could not be sent. Until they are delivered, this process uses no cache."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from cachedorm.store.protocol.changes import Touched, Written
from cachedorm.store.protocol.entry import new_token
from cachedorm.store.runtime.forks import follow_forks

JOURNAL_KEYS_MAX = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class PendingInvalidations:
    """The part of one commit that concerns one Redis database; ``token`` names its intents."""

    db: int
    touched: Touched
    token: bytes

    def __len__(self) -> int:
        return len(self.touched.entries.get(self.db, ())) + len(
            self.touched.stamps.get(self.db, ())
        )


class Journal:
    """Pending invalidations, per Redis database, in the order of the commits.

    A database with more than ``keys_max`` keys here is cleared instead: by the stamps that
    ``know`` named, one of which every entry carries. Where none was named, the keys are kept.
    """

    __slots__ = ("__weakref__", "_keys_max", "_known", "_lock", "_size", "_written", "by_db")

    def __init__(self, keys_max: int = JOURNAL_KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._known: dict[int, frozenset[str]] = {}
        self._size: dict[int, int] = {}
        # Databases with nothing pending are not in it: readers ask by ``db in journal.by_db``.
        self.by_db: dict[int, list[PendingInvalidations]] = {}
        # The tables of all pending commits: the registry was not asked what is cached over them.
        self._written = Written()
        self._lock = threading.Lock()
        follow_forks(self)

    def know(self, db: int, stamps: Iterable[str]) -> None:
        """Add stamps, so that every entry of the database carries at least one known stamp."""
        with self._lock:
            self._known[db] = self._known.get(db, frozenset()) | frozenset(stamps)

    def add(self, touched: Touched, token: bytes) -> None:
        """Keep the invalidations of a commit until they are delivered."""
        with self._lock:
            for db in touched.dbs():
                self._add(PendingInvalidations(db, _part(touched, db), token))

    def add_written(self, written: Written) -> None:
        """Keep the tables that such a commit wrote."""
        with self._lock:
            self._written.update(written)

    def take_written(self) -> Written:
        """The tables that these commits wrote; they are no longer kept here."""
        with self._lock:
            written, self._written = self._written, Written()
        return written

    def _add(self, item: PendingInvalidations) -> None:
        db = item.db
        size = self._size.get(db, 0) + len(item)
        known = self._known.get(db)
        if size <= self._keys_max or not known:
            self.by_db.setdefault(db, []).append(item)
            self._size[db] = size
            return
        # A new item even if the database is to be cleared already: the clearing may be under way,
        # and would then be too early for this commit.
        self.by_db[db] = [PendingInvalidations(db, Touched(stamps={db: set(known)}), new_token())]
        self._size[db] = size

    def pending(self, db: int) -> bool:
        """Whether invalidations of this database are pending."""
        return db in self.by_db

    def items(self) -> list[PendingInvalidations]:
        """All pending items, those of one database in the order of the commits."""
        with self._lock:
            return [item for items in self.by_db.values() for item in items]

    def delivered(self, item: PendingInvalidations) -> None:
        """Forget an item that has been delivered, or that a clearing has replaced."""
        with self._lock:
            items = self.by_db.get(item.db, [])
            if item not in items:
                return
            items.remove(item)
            self._size[item.db] -= len(item)
            if not items:
                del self.by_db[item.db], self._size[item.db]

    def begin_in_child(self) -> None:
        # The items stay: the child must not use the cache of those databases either.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.items())

    def __repr__(self) -> str:
        keys = {db: sum(map(len, items)) for db, items in sorted(self.by_db.items())}
        return f"<Journal pending keys per database: {keys or 'none'}>"


def _part(touched: Touched, db: int) -> Touched:
    """A copy of the part that concerns one database."""
    part = Touched()
    part.add_entries(db, touched.entries.get(db, ()))
    part.add_stamps(db, touched.stamps.get(db, ()))
    return part
