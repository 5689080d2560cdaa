"""Fill many entries of one region: one read, one pipeline of leases, one load, one of values.

A caller does not wait for others' leases. Entries that another caller is filling, or a writer is
about to change, are loaded with the rest and not stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cachedorm.errors import CacheUnavailable
from cachedorm.store.entries.entries import NO_VALUE, Entries, EntryLookup
from cachedorm.store.entries.fill import Loaded, Unleased
from cachedorm.store.entries.provenance import absorbed, current
from cachedorm.store.protocol.entry import new_token
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import (
    Acquired,
    Filled,
    Granted,
    Held,
    Refused,
    Slots,
    Valid,
    Wanted,
)
from cachedorm.store.runtime.concurrency import shielded

# Keys and stamps of one MGET, scripts of one pipeline.
BATCH = 500

# Loads the entries at these positions, and returns the result of each.
LoadMany = Callable[[Sequence[int]], Mapping[int, Loaded]]


def fill_many(
    entries: Entries, keys: Sequence[EntryKey], looks: Sequence[EntryLookup], load: LoadMany
) -> list[Any]:
    """Return the value of every key, or ABSENT: what the lookups found, and ``load`` for the rest.

    Missing entries are leased before the load and published after it. A position that
    ``load`` leaves out stays NO_VALUE, and nothing is stored for it.
    """
    values = [look.value for look in looks]
    try:
        leases = lease_missing(entries, keys, looks, values)
    except CacheUnavailable as error:
        entries.observer.error("acquire", error)
        leases = {}
    missing = [at for at, value in enumerate(values) if value is NO_VALUE]
    if missing:
        loaded = publish_loaded(entries, keys, leases, lambda: load(missing))
        for at, each in loaded.items():
            values[at] = each.value
    return values


def lease_missing(
    entries: Entries, keys: Sequence[EntryKey], looks: Sequence[EntryLookup], values: list[Any]
) -> dict[int, Granted]:
    """Lease the entries that the lookups missed: return the leases by position.

    Values that another caller published meanwhile are put into ``values``. May raise
    CacheUnavailable.
    """
    missing = [at for at, look in enumerate(looks) if look.value is NO_VALUE]
    if not missing or not looks[missing[0]].asked.available:
        return {}
    settings = entries.settings
    wanted = [Wanted(keys[at], new_token(), _unusable(looks[at])) for at in missing]
    longest = max(settings.ttl_ms, settings.negative_ttl_ms, *(key.ttl_ms or 0 for key in keys))
    got = entries.slots.acquire_many(
        settings.db,
        wanted,
        settings.lease_ms,
        longest + settings.stale_if_error_ms + settings.lease_ms,
        server=looks[missing[0]].asked.server or entries.slots.identity_again(settings.db),
    )
    leases = {}
    for at, answer in zip(missing, got, strict=True):
        if isinstance(answer, Granted):
            leases[at] = answer
        else:
            values[at] = _without_lease(entries, keys[at], answer)
    return leases


def publish_loaded(
    entries: Entries,
    keys: Sequence[EntryKey],
    leases: Mapping[int, Granted],
    load: Callable[[], Mapping[int, Loaded]],
    stored: list[int] | None = None,
) -> Mapping[int, Loaded]:
    """Load, publish what has a lease and may be kept, and return what was loaded.

    With ``stored``, which gets the published positions, CacheUnavailable is raised if Redis is
    unavailable. Without it, that error is only reported.
    """
    began = time.monotonic()
    try:
        with absorbed(), entries.observer.loading(entries.settings.name, ""):
            loaded = load()
        seconds = time.monotonic() - began
        published = _publish(entries, keys, leases, loaded, strict=stored is not None)
    except (Exception, asyncio.CancelledError):
        # No caller shall wait for leases whose holder has failed.
        shielded(lambda: _release(entries, keys, leases, leases))
        raise
    if stored is not None:
        stored.extend(published)
    for at, each in loaded.items():
        slot = published.get(at)
        size = len(slot or b"")
        entries.observer.fill(entries.settings.name, keys[at], seconds, size, at in published)
        _note(entries, keys[at], slot)
        if each.publish and at in leases:
            entries.filler.count_outlived(at in published, seconds)
    return loaded


def _publish(
    entries: Entries,
    keys: Sequence[EntryKey],
    leases: Mapping[int, Granted],
    loaded: Mapping[int, Loaded],
    *,
    strict: bool,
) -> dict[int, bytes]:
    """Publish the values: return the slots that replaced their leases, by position."""
    filled: dict[int, Filled] = {}
    for at, lease in leases.items():
        each = entries.filler.filled(keys[at], lease, loaded[at]) if at in loaded else None
        if each is not None:
            filled[at] = each
    _release(entries, keys, leases, [at for at in leases if at not in filled])
    try:
        done = entries.slots.publish_many(entries.settings.db, list(filled.values()))
    except CacheUnavailable as error:
        if strict:
            raise
        entries.observer.error("publish", error)
        return {}
    return {
        at: each.slot
        for (at, each), published in zip(filled.items(), done, strict=True)
        if published
    }


def _note(entries: Entries, key: EntryKey, slot: bytes | None) -> None:
    provenance = current()
    if provenance is not None:
        provenance.served(entries.slots, entries.settings.db, key, slot)


def _release(
    entries: Entries,
    keys: Sequence[EntryKey],
    leases: Mapping[int, Granted],
    which: Sequence[int] | Mapping[int, Granted],
) -> None:
    if not which:
        return
    try:
        entries.slots.release_many(
            entries.settings.db, [(keys[at], leases[at].token) for at in which]
        )
    except CacheUnavailable as error:
        entries.observer.error("release", error)


def _unusable(look: EntryLookup) -> bytes | None:
    # A value that our read saw and could not use would be "valid" to ACQUIRE for ever.
    slot = look.asked.slot
    return slot if slot and slot[:1] == b"V" else None


def _without_lease(entries: Entries, key: EntryKey, answer: Acquired) -> Any:
    """Return the value published meanwhile, or NO_VALUE: load it, and publish nothing."""
    match answer:
        case Valid(slot, server):
            return _decoded(entries, key, slot, server)
        case Held():
            entries.observer.bypass(entries.settings.name, Unleased.HELD.value)
        case Refused(reason):
            entries.observer.bypass(entries.settings.name, Unleased(reason).value)
    return NO_VALUE


def _decoded(entries: Entries, key: EntryKey, slot: bytes, server: bytes) -> Any:
    served = entries.filler.valid(key, slot, server)
    if served is None:
        return NO_VALUE
    _note(entries, key, slot)
    return served.value


def unlink_matching(slots: Slots, db: int, pattern: str) -> int:
    """Delete every entry whose key matches, and the leases of fills under way: return how many.

    Stamps, intents and the library's other keys stay. Scans every key of the database, in batches
    between which other commands run. May raise CacheUnavailable.
    """
    gone, cursor = 0, 0
    while True:
        cursor, keys = slots.scan(db, cursor, pattern)
        entries = [key for key in keys if not key.startswith("~")]
        slots.delete(db, entries)
        gone += len(entries)
        if not cursor:
            return gone
