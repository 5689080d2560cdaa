"""Slots in Redis: each operation of the protocol is one script, and so atomic."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cachedorm.errors import CacheUnavailable
from cachedorm.store.protocol.changes import Fixed, Offer, Touched
from cachedorm.store.protocol.entry import new_token
from cachedorm.store.protocol.interest_registry import (
    GRACE_MS,
    REGISTRY_DB,
    REGISTRY_KEY,
    RIPE_MS,
    Registered,
    Registry,
    RegistryQuery,
    RegistryReply,
)
from cachedorm.store.protocol.keys import EntryKey, refresh_key
from cachedorm.store.protocol.slots import Acquired, Filled, Granted, Held, Refused, Wanted
from cachedorm.store.redis import scripts
from cachedorm.store.redis.calls import (
    KEYS_PER_CALL,
    acquire_calls,
    acquired,
    asking,
    dbs_of,
    guarded,
    intend_call,
    keys_in_parts,
    look_call,
    look_seen,
    name_of,
    new_stamps,
    settle_call,
)
from cachedorm.store.redis.connection import Word
from cachedorm.store.redis.scripts import ScriptCall

if TYPE_CHECKING:
    from cachedorm.store.redis.client import RedisClient


# Hundreds of scripts in one pipeline take longer than the one command that time limits are for.
MANY_TIMEOUT = 2.0


class RedisSlots:
    """The Slots contract over a Redis client. Raises CacheUnavailable whenever the client does.

    Methods that serve or store values also raise it in a database that is not trusted: see
    ``trust_unless``.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._mget = client.mget
        self._untold: Container[int] = ()
        self._wake: Callable[[], None] = _nothing
        self.registry = Registry()
        self.identity_again = client.identity_again

    def trust_unless(self, untold: Container[int], wake: Callable[[], None]) -> None:
        """Neither serve nor store values in the databases that ``untold`` has; ``wake`` instead.

        Values there may be older than a commit of this process, so they are no answer until Redis
        has been notified of that commit.
        """
        self._untold, self._wake = untold, wake

    def _require_trust(self, db: int) -> None:
        if db in self._untold:
            # A forked child has the untold commits but not the thread that retries them.
            self._wake()
            raise CacheUnavailable(f"invalidations are still queued for Redis database {db}")

    def read(self, db: int, keys: Sequence[str]) -> tuple[Sequence[bytes | None], bytes]:
        # Checked here, without a call, because this is every hit.
        if db in self._untold:
            self._require_trust(db)
        return self._mget(db, keys)

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
        self._require_trust(db)
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
            (call,) = acquire_calls(db, (wanted,), lease_ms, stamp_ttl_ms, server, registered)
            reply, answered = self._client.script(call)
            if reply[0] == b"unregistered":
                self.registry.lost(registered)
                continue
            # The prefix names another server than the one that answered (a failover between two
            # commands): a valid entry may then be a replica's copy of an older state.
            if reply[0] != b"valid" or answered == server:
                break
            server = answered
        else:
            return Refused()
        return acquired(reply, token, answered)

    def _register(self) -> None:
        interests, asked_at = sorted(self.registry.own), time.monotonic()
        args: list[Word] = [new_token(), self.registry.keep_ms, RIPE_MS, GRACE_MS, *interests]
        version, *waits = self._script(REGISTRY_DB, scripts.REGISTER, (REGISTRY_KEY,), args)
        self.registry.registered(asked_at, interests, Registered(version, waits))

    def publish(self, db: int, key: EntryKey, token: bytes, slot: bytes, ttl_ms: int) -> bool:
        self._require_trust(db)
        self.registry.outlive(ttl_ms)
        if self.registry.is_due:
            self._register()
        keys, args = (key, *key.stamps), (token, slot, ttl_ms)
        return bool(self._client.script(ScriptCall(db, scripts.PUBLISH, keys, args))[0])

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
        self._require_trust(db)
        self.registry.outlive(stamp_ttl_ms)
        for _ in range(2):
            if self.registry.is_due:
                self._register()
            registered = self.registry.version
            if self.registry.own and not registered:
                continue
            ripe = [each for each in wanted if self.registry.is_ripe(each.key.stamps)]
            calls = acquire_calls(db, ripe, lease_ms, stamp_ttl_ms, server, registered)
            replies, answered = self._client.pipeline(calls, MANY_TIMEOUT)
            if all(reply[0] != b"unregistered" for reply in replies):
                break
            # Those that were granted before the registry was lost are so again: by their tokens.
            self.registry.lost(registered)
        else:
            return [Refused("interest") for _ in wanted]
        # As in acquire, but without a retry: entries that a failover has hit are not leased.
        got = {
            each.token: Refused()
            if reply[0] == b"valid" and answered != server
            else acquired(reply, each.token, answered)
            for each, reply in zip(ripe, replies, strict=True)
        }
        return [got.get(each.token, Refused("interest")) for each in wanted]

    def publish_many(self, db: int, filled: Sequence[Filled]) -> list[bool]:
        self._require_trust(db)
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
        replies, _ = self._client.pipeline(calls, MANY_TIMEOUT)
        return [bool(reply) for reply in replies]

    def release_many(self, db: int, leases: Sequence[tuple[str, bytes]]) -> None:
        self._client.pipeline(
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
        registry_query: RegistryQuery | None = None,
    ) -> dict[Offer, Fixed]:
        calls: list[ScriptCall] = []
        asked: list[tuple[int, list[Offer]]] = []
        for db in dbs_of(touched, offers):
            mine = [offer for offer in offers if offer.db == db]
            told = list(keys_in_parts(touched, db, [offer.key for offer in mine]))
            for stamps, entries in told[:-1]:
                calls.append(intend_call(db, stamps, entries, (), token, intent_ms))
            # Offers come last: they are judged when all of this transaction's intents stand.
            stamps, entries = told[-1]
            asked.append((len(calls), mine))
            calls.append(intend_call(db, stamps, entries, mine, token, intent_ms))
        replies, server = self._look_after(calls, timeout, registry_query)
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
        registry_query: RegistryQuery | None = None,
    ) -> None:
        calls = []
        for db in dbs_of(touched, values):
            mine = {offer.key: value for offer, value in values.items() if offer.db == db}
            for stamps, entries in keys_in_parts(touched, db, list(mine)):
                told = set(entries)
                put = [(key, *mine[key]) for key in mine if key in told]
                calls.append(settle_call(db, stamps, entries, put, token))
        self._look_after(calls, timeout, registry_query)

    def _look_after(
        self, calls: list[ScriptCall], timeout: float | None, registry_query: RegistryQuery | None
    ) -> tuple[list[Any], bytes]:
        """Send all calls at once; the last one asks whether the registry has changed."""
        if registry_query is None:
            return self._client.pipeline(calls, timeout)
        if not calls or not registry_query.known:
            replies, server = self._client.pipeline([*calls, look_call(registry_query)], timeout)
            registry_query.found = look_seen(replies.pop(), registry_query.known)
            return replies, server
        replies, server = self._client.pipeline(
            [*calls[:-1], asking(calls[-1], registry_query.known)], timeout
        )
        if replies[-1].pop():
            registry_query.found = RegistryReply(registry_query.known, None, None)
        else:
            answers, _ = self._client.pipeline([look_call(registry_query)], timeout)
            registry_query.found = look_seen(answers[0], registry_query.known)
        return replies, server

    def refresh(
        self, db: int, key: EntryKey, token: bytes, lease_ms: int, *, seen: bytes
    ) -> Acquired:
        self._require_trust(db)
        keys, args = (refresh_key(key), key), (token, lease_ms, name_of(seen))
        reply, server = self._client.script(ScriptCall(db, scripts.REFRESH, keys, args))
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
        self._require_trust(db)
        keys = (refresh_key(key), *guarded(key))
        args = (token, name_of(seen), slot, ttl_ms or "")
        return bool(self._script(db, scripts.REPLACE, keys, args))

    def put(
        self, db: int, key: EntryKey, head: bytes, payload: bytes, ttl_ms: int, stamp_ttl_ms: int
    ) -> bool:
        self._require_trust(db)
        args: list[Word] = [ttl_ms, stamp_ttl_ms, head, payload, *new_stamps(key)]
        return bool(self._script(db, scripts.PUT, guarded(key), args))

    def delete(self, db: int, keys: Sequence[str]) -> None:
        if keys:
            self._client.call(db, "UNLINK", *keys)

    def scan(self, db: int, cursor: int, pattern: str) -> tuple[int, list[str]]:
        reply = self._client.call(db, "SCAN", cursor, "MATCH", pattern, "COUNT", KEYS_PER_CALL)
        return int(reply[0]), [key for key in map(_text, reply[1]) if key is not None]

    def clear(self, db: int, stamps: Sequence[str]) -> None:
        self._script(db, scripts.CLEAR, stamps, ())

    def close(self) -> None:
        self._client.close()

    def __repr__(self) -> str:
        return f"RedisSlots({self._client!r})"

    def _script(
        self, db: int, script: scripts.Script, keys: Sequence[str | bytes], args: Sequence[Word]
    ) -> Any:
        reply, _ = self._client.script(ScriptCall(db, script, keys, args))
        return reply


def _nothing() -> None:
    """Wake no thread: these slots have no journal of untold commits."""


def _text(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None  # no key template makes such a key
