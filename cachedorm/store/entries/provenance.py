"""What an answer is made of: the entries that its maker was served, and whether it read more.

Whoever wants to keep an answer (a response) makes it inside ``recording``. Every cached read in
there, in other threads and tasks of the same context too, notes the entry that it was served,
with the digest of the very bytes; every read that went past the cache refuses the answer. With
nobody recording all of this is one look at a context variable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

if TYPE_CHECKING:
    from cachedorm.store.protocol.keys import EntryKey

DIGEST_BYTES: Final = 16
# An answer of more entries is not worth looking at all of them for each hit.
PARTS_MAX: Final = 256
_DETAIL_MAX: Final = 200

_CURRENT: Final[ContextVar[Provenance | None]] = ContextVar("cachedorm_provenance", default=None)

current = _CURRENT.get
"""The provenance that is being recorded here, or None: what every read asks."""


@dataclass(frozen=True, slots=True)
class Part:
    """An entry as it was served: its place, its stamps' keys, its form, and the digest of its slot.

    The slot carries the stamps themselves, so the digest pins them too.
    """

    db: int
    key: str
    stamps: tuple[str, ...]
    fingerprint: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an answer must not be kept: one of few words, and what exactly, for people."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        detail = " ".join(self.detail.split())[:_DETAIL_MAX]
        return f"{self.reason}: {detail}" if detail else self.reason


class Provenance:
    """The parts of one answer, or the first reason to refuse it.

    ``slots``: where its keeper can look whether the parts still stand; entries from elsewhere
    refuse it. Threads and tasks of one request share it.
    """

    __slots__ = ("_parts", "_slots", "met", "refusal", "sealed")

    def __init__(self, slots: object) -> None:
        self._slots = slots
        self._parts: dict[tuple[int, str], Part] = {}
        self.sealed = False
        self.refusal: Refusal | None = None
        # The sessions that had nothing in them when they were first used in here.
        self.met: WeakSet[Any] = WeakSet()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The entries served so far, each once."""
        return tuple(self._parts.values())

    def served(self, slots: object, db: int, key: EntryKey, slot: bytes | None) -> None:
        """A read was answered with what this slot holds; None: with what stands in no slot."""
        if self.refusal is not None or self.sealed:
            return
        if slot is None:
            self.refuse("unpublished", f"{key} was loaded and could not be published")
        elif slots is not self._slots:
            self.refuse("another cache", f"{key} is an entry of another Cache")
        else:
            self._add(Part(db, str(key), key.stamps, key.form.fingerprint, digest_of(slot)))

    def _add(self, part: Part) -> None:
        known = self._parts.setdefault((part.db, part.key), part)
        if known != part:
            self.refuse("changed", f"{part.key} changed while the answer was made")
        elif len(self._parts) > PARTS_MAX:
            self.refuse("too many entries", f"it is made of more than {PARTS_MAX} entries")

    def refuse(self, reason: str, detail: str = "") -> None:
        """Something went into the answer that no entry stands for. The first reason is kept."""
        if self.refusal is None and not self.sealed:
            self.refusal = Refusal(reason, detail)

    def seal(self) -> Refusal | None:
        """The answer is made: what is read from now on is not in it. The reason to refuse it."""
        if not self._parts:
            self.refuse("no cached read", "nothing says when it changes")
        self.sealed = True
        return self.refusal

    def __repr__(self) -> str:
        return f"<Provenance parts={len(self._parts)} refusal={self.refusal}>"


@contextmanager
def recording(provenance: Provenance) -> Iterator[None]:
    """Within the block, and in what it starts, reads are noted here."""
    token = _CURRENT.set(provenance)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def absorbed() -> Iterator[None]:
    """Within the block nothing is noted: what is read goes into an entry, which is noted then."""
    if _CURRENT.get() is None:
        yield
        return
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def is_recording() -> bool:
    """Whether what is read here goes into an answer that somebody wants to keep."""
    provenance = _CURRENT.get()
    return provenance is not None and not provenance.sealed


def refuse(reason: str, detail: str = "") -> None:
    """Tell whoever records here, if anybody, that a read went past the cache."""
    provenance = _CURRENT.get()
    if provenance is not None:
        provenance.refuse(reason, detail)


def digest_of(slot: bytes) -> bytes:
    """A name for a slot's bytes. Two slots of one digest are one value."""
    return hashlib.blake2b(slot, digest_size=DIGEST_BYTES).digest()
