"""What a transaction changed, and what its writer offers to store after COMMIT."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cachedorm.store.protocol.keys import EntryKey


@dataclass(frozen=True, slots=True)
class Offer:
    """An entry whose new value its writer would like to put in place after COMMIT."""

    db: int
    key: EntryKey


@dataclass(frozen=True, slots=True)
class Fixed:
    """What ``intend`` found for an offer: ``clean`` iff no other writer was about to commit.

    A value put at settle carries these stamps and this server. Without ``clean`` there is none.
    """

    clean: bool
    stamps: tuple[bytes, ...]
    server: bytes


@dataclass(slots=True)
class Touched:
    """The entries and stamps (keys, per Redis database) that a transaction invalidates."""

    entries: dict[int, set[str]] = field(default_factory=dict)
    stamps: dict[int, set[str]] = field(default_factory=dict)

    def add_entries(self, db: int, keys: Iterable[str]) -> None:
        self.entries.setdefault(db, set()).update(keys)

    def add_stamps(self, db: int, keys: Iterable[str]) -> None:
        self.stamps.setdefault(db, set()).update(keys)

    def update(self, other: Touched) -> None:
        for db, keys in other.entries.items():
            self.add_entries(db, keys)
        for db, keys in other.stamps.items():
            self.add_stamps(db, keys)

    def dbs(self) -> list[int]:
        """The Redis databases concerned, lowest first."""
        dbs = set()
        for keys_by_db in (self.entries, self.stamps):
            for db, keys in keys_by_db.items():
                if keys:
                    dbs.add(db)
        return sorted(dbs)

    def __bool__(self) -> bool:
        return any(self.entries.values()) or any(self.stamps.values())


@dataclass(slots=True)
class Written:
    """The tables that a transaction wrote, cached here or not, and the interests it considered.

    ``known`` is what the process knew when it recorded the tables: a module imported since may
    have declared more.
    """

    tables: set[str] = field(default_factory=set)
    everything: bool = False
    known: frozenset[str] | None = None

    def add(self, tables: Iterable[str], known: frozenset[str]) -> None:
        self.tables.update(tables)
        self._reckon(known)

    def add_everything(self, known: frozenset[str]) -> None:
        """Note a write whose tables are unknown."""
        self.everything = True
        self._reckon(known)

    def update(self, other: Written) -> None:
        self.tables |= other.tables
        self.everything = self.everything or other.everything
        if other.known is not None:
            self._reckon(other.known)

    def _reckon(self, known: frozenset[str]) -> None:
        if self.known is not known:
            self.known = known if self.known is None else self.known & known

    def __bool__(self) -> bool:
        return self.everything or bool(self.tables)
