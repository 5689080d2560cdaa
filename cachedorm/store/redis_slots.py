"""Slots in Redis: each act of the protocol is one script, so it happens in one moment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cachedorm.store import colour, scripts
from cachedorm.store.entry import new_token, prefix
from cachedorm.store.keys import EntryKey, intents_key
from cachedorm.store.packing import Word
from cachedorm.store.scripts import ScriptCall
from cachedorm.store.slots import (
    Acquired,
    Filled,
    Fixed,
    Granted,
    Held,
    Offer,
    Refused,
    Touched,
    Valid,
    Wanted,
)

if TYPE_CHECKING:
    from cachedorm.store.wire import Wire


# One script blocks the server while it runs, so a bulk write is told in several.
KEYS_PER_CALL = 1000
# Hundreds of scripts in one pipeline take longer than the one command that time limits are for.
MANY_TIMEOUT = 2.0


class RedisSlots:
    """The Slots contract over a wire. Raises CacheUnavailable whenever the wire does."""

    sleep = staticmethod(colour.sleep)
    signal = staticmethod(colour.signal)
    shielded = staticmethod(colour.shielded)
    domain = staticmethod(colour.domain)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        # What every hit calls, without a step in between.
        self.read = wire.mget
        self.identity_again = wire.identity_again

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
        for _ in range(2):
            call = _acquire(db, Wanted(key, token, replace), lease_ms, stamp_ttl_ms, server)
            reply, answered = self._wire.script(call)
            # The prefix named another server than the one that answered (a failover between two
            # commands): what it calls valid may be a replica's copy of what was true there.
            if reply[0] != b"valid" or answered == server:
                break
            server = answered
        else:
            return Refused()
        return _acquired(reply, token, answered)

    def publish(self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int) -> bool:
        keys = (key, *key.stamps)
        return bool(self._script(db, scripts.PUBLISH, keys, (token, slot, ttl_ms)))

    def release(self, db: int, key: str, token: bytes) -> bool:
        return bool(self._script(db, scripts.RELEASE, (key,), (token,)))

    def acquire_many(
        self,
        db: int,
        wanted: Sequence[Wanted],
        lease_ms: int,
        stamp_ttl_ms: int,
        *,
        server: bytes,
    ) -> list[Acquired]:
        calls = list(_acquires(db, wanted, lease_ms, stamp_ttl_ms, server))
        replies, answered = self._wire.pipeline(calls, MANY_TIMEOUT)
        # As in acquire; of so many, the few that a failover has hit are just not leased.
        return [
            Refused()
            if reply[0] == b"valid" and answered != server
            else _acquired(reply, each.token, answered)
            for each, reply in zip(wanted, replies, strict=True)
        ]

    def publish_many(self, db: int, filled: Sequence[Filled]) -> list[bool]:
        calls = [
            ScriptCall(
                db,
                scripts.PUBLISH,
                (each.key, *each.key.stamps),
                (each.token, each.slot, each.ttl_ms),
            )
            for each in filled
        ]
        replies, _ = self._wire.pipeline(calls, MANY_TIMEOUT)
        return [bool(reply) for reply in replies]

    def release_many(self, db: int, leases: Sequence[tuple[str, bytes]]) -> None:
        self._wire.pipeline(
            [ScriptCall(db, scripts.RELEASE, (key,), (token,)) for key, token in leases],
            MANY_TIMEOUT,
        )

    def intend(
        self,
        touched: Touched,
        offers: Sequence[Offer],
        token: bytes,
        intent_ms: int,
        timeout: float | None = None,
    ) -> dict[Offer, Fixed]:
        calls: list[ScriptCall] = []
        asked: list[tuple[int, list[Offer]]] = []
        for db in _dbs(touched, offers):
            mine = [offer for offer in offers if offer.db == db]
            told = list(_chunks(touched, db, [offer.key for offer in mine]))
            for stamps, entries in told[:-1]:
                calls.append(_intend(db, stamps, entries, (), token, intent_ms))
            # Offers come last: they are judged when all of this transaction's intents stand.
            stamps, entries = told[-1]
            asked.append((len(calls), mine))
            calls.append(_intend(db, stamps, entries, mine, token, intent_ms))
        replies, server = self._wire.pipeline(calls, timeout)
        return {
            offer: Fixed(bool(reply[0]), tuple(reply[1:]), server)
            for at, mine in asked
            for offer, reply in zip(mine, replies[at], strict=True)
        }

    def renew(
        self, touched: Touched, token: bytes, intent_ms: int, timeout: float | None = None
    ) -> None:
        # Placing an intent again only lengthens it: nothing servable can have come meanwhile.
        self.intend(touched, (), token, intent_ms, timeout)

    def settle(
        self,
        touched: Touched,
        token: bytes,
        values: Mapping[Offer, tuple[bytes, int]],
        timeout: float | None = None,
    ) -> None:
        calls = []
        for db in _dbs(touched, values):
            mine = {offer.key: value for offer, value in values.items() if offer.db == db}
            for stamps, entries in _chunks(touched, db, list(mine)):
                told = set(entries)
                put = [(key, *mine[key]) for key in mine if key in told]
                calls.append(_settle(db, stamps, entries, put, token))
        self._wire.pipeline(calls, timeout)

    def put(
        self, db: int, key: EntryKey, head: bytes, payload: bytes, ttl_ms: int, stamp_ttl_ms: int
    ) -> bool:
        args: list[Word] = [ttl_ms, stamp_ttl_ms, head, payload, *_new_stamps(key)]
        return bool(self._script(db, scripts.PUT, _guarded(key), args))

    def delete(self, db: int, keys: Sequence[str]) -> None:
        if keys:
            self._wire.call(db, "UNLINK", *keys)

    def scan(self, db: int, cursor: int, pattern: str) -> tuple[int, list[str]]:
        reply = self._wire.call(db, "SCAN", cursor, "MATCH", pattern, "COUNT", KEYS_PER_CALL)
        return int(reply[0]), [key for key in map(_text, reply[1]) if key is not None]

    def clear(self, db: int, stamps: Sequence[str]) -> None:
        self._script(db, scripts.CLEAR, stamps, ())

    def close(self) -> None:
        self._wire.close()

    def __repr__(self) -> str:
        return f"RedisSlots({self._wire!r})"

    def _script(
        self, db: int, script: scripts.Script, keys: Sequence[str | bytes], args: Sequence[Word]
    ) -> Any:
        reply, _ = self._wire.script(ScriptCall(db, script, keys, args))
        return reply


def _acquire(
    db: int, wanted: Wanted, lease_ms: int, stamp_ttl_ms: int, server: bytes
) -> ScriptCall:
    return next(_acquires(db, (wanted,), lease_ms, stamp_ttl_ms, server))


def _acquires(
    db: int, wanted: Iterable[Wanted], lease_ms: int, stamp_ttl_ms: int, server: bytes
) -> Iterator[ScriptCall]:
    # Entries of one table carry the same stamps, so what belongs to those is made once.
    shared: dict[tuple[str, ...], tuple[list[str | bytes], list[bytes]]] = {}
    starts: dict[bytes, bytes] = {}
    for each in wanted:
        key, replace = each.key, each.replace
        found = shared.get(key.stamps)
        if found is None:
            found = shared[key.stamps] = (_with_intents(key.stamps), _new_stamps(key))
        start = starts.get(key.form.fingerprint)
        if start is None:
            start = starts[key.form.fingerprint] = prefix(key.form, server)
        replaced = hashlib.sha1(replace, usedforsecurity=False).hexdigest() if replace else ""
        keys = (key, intents_key(key), *found[0])
        args: tuple[Word, ...] = (each.token, lease_ms, start, stamp_ttl_ms, replaced, *found[1])
        yield ScriptCall(db, scripts.ACQUIRE, keys, args)


def _text(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None  # no template renders such a key


def _acquired(reply: Sequence[Any], token: bytes, server: bytes) -> Acquired:
    match reply[0]:
        case b"granted":
            return Granted(token, tuple(reply[1:]), server)
        case b"held":
            return Held(reply[1])
        case b"valid":
            return Valid(reply[1], server)
        case _:
            return Refused()


def _guarded(key: EntryKey) -> list[str | bytes]:
    """An entry and its stamps, each followed by its intents."""
    return _with_intents((key, *key.stamps))


def _with_intents(keys: Sequence[str]) -> list[str | bytes]:
    return [text for key in keys for text in (key, intents_key(key))]


def _new_stamps(key: EntryKey) -> list[bytes]:
    return [new_token() for _ in key.stamps]


def _dbs(touched: Touched, offers: Sequence[Offer] | Mapping[Offer, object]) -> list[int]:
    return sorted({*touched.dbs(), *(offer.db for offer in offers)})


def _chunks(
    touched: Touched, db: int, offered: Sequence[EntryKey]
) -> Iterator[tuple[list[str], list[str]]]:
    """The touched stamps and entries of one database, a script call's worth at a time.

    What is offered comes last, and all of it in the last call.
    """
    stamps = sorted(touched.stamps.get(db, ()))
    plain = [*stamps, *sorted(touched.entries.get(db, set()).difference(offered))]
    starts = range(0, len(plain), KEYS_PER_CALL) or range(1)
    for at in starts:
        part = plain[at : at + KEYS_PER_CALL]
        among = max(0, len(stamps) - at)
        last = dict.fromkeys(offered) if at == starts[-1] else ()
        yield part[:among], [*part[among:], *last]


def _intend(
    db: int,
    stamps: Sequence[str],
    entries: Sequence[str],
    offers: Sequence[Offer],
    token: bytes,
    intent_ms: int,
) -> ScriptCall:
    keys = _with_intents((*stamps, *entries))
    args: list[Word] = [token, intent_ms, len(stamps), len(entries)]
    for offer in offers:
        key = offer.key
        keys += (key, *_with_intents(key.stamps))
        # Until settle the stamps need to live no longer than the intent; settle raises them.
        args += (intent_ms, len(key.stamps), *_new_stamps(key))
    return ScriptCall(db, scripts.INTEND, keys, args)


def _settle(
    db: int,
    stamps: Sequence[str],
    entries: Sequence[str],
    values: Sequence[tuple[EntryKey, bytes, int]],
    token: bytes,
) -> ScriptCall:
    keys = _with_intents((*stamps, *entries))
    args: list[Word] = [token, len(stamps), len(entries)]
    for key, slot, ttl_ms in values:
        keys += (key, *key.stamps)
        args += (slot, ttl_ms, len(key.stamps))
    return ScriptCall(db, scripts.SETTLE, keys, args)
