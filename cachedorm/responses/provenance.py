"""What a response was made of: the entries its cached reads were served, or why it cannot be kept.

A ``Provenance`` records every cached read made inside ``recording``, in other threads and tasks of
the same context too: the entry and the digest of its bytes. A read that goes past the cache refuses
the response. The read path reports through ``cachedorm.store.entries.provenance``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from cachedorm.store.protocol.keys import EntryKey

DIGEST_BYTES: Final = 16
# Every hit compares all entries, so a response made of more is not worth storing.
SOURCES_MAX: Final = 256
_DETAIL_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """An entry as it was served: database, key, stamp keys, form, and the digest of its slot.

    The slot holds the stamps' values, so the digest pins those too.
    """

    db: int
    key: str
    stamps: tuple[str, ...]
    fingerprint: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a response must not be stored: a short reason, and a detail for people."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        detail = " ".join(self.detail.split())[:_DETAIL_MAX]
        return f"{self.reason}: {detail}" if detail else self.reason


class Provenance:
    """The source entries of one response, or the first reason to refuse it.

    ``slots``: where the response will be stored and its sources are compared; an entry from
    elsewhere refuses it. The threads and tasks of one request share one Provenance.
    """

    __slots__ = ("_sessions", "_slots", "_sources", "refusal", "sealed")

    def __init__(self, slots: object) -> None:
        self._slots = slots
        self._sources: dict[tuple[int, str], SourceEntry] = {}
        self.sealed = False
        self.refusal: Refusal | None = None
        # Sessions that were empty when this request first used them.
        self._sessions: WeakSet[Session] = WeakSet()

    @property
    def sources(self) -> tuple[SourceEntry, ...]:
        """The entries served so far, each once."""
        return tuple(self._sources.values())

    def note_session(self, session: Session) -> None:
        """Refuse the response if this session held objects before the request used it."""
        if session in self._sessions:
            return
        # The session serves those objects as they are; no cached read of this request loaded them.
        if len(session.identity_map):
            self.refuse("older session", "a session held objects from before the request")
        self._sessions.add(session)

    def served(self, slots: object, db: int, key: EntryKey, slot: bytes | None) -> None:
        """Add the entry that answered a read. ``slot``: its bytes, None if it is not in Redis."""
        if self.refusal is not None or self.sealed:
            return
        if slot is None:
            self.refuse("unpublished", f"{key} was loaded and could not be published")
        elif slots is not self._slots:
            self.refuse("another cache", f"{key} is an entry of another Cache")
        else:
            digest = digest_of(slot)
            self._add(SourceEntry(db, str(key), key.stamps, key.form.fingerprint, digest))

    def _add(self, source: SourceEntry) -> None:
        known = self._sources.setdefault((source.db, source.key), source)
        if known != source:
            self.refuse("changed", f"{source.key} changed while the response was made")
        elif len(self._sources) > SOURCES_MAX:
            self.refuse("too many entries", f"it is made of more than {SOURCES_MAX} entries")

    def refuse(self, reason: str, detail: str = "") -> None:
        """Refuse the response: it contains data that no entry stands for. Keep the first reason."""
        if self.refusal is None and not self.sealed:
            self.refusal = Refusal(reason, detail)

    def seal(self) -> Refusal | None:
        """Stop recording: the response is complete. Return the reason to refuse it, if any."""
        if not self._sources:
            self.refuse("no cached read", "nothing says when it changes")
        self.sealed = True
        return self.refusal

    def __repr__(self) -> str:
        return f"<Provenance sources={len(self._sources)} refusal={self.refusal}>"


def digest_of(slot: bytes) -> bytes:
    """The digest of a slot's bytes. Slots with equal digests hold the same value."""
    return hashlib.blake2b(slot, digest_size=DIGEST_BYTES).digest()
