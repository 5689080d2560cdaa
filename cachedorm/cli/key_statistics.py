"""Statistics of one Redis database, from a sample of its keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cachedorm.inspection.declarations import Declared
from cachedorm.inspection.key_text import is_of
from cachedorm.store.protocol.entry import (
    FORMAT_VERSION,
    HEADER_BYTES,
    STAMP_BYTES,
    Described,
    describe,
)
from cachedorm.store.protocol.interest_registry import REGISTRY_KEY
from cachedorm.store.protocol.keys import intents_key, refresh_key, stamp_key
from cachedorm.store.redis.survey import KeyInfo, Survey
from cachedorm.store.runtime.clock import now_ms

_STAMPS, _INTENTS, _REFRESHES = (
    make("").encode() for make in (stamp_key, intents_key, refresh_key)
)

VALUE, ABSENT, LEASE, INTENT = "value", "absent", "lease", "intent"
ENTRIES = (VALUE, ABSENT)
FOREIGN_KINDS = ("other format", "garbage", "not ours")
OTHER = "no template"


@dataclass(slots=True)
class KeySample:
    """Counts over a sample of one database.

    ``kinds``: keys by kind. ``templates``: values by key template. ``size_bytes``: of all values.
    ``old``: values past their soft expiry.
    """

    db: int
    total: int
    sampled: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    templates: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    biggest: tuple[int, bytes] = (0, b"")
    left_ms: int = 0
    old: int = 0
    strange: list[bytes] = field(default_factory=list)

    @property
    def entries(self) -> int:
        """The number of values and cached absences in the sample."""
        return sum(self.kinds[kind] for kind in ENTRIES)

    def estimated(self, kind: str) -> int:
        """The estimated number of keys of this kind in the whole database."""
        if not self.sampled or self.sampled >= self.total:
            return self.kinds[kind]
        return round(self.kinds[kind] * self.total / self.sampled)

    def count(self, seen: KeyInfo, declared: Sequence[Declared]) -> None:
        """Add one key."""
        kind, slot = slot_kind(seen)
        if kind == "gone":
            return
        self.sampled += 1
        self.kinds[kind] += 1
        if kind in FOREIGN_KINDS:
            self.strange.append(seen.key)
        if kind not in ENTRIES or slot is None:
            return
        self.size_bytes += seen.size
        self.biggest = max(self.biggest, (seen.size, seen.key))
        self.left_ms += max(0, seen.left_ms or 0)
        self.old += bool(slot.outlives and slot.soft_ms <= now_ms())
        self.templates[_template_of(seen.key, declared)] += 1


def sample_of(
    survey: Survey, db: int, declared: Iterable[Declared], limit: int | None
) -> KeySample:
    """Count at most ``limit`` keys of the database, or (None) all of them."""
    here = [each for each in declared if each.region.db == db]
    found = KeySample(db, survey.size(db))
    for batch in survey.keys(db, limit):
        for seen in survey.at(db, batch):
            found.count(seen, here)
    found.total = max(found.total, found.sampled)
    return found


def slot_kind(seen: KeyInfo) -> tuple[str, Described | None]:
    """The kind of a key, and the header if it holds a slot of the library.

    Only the first bytes of a value are read, so its stamps may be missing.
    """
    own = _own_kind(seen)
    if own is not None:
        return own, None
    if seen.type == "none":
        return "gone", None
    if seen.type != "string":
        return "not ours", None
    slot = describe(_without_stamps(seen) if seen.size > len(seen.begin) else seen.begin)
    return ("garbage" if slot.holds == "nothing" else slot.holds), slot


def _own_kind(seen: KeyInfo) -> str | None:
    """The kind of an internal key of the library; no template may begin like one."""
    if seen.type == "none" or not seen.key.startswith(b"~"):
        return None
    if seen.key.startswith(_STAMPS):
        return "stamp"
    if seen.key.startswith(_INTENTS):
        return "writers" if seen.size else "writers gone"
    if seen.key.startswith(_REFRESHES):
        return "refresh"
    return "registry" if seen.key == REGISTRY_KEY.encode() else "not ours"


def _without_stamps(seen: KeyInfo) -> bytes:
    """The header of a value as if it had no stamps: they were not read. Keep garbage as it is."""
    begin = seen.begin
    if begin[:2] != bytes((ord("V"), FORMAT_VERSION)):
        return begin
    whole = len(begin) == HEADER_BYTES and seen.size >= HEADER_BYTES + STAMP_BYTES * begin[-1]
    return begin[:-1] + b"\0" if whole else b""


def _template_of(key: bytes, declared: Sequence[Declared]) -> str:
    text = key.decode(errors="replace")
    return next(
        (each.template.text for each in declared if is_of(each.template, text, each.appended)),
        OTHER,
    )
