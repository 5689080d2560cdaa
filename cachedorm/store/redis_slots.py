"""Slots in Redis: each act of the protocol is one script, so it happens in one moment."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cachedorm.store import colour, scripts
from cachedorm.store.entry import new_token, prefix
from cachedorm.store.keys import EntryKey, intents_key, refresh_key
from cachedorm.store.packing import Word
from cachedorm.store.registry import (
    GRACE_MS,
    REGISTRY_DB,
    REGISTRY_KEY,
    RIPE_MS,
    Glance,
    Look,
    Registered,
    Registry,
)
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


# Where the version of the registry stands among the arguments.
_ASKED_AT = {"intend": 4, "settle": 3}

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
        self.registry = Registry()
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
        self.registry.outlive(stamp_ttl_ms)
        wanted = Wanted(key, token, replace)
        for _ in range(4):
            if self.registry.is_due:
                self._register()
            registered = self.registry.version
            if self.registry.own and not registered:
                continue
            if not self.registry.is_ripe(key.stamps):
                return Refused("interest")
            (call,) = _acquires(db, (wanted,), lease_ms, stamp_ttl_ms, server, registered)
            reply, answered = self._wire.script(call)
            if reply[0] == b"unregistered":
                self.registry.lost(registered)
                continue
            # The prefix named another server than the one that answered (a failover between two
            # commands): what it calls valid may be a replica's copy of what was true there.
            if reply[0] != b"valid" or answered == server:
                break
            server = answered
        else:
            return Refused()
        return _acquired(reply, token, answered)

    def _register(self) -> None:
        interests, asked_at = sorted(self.registry.own), time.monotonic()
        args: list[Word] = [new_token(), self.registry.keep_ms, RIPE_MS, GRACE_MS, *interests]
        version, *waits = self._script(REGISTRY_DB, scripts.REGISTER, (REGISTRY_KEY,), args)
        self.registry.registered(asked_at, interests, Registered(version, waits))

    def publish(self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int) -> bool:
        self.registry.outlive(ttl_ms)
        if self.registry.is_due:
            self._register()
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
        self.registry.outlive(stamp_ttl_ms)
        if self.registry.is_due:
            self._register()
        registered = self.registry.version
        if self.registry.own and not registered:
            return [Refused("interest") for _ in wanted]
        ripe = [each for each in wanted if self.registry.is_ripe(each.key.stamps)]
        calls = list(_acquires(db, ripe, lease_ms, stamp_ttl_ms, server, registered))
        replies, answered = self._wire.pipeline(calls, MANY_TIMEOUT)
        if any(reply[0] == b"unregistered" for reply in replies):
            self.registry.lost(registered)
        # As in acquire; of so many, the few that a failover has hit are just not leased.
        got = {
            each.token: Refused()
            if reply[0] == b"valid" and answered != server
            else _acquired(reply, each.token, answered)
            for each, reply in zip(ripe, replies, strict=True)
        }
        return [got.get(each.token, Refused("interest")) for each in wanted]

    def publish_many(self, db: int, filled: Sequence[Filled]) -> list[bool]:
        for each in filled:
            self.registry.outlive(each.ttl_ms)
        if self.registry.is_due:
            self._register()
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
        glance: Glance | None = None,
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
        replies, server = self._look_after(calls, timeout, glance)
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
        glance: Glance | None = None,
    ) -> None:
        calls = []
        for db in _dbs(touched, values):
            mine = {offer.key: value for offer, value in values.items() if offer.db == db}
            for stamps, entries in _chunks(touched, db, list(mine)):
                told = set(entries)
                put = [(key, *mine[key]) for key in mine if key in told]
                calls.append(_settle(db, stamps, entries, put, token))
        self._look_after(calls, timeout, glance)

    def _look_after(
        self, calls: list[ScriptCall], timeout: float | None, glance: Glance | None
    ) -> tuple[list[Any], bytes]:
        """Runs the calls in one send; the last one asks whether the registry is as it was."""
        if glance is None:
            return self._wire.pipeline(calls, timeout)
        if not calls or not glance.known:
            replies, server = self._wire.pipeline([*calls, _look_call(glance)], timeout)
            glance.found = _look(replies.pop(), glance.known)
            return replies, server
        replies, server = self._wire.pipeline(
            [*calls[:-1], _asking(calls[-1], glance.known)], timeout
        )
        if replies[-1].pop():
            glance.found = Look(glance.known, None, None)
        else:
            answers, _ = self._wire.pipeline([_look_call(glance)], timeout)
            glance.found = _look(answers[0], glance.known)
        return replies, server

    def refresh(
        self, db: int, key: EntryKey, token: bytes, lease_ms: int, *, seen: bytes
    ) -> Acquired:
        keys, args = (refresh_key(key), key), (token, lease_ms, _sha1(seen))
        reply, server = self._wire.script(ScriptCall(db, scripts.REFRESH, keys, args))
        match reply[0]:
            case b"granted":
                return Granted(token, (), server, seen)
            case b"held":
                return Held(reply[1])
            case _:
                return Refused()

    def replace(
        self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int | None, *, seen: bytes
    ) -> bool:
        keys = (refresh_key(key), *_guarded(key))
        args = (token, _sha1(seen), slot, ttl_ms or "")
        return bool(self._script(db, scripts.REPLACE, keys, args))

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


def _acquires(
    db: int,
    wanted: Iterable[Wanted],
    lease_ms: int,
    stamp_ttl_ms: int,
    server: bytes,
    registered: bytes,
) -> Iterator[ScriptCall]:
    # Entries of one table carry the same stamps, so what belongs to those is made once.
    shared: dict[tuple[str, ...], tuple[list[str | bytes], list[bytes]]] = {}
    starts: dict[bytes, bytes] = {}
    where: tuple[Word, ...] = (registered, db, REGISTRY_DB, REGISTRY_KEY)
    for each in wanted:
        key, replace = each.key, each.replace
        found = shared.get(key.stamps)
        if found is None:
            found = shared[key.stamps] = (_with_intents(key.stamps), _new_stamps(key))
        start = starts.get(key.form.fingerprint)
        if start is None:
            start = starts[key.form.fingerprint] = prefix(key.form, server)
        replaced = _sha1(replace) if replace else ""
        keys = (key, intents_key(key), *found[0])
        mine: tuple[Word, ...] = (each.token, lease_ms, start, stamp_ttl_ms, replaced)
        args = (*mine, *where, *found[1])
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


def _look_call(glance: Glance) -> ScriptCall:
    args = (glance.known, new_token(), GRACE_MS)
    return ScriptCall(REGISTRY_DB, scripts.LOOK, (REGISTRY_KEY,), args)


def _look(reply: Sequence[Any], known: bytes) -> Look:
    version, grown, *interests = reply
    texts = frozenset(text.decode(errors="replace") for text in interests)
    return Look(version, bool(grown), None if version == known else texts)


def _sha1(slot: bytes) -> str:
    # As Lua's redis.sha1hex: a short name for what stands there, which secures nothing.
    return hashlib.sha1(slot, usedforsecurity=False).hexdigest()


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
    args: list[Word] = [token, intent_ms, len(stamps), len(entries), *_unasked(db)]
    for offer in offers:
        key = offer.key
        keys += (key, *_with_intents(key.stamps))
        # Until settle the stamps need to live no longer than the intent; settle raises them.
        args += (intent_ms, len(key.stamps), *_new_stamps(key))
    return ScriptCall(db, scripts.INTEND, keys, args)


def _unasked(db: int) -> tuple[Word, ...]:
    """The part of INTEND's and SETTLE's arguments that asks for the registry's version."""
    return ("", db, REGISTRY_DB, REGISTRY_KEY)


def _asking(call: ScriptCall, known: bytes) -> ScriptCall:
    args = list(call.args)
    args[_ASKED_AT[call.script.name]] = known
    return replace(call, args=args)


def _settle(
    db: int,
    stamps: Sequence[str],
    entries: Sequence[str],
    values: Sequence[tuple[EntryKey, bytes, int]],
    token: bytes,
) -> ScriptCall:
    keys = _with_intents((*stamps, *entries))
    args: list[Word] = [token, len(stamps), len(entries), *_unasked(db)]
    for key, slot, ttl_ms in values:
        keys += (key, *key.stamps)
        args += (slot, ttl_ms, len(key.stamps))
    return ScriptCall(db, scripts.SETTLE, keys, args)
