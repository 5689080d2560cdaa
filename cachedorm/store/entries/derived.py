"""Values made of other entries, such as responses: kept while every entry they were made of stands.

The rule: a derived value is served only if every cached read that it was made of would, at this
moment and in this process, be a hit, with the very bytes that it was made of. So it is never older
than those reads themselves would be, whatever made them miss:

* A commit, or a change by hand: the entry's slot is an intent, gone, or another one. A row's own
  entry has no stamp that is its alone; writers find it by its key. That is why the parts' slots are
  compared and not only their stamps. The slot carries its stamps, so its digest pins them as they
  were fixed before the rows were read; they are compared with those in Redis as for any hit.
* Refilled, or written through: other bytes (the header has the time and the stamps). The same
  bytes are the same value, whoever put them there.
* A negative entry is an entry: the insert takes it away. A fill that came late, or was refused,
  stands in no slot, and so is no part: its maker's value is not kept at all.
* Evicted, or its time is up: the part is missing, so this is a miss too.
* Failover, restart: the slots name another server than the one that answers.
* Other code, another database: the part's form has another fingerprint than this process reads.
  A process trusts the forms that it has read itself while making values, so the first value of
  a form costs a new process one making.

Made from parts that never stood together (a commit in between), or stored while a writer's intent
lives, a value is just never served: one of its parts does not stand. Nothing need be checked when
it is stored. The value itself is an entry with the stamp of plain ones, leased before it is made,
so that clearing its region ends it, also while it is on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from cachedorm.errors import CacheUnavailable, NotCacheable
from cachedorm.observe import listens
from cachedorm.store.codec import UndecodableError, decode_plain, encode_plain
from cachedorm.store.entries.entries import NO_VALUE, Entries
from cachedorm.store.entries.fill import Served
from cachedorm.store.entries.plain_values import PLAIN_STAMPS
from cachedorm.store.entries.provenance import Part, digest_of
from cachedorm.store.entries.single_flight import Asked, Flight
from cachedorm.store.entries.timed import GET
from cachedorm.store.protocol.entry import (
    FINGERPRINT_BYTES,
    Form,
    Miss,
    created_ms_of,
    judge,
    prefix,
)
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted
from cachedorm.store.runtime.concurrency import shielded

# Keys whose parts live in the values' own database, remembered to read both in one go.
BESIDE_MAX: Final = 10_000
FORMS_MAX: Final = 10_000

Held = Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Made:
    """A plain value, and the entries that it was made of."""

    content: Any
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """What was found: a value and when it was published (ms), or why there is none."""

    made: Made | None
    created_ms: int
    asked: Asked
    reason: str = ""


def made_form(fingerprint: bytes) -> Form:
    """The form of derived values whose content has this fingerprint."""
    return Form(fingerprint, _encode, _decode)


def derived_key(text: str, form: Form, ttl_ms: int) -> EntryKey:
    """The key of a derived value."""
    return EntryKey(text, PLAIN_STAMPS, form, ttl_ms)


class Derived:
    """The derived values of one region. Blocks as any read; never raises CacheUnavailable."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self._timed = listens(entries.observer, "read")
        self._db = entries.settings.db
        self._name = entries.settings.name
        self._beside: dict[str, tuple[str, ...]] = {}
        self._forms: set[bytes] = set()

    def learn(self, parts: Iterable[Part]) -> None:
        """This process has read these entries itself, so it knows their forms."""
        if len(self._forms) >= FORMS_MAX:
            self._forms.clear()  # which costs each of them one making
        self._forms.update(part.fingerprint for part in parts)

    def get(self, key: EntryKey) -> Sight:
        """The value, if it may be served. One MGET for each Redis database concerned."""
        if not self._timed:
            return self._get(key)
        began = perf_counter()
        sight = self._get(key)
        seconds, hit = perf_counter() - began, sight.made is not None
        missed = not hit and sight.asked.available
        self.entries.observer.read(self._name, GET, seconds, int(hit), int(missed))
        return sight

    def _get(self, key: EntryKey) -> Sight:
        try:
            sight = self._seen(key)
            if sight.reason == Miss.FOREIGN.value and self.entries.moved(sight.asked.server):
                sight = self._seen(key)
        except CacheUnavailable as error:
            return self._unavailable(error)
        observer = self.entries.observer
        if sight.made is None:
            observer.miss(self._name, key, sight.reason)
        else:
            observer.hit(self._name, key)
        return sight

    def _unavailable(self, error: CacheUnavailable) -> Sight:
        self.entries.observer.error("read", error)
        self.entries.observer.bypass(self._name, "unavailable")
        return Sight(None, 0, Asked(0, available=False), "unavailable")

    def _seen(self, key: EntryKey) -> Sight:
        beside = self._beside.get(key, ())
        names = (key, *key.stamps, *beside)
        values, server = self.entries.slots.read(self._db, names)
        stamps = values[1 : 1 + len(key.stamps)]
        look = self.entries.judged(key, Asked(0, values[0], server, stamps))
        if look.value is NO_VALUE:
            return Sight(None, 0, look.asked, look.reason)
        held = dict(zip(names, values, strict=True)) if beside else {}
        return self._checked(key, look.value, look.asked, held)

    def _checked(self, key: EntryKey, made: Any, asked: Asked, held: Held) -> Sight:
        if not isinstance(made, Made):
            return Sight(None, 0, asked, Miss.GARBAGE.value)
        why_not = self._why_not(key, made.parts, asked.server, held)
        if why_not is not None:
            return Sight(None, 0, asked, why_not)
        return Sight(made, created_ms_of(asked.slot or b"") or 0, asked)

    def _why_not(self, key: str, parts: tuple[Part, ...], server: bytes, held: Held) -> str | None:
        """Why a value of these parts must not be served now; a value of none must not either."""
        if not parts or any(part.fingerprint not in self._forms for part in parts):
            return "form"
        by_db: dict[int, list[Part]] = {}
        for part in parts:
            by_db.setdefault(part.db, []).append(part)
        for db, mine in by_db.items():
            names = tuple(dict.fromkeys(name for part in mine for name in (part.key, *part.stamps)))
            if db != self._db or any(name not in held for name in names):
                values, seen_by = self.entries.slots.read(db, names)
                standing: Held = dict(zip(names, values, strict=True))
                if db == self._db:
                    self._remember(key, names)
            else:
                standing, seen_by = held, server
            if not all(stands(part, standing, seen_by) for part in mine):
                return "part"
        return None

    def _remember(self, key: str, names: tuple[str, ...]) -> None:
        if len(self._beside) >= BESIDE_MAX:
            self._beside.clear()  # which costs one command a key
        self._beside[str(key)] = names

    def lease(self, key: EntryKey, asked: Asked) -> Granted | Sight | None:
        """The right to publish what is made from now on, or what somebody has published meanwhile.

        Waits for another process's lease as a fill does. None: make it, and publish nothing.
        """
        got = self.entries.filling.obtain(key, asked, Flight((None, key)))
        if isinstance(got, Granted):
            return got
        if not isinstance(got, Served):
            return None
        try:
            seen = Asked(0, got.slot, asked.server)
            sight = self._checked(key, got.value, seen, {})
        except CacheUnavailable as error:
            self.entries.observer.error("read", error)
            return None
        return sight if sight.made is not None else None

    def publish(
        self, key: EntryKey, lease: Granted, made: Made, ttl_ms: int, seconds: float
    ) -> bool:
        """True if the value stands in place of its lease now. ``seconds``: what making it took."""
        self.learn(made.parts)
        filling, observer = self.entries.filling, self.entries.observer
        try:
            payload = key.form.encode(made)
        except NotCacheable as error:
            observer.error("encode", error)
            self.release(key, lease)
            return False
        published = filling.publish(key, lease, payload, False, ttl_ms, own=True) is not None
        filling.count_outlived(published, seconds)
        observer.fill(self._name, key, seconds, len(payload), published)
        return published

    def release(self, key: EntryKey, lease: Granted) -> None:
        """Gives the lease up, though the task is cancelled meanwhile."""
        shielded(lambda: self.entries.filling.release(key, lease))

    def __repr__(self) -> str:
        return f"Derived({self._name!r}, db={self._db}, {len(self._forms)} forms)"


def stands(part: Part, standing: Held, server: bytes) -> bool:
    """Whether a read of this entry would be a hit now, with the bytes that it was then."""
    slot = standing.get(part.key)
    if slot is None or digest_of(slot) != part.digest:
        return False
    stamps = [standing.get(stamp) for stamp in part.stamps]
    return not isinstance(judge(slot, prefix(part.fingerprint, server), stamps), Miss)


def _encode(made: Made) -> bytes:
    parts = [
        [part.db, part.key, list(part.stamps), part.fingerprint, part.digest] for part in made.parts
    ]
    return encode_plain([parts, made.content])


def _decode(payload: bytes) -> Made:
    try:
        parts, content = decode_plain(payload)
        return Made(content, tuple(map(_part, parts)))
    except (TypeError, ValueError) as error:
        raise UndecodableError(f"not a derived value: {error}") from error


def _part(found: Any) -> Part:
    db, key, stamps, fingerprint, digest = found
    texts = isinstance(key, str) and all(isinstance(stamp, str) for stamp in stamps)
    if not (texts and isinstance(db, int) and len(fingerprint) == FINGERPRINT_BYTES):
        raise ValueError("not a part")
    return Part(db, key, tuple(stamps), fingerprint, digest)
