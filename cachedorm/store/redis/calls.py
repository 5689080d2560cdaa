"""Script calls for the protocol's operations, and the parsing of their replies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cachedorm.store.protocol.changes import Offer, Touched
from cachedorm.store.protocol.entry import new_token, prefix
from cachedorm.store.protocol.interest_registry import (
    GRACE_MS,
    REGISTRY_DB,
    REGISTRY_KEY,
    RegistryQuery,
    RegistryReply,
)
from cachedorm.store.protocol.keys import EntryKey, intents_key
from cachedorm.store.protocol.slots import Acquired, Granted, Held, Refused, Valid, Wanted
from cachedorm.store.redis import scripts
from cachedorm.store.redis.connection import Word
from cachedorm.store.redis.scripts import ScriptCall

# Where the version of the registry stands among the arguments.
_ASKED_AT = {"intend": 4, "settle": 3}
# One script blocks the server while it runs, so a bulk write is split into several.
KEYS_PER_CALL = 1000


def acquire_calls(
    db: int,
    wanted: Iterable[Wanted],
    lease_ms: int,
    stamp_ttl_ms: int,
    server: bytes,
    registered: bytes,
) -> list[ScriptCall]:
    """ACQUIRE of each entry."""
    calls = []
    # Entries of one table carry the same stamps, so what belongs to those is made once.
    shared: dict[tuple[str, ...], tuple[list[str | bytes], list[bytes]]] = {}
    starts: dict[bytes, bytes] = {}
    where: tuple[Word, ...] = (registered, db, REGISTRY_DB, REGISTRY_KEY)
    for each in wanted:
        key, replace = each.key, each.replace
        found = shared.get(key.stamps)
        if found is None:
            found = shared[key.stamps] = (_with_intents(key.stamps), new_stamps(key))
        start = starts.get(key.form.fingerprint)
        if start is None:
            start = starts[key.form.fingerprint] = prefix(key.form, server)
        replaced = name_of(replace) if replace else ""
        keys = (key, intents_key(key), *found[0])
        mine: tuple[Word, ...] = (each.token, lease_ms, start, stamp_ttl_ms, replaced)
        args = (*mine, *where, *found[1])
        calls.append(ScriptCall(db, scripts.ACQUIRE, keys, args))
    return calls


def acquired(reply: Sequence[Any], token: bytes, server: bytes) -> Acquired:
    """Parse a reply to ACQUIRE."""
    match reply[0]:
        case b"granted":
            return Granted(token, tuple(reply[1:]), server)
        case b"held":
            return Held(reply[1])
        case b"valid":
            return Valid(reply[1], server)
        case _:
            return Refused()


def look_call(registry_query: RegistryQuery) -> ScriptCall:
    """Return the LOOK call, which reads the registry."""
    args = (registry_query.known, new_token(), GRACE_MS)
    return ScriptCall(REGISTRY_DB, scripts.LOOK, (REGISTRY_KEY,), args)


def look_seen(reply: Sequence[Any], known: bytes) -> RegistryReply:
    """Parse a reply to LOOK."""
    version, grown, *interests = reply
    texts = frozenset(text.decode(errors="replace") for text in interests)
    return RegistryReply(version, bool(grown), None if version == known else texts)


def name_of(slot: bytes) -> str:
    # As Lua's redis.sha1hex: a short name for the slot, not a security measure.
    return hashlib.sha1(slot, usedforsecurity=False).hexdigest()


def guarded(key: EntryKey) -> list[str | bytes]:
    """Return the keys of an entry and its stamps, each followed by its intents key."""
    return _with_intents((key, *key.stamps))


def _with_intents(keys: Sequence[str]) -> list[str | bytes]:
    texts: list[str | bytes] = []
    for key in keys:
        texts += (key, intents_key(key))
    return texts


def new_stamps(key: EntryKey) -> list[bytes]:
    """Return a new value for each stamp of the entry."""
    return [new_token() for _ in key.stamps]


def dbs_of(touched: Touched, offers: Sequence[Offer] | Mapping[Offer, object]) -> list[int]:
    """The Redis databases concerned, lowest first."""
    dbs = touched.dbs()
    return sorted({*dbs, *(offer.db for offer in offers)}) if offers else dbs


def keys_in_parts(
    touched: Touched, db: int, offered: Sequence[EntryKey]
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the touched stamps and entries of one database, in parts of one script call each.

    All offered entries come last, in the last call.
    """
    stamps = sorted(touched.stamps.get(db, ()))
    plain = [*stamps, *sorted(touched.entries.get(db, set()).difference(offered))]
    starts = range(0, len(plain), KEYS_PER_CALL) or range(1)
    for at in starts:
        part = plain[at : at + KEYS_PER_CALL]
        among = max(0, len(stamps) - at)
        last = dict.fromkeys(offered) if at == starts[-1] else ()
        yield part[:among], [*part[among:], *last]


def intend_call(
    db: int,
    stamps: Sequence[str],
    entries: Sequence[str],
    offers: Sequence[Offer],
    token: bytes,
    intent_ms: int,
) -> ScriptCall:
    """Return the INTEND call for these stamps and entries of one database."""
    keys = _with_intents((*stamps, *entries))
    args: list[Word] = [token, intent_ms, len(stamps), len(entries), *_unasked(db)]
    for offer in offers:
        key = offer.key
        keys += (key, *_with_intents(key.stamps))
        # Until settle the stamps need to live no longer than the intent; settle raises them.
        args += (intent_ms, len(key.stamps), *new_stamps(key))
    return ScriptCall(db, scripts.INTEND, keys, args)


def _unasked(db: int) -> tuple[Word, ...]:
    """Return the registry arguments of INTEND and SETTLE for a call that does not ask."""
    return ("", db, REGISTRY_DB, REGISTRY_KEY)


def asking(call: ScriptCall, known: bytes) -> ScriptCall:
    """Return the call, extended to ask whether the registry still has this version."""
    args = list(call.args)
    args[_ASKED_AT[call.script.name]] = known
    return replace(call, args=args)


def settle_call(
    db: int,
    stamps: Sequence[str],
    entries: Sequence[str],
    values: Sequence[tuple[EntryKey, bytes, int]],
    token: bytes,
) -> ScriptCall:
    """Return the SETTLE call for these stamps and entries of one database."""
    keys = _with_intents((*stamps, *entries))
    args: list[Word] = [token, len(stamps), len(entries), *_unasked(db)]
    for key, slot, ttl_ms in values:
        keys += (key, *key.stamps)
        args += (slot, ttl_ms, len(key.stamps))
    return ScriptCall(db, scripts.SETTLE, keys, args)
