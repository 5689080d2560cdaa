"""The store of a Cache: its regions, and the invalidation of every commit.

``intend`` just before COMMIT and ``settle`` just after it are one pipeline each. Neither ever
fails the commit. Invalidations that could not be sent are queued in the journal, and this process
does not use the databases concerned until they are delivered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from cachedorm.errors import CacheUnavailable, ConfigurationError
from cachedorm.observe import Commands, Observer, Observers
from cachedorm.store.commits.journal import Journal, PendingInvalidations
from cachedorm.store.commits.retry_thread import RetryThread
from cachedorm.store.commits.undecided import UndecidedCommit, UndecidedCommits
from cachedorm.store.commits.write_through import WriteThroughEncoder
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.memory.slots import MemorySlots
from cachedorm.store.protocol.changes import Offer, Touched, Written
from cachedorm.store.protocol.entry import new_token
from cachedorm.store.protocol.intent import INTENT_MS, Intent
from cachedorm.store.protocol.interest_registry import REGISTRY_DB, Interest, RegistryQuery
from cachedorm.store.protocol.keys import stamp_key
from cachedorm.store.protocol.lifetime import Outage, is_os_error
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Slots
from cachedorm.store.redis.client import RedisClient
from cachedorm.store.redis.slots import RedisSlots
from cachedorm.store.redis.survey import Survey
from cachedorm.store.runtime.circuit_breaker import CircuitBreaker
from cachedorm.store.runtime.concurrency import shielded

# For queued invalidations, which no commit waits for and which may be many (seconds).
RETRY_TIMEOUT = 5.0


class Store:
    """The regions of one Redis server, or of this process's memory without a ``client``."""

    def __init__(
        self,
        slots: Slots,
        client: RedisClient | None = None,
        *,
        commit_timeout: float = 0.5,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        outage: Outage = is_os_error,
    ) -> None:
        self._client = client
        self._outage = outage
        self._commit_timeout = commit_timeout
        self._observer = Observers.of(observer)
        self._breaker = CircuitBreaker(clock=clock, changed=self._observer.breaker)
        self._journal = Journal()
        self._kept = UndecidedCommits(clock)
        self._retry_thread = RetryThread(self.deliver_queued)
        self.slots = slots
        if client is not None:
            client.breaker = self._breaker
        if isinstance(slots, RedisSlots):
            slots.trust_unless(self._journal.by_db, self._retry_thread.wake)
        self._survey: Survey | None = None
        self._closed = False
        self._regions: dict[str, CachedRegion] = {}
        self._settings: dict[str, RegionSettings] = {}
        self._encoder = WriteThroughEncoder(self._settings, self._observer)

    @classmethod
    def connect(
        cls,
        url: str | None,
        *,
        connect_timeout: float = 0.25,
        operation_timeout: float = 0.25,
        commit_timeout: float = 0.5,
        observer: Observer | None = None,
        commands: Commands | None = None,
        outage: Outage = is_os_error,
    ) -> Self:
        """Return the store of this Redis, or of this process's memory without a URL.

        Connects later. All cache work of one commit takes at most ``commit_timeout`` seconds.
        ``commands`` is notified of each command. ``outage`` recognises the errors of a database
        that is down.
        """
        if url is None:
            return cls(MemorySlots(commands=commands), observer=observer, outage=outage)
        client = RedisClient(url, connect_timeout, operation_timeout, commands)
        return cls(
            RedisSlots(client),
            client,
            commit_timeout=commit_timeout,
            observer=observer,
            outage=outage,
        )

    def region(self, settings: RegionSettings) -> CachedRegion:
        """Return the live region: always the same object for the same settings."""
        known = self._settings.setdefault(settings.name, settings)
        if known != settings:
            raise ConfigurationError(
                f"region {settings.name!r} is declared twice with different settings:"
                f" {known} and {settings}; give one of them another name"
            )
        if settings.name not in self._regions:
            self.introduce(settings)
            self._regions[settings.name] = CachedRegion(
                settings, self.slots, self._observer, keeper=self, outage=self._outage
            )
        return self._regions[settings.name]

    def introduce(self, settings: RegionSettings) -> None:
        """Announce a region to the observer, before any event of the region."""
        server = "" if self._client is None else self._client.where
        self._observer.region(settings.name, settings.db, server)

    def know(self, db: int, stamps: Iterable[str]) -> None:
        """Add stamp keys, so that every entry of the database carries at least one known stamp.

        They clear the database if the journal cannot hold all queued keys.
        """
        self._journal.know(db, (*stamps, stamp_key("~plain")))

    def declare(self, interests: Iterable[Interest]) -> None:
        """Declare what this process caches. It is registered before anything is filled."""
        self.slots.registry.declare(map(str, interests))

    def check(self) -> None:
        """Raise ConfigurationError for a region whose database the server does not have."""
        if self._client is None:
            return
        databases = self._client.databases()
        for settings in self._settings.values():
            if settings.db >= databases:
                raise ConfigurationError(
                    f"region {settings.name!r} is in database {settings.db}, but the server has"
                    f" {databases} (0 to {databases - 1}): give the region another number, or"
                    " raise `databases` in the server's configuration"
                )

    @property
    def survey(self) -> Survey | None:
        """Read-only access to Redis; None if the entries are in this process's memory."""
        if self._survey is None and self._client is not None and not self._closed:
            self._survey = Survey(self._client)
        return self._survey

    def trusted(self, db: int) -> bool:
        """Return False while invalidations of this process are queued for the database."""
        return not self._journal.pending(db)

    def intend(
        self, touched: Touched, offers: Sequence[Offer] = (), written: Written | None = None
    ) -> Intent:
        """Hide everything touched, just before COMMIT. Raises nothing but cancellation.

        If it fails, ``settle`` still invalidates every old entry, unless the process crashes in
        between. ``written``: the tables, cached here or not; what other processes cache over them
        is touched too.
        """
        written = written if written is not None else Written()
        intent = Intent(touched, self._commit_timeout, self._intent_ms(), written=written)
        if not touched and not offers and self._unconcerned(written):
            intent.passed = True
            return intent
        for offer in offers:
            touched.add_entries(offer.db, (offer.key,))
        registry_query = self._begin_check(intent)
        hidden, offered = self._without_quiet(touched, offers)
        if (hidden or registry_query is not None) and not self._breaker.is_open:
            try:
                self._place_intents(intent, hidden, offered, registry_query)
            except BaseException:
                # Cancelled: there will be no COMMIT, but the intents may be placed already.
                self.settle(intent)
                raise
        return intent

    def _unconcerned(self, written: Written) -> bool:
        """Return whether a commit that touches nothing cached here needs no command."""
        return not written or self._closed or self.slots.registry.unconcerned(written)

    def _begin_check(self, intent: Intent) -> RegistryQuery | None:
        """Start a registry query; touch what other processes are known to cache."""
        if not intent.written:
            return None
        return self.slots.registry.begin_check(intent.touched, intent.written)

    def _apply_reply(self, intent: Intent, registry_query: RegistryQuery | None) -> Touched:
        """Return what the registry's reply adds to the touched keys."""
        if registry_query is None:
            return Touched()
        return self.slots.registry.apply_reply(registry_query, intent.touched, intent.written)

    def _place_intents(
        self,
        intent: Intent,
        hidden: Touched,
        offers: Sequence[Offer],
        registry_query: RegistryQuery | None,
    ) -> None:
        began = time.monotonic()
        # Half of the time, so that ``settle`` has the other half if Redis hangs.
        limit = self._commit_timeout / 2
        token, intent_ms = intent.token, intent.intent_ms
        try:
            intent.fixed = self.slots.intend(
                hidden, offers, token, intent_ms, limit, registry_query
            )
            intent.placed = True
            news, _ = self._without_quiet(self._apply_reply(intent, registry_query), ())
            if news:
                limit = max(0.001, limit - (time.monotonic() - began))
                self.slots.intend(news, (), token, intent_ms, limit)
        except Exception as error:  # noqa: BLE001 - no failure of the cache fails the commit
            self._observer.error("intend", error)
        finally:
            seconds = time.monotonic() - began
            intent.left -= seconds
            self._observer.tell("intend", hidden.dbs(), seconds, intent.placed)

    def settle(self, intent: Intent, values: Mapping[Offer, tuple[Any, int]] | None = None) -> None:
        """Invalidate every old entry, just after COMMIT or ROLLBACK. Never raises; not cancellable.

        ``values``: new value and TTL (ms) of each offer, stored if no other writer interfered.
        """
        if intent.passed and self._unconcerned(intent.written):
            # Still, though the COMMIT may have taken long: a process that registered since the
            # check reads the database after this.
            return
        if intent.touched or intent.written:
            shielded(lambda: self._settle(intent, values or {}))

    def _settle(self, intent: Intent, values: Mapping[Offer, tuple[Any, int]]) -> None:
        touched, token = intent.touched, intent.token
        try:
            self._send_settle(intent, values)
        except BaseException as error:
            self._queue(touched, token, intent.written)
            self._observer.error("settle", error)
            if not isinstance(error, Exception):
                raise
        self._count(touched)

    def _send_settle(self, intent: Intent, values: Mapping[Offer, tuple[Any, int]]) -> None:
        if self._breaker.is_open:
            # Not even as the trial: a commit must not wait for one.
            raise CacheUnavailable("Redis failed a moment ago; the invalidation is queued")
        encoded = self._encoder.encoded(intent, values)
        began, touched, token = time.monotonic(), intent.touched, intent.token
        registry_query, done = self._begin_check(intent), False
        try:
            self.slots.settle(touched, token, encoded, intent.left, registry_query)
            # Registered between our INTEND and our COMMIT: what was filled meanwhile may be old.
            news = self._apply_reply(intent, registry_query)
            if news:
                left = max(0.001, intent.left - (time.monotonic() - began))
                self.slots.settle(news, token, {}, left)
            done = True
        finally:
            self._observer.tell("settle", touched.dbs(), time.monotonic() - began, done)

    def _queue(self, touched: Touched, token: bytes, written: Written | None = None) -> None:
        # A closed store has no retry thread, and no more reads.
        if not self._closed:
            self._journal.add(touched, token)
            if written:
                self._journal.add_written(written)
            self._retry_thread.wake()

    def keep(self, intent: Intent, decided: Callable[[], bool] | None) -> None:
        """Hide what a COMMIT of unknown outcome touched until ``decided()`` is True.

        The retry thread calls ``decided`` once a second for ten minutes. Without ``decided`` the
        intents expire.
        """
        if not intent.placed:
            # Nothing hides the keys. A new token: the delivery must not withdraw this intent.
            self._queue(intent.touched, new_token(), intent.written)
        if decided is not None:
            self._kept.add(intent.touched, intent.token, intent.intent_ms, decided, intent.written)
        self._retry_thread.wake()

    def invalidate(self, touched: Touched) -> None:
        """Invalidate the entries now: on request, or for a write that is committed already."""
        self.settle(Intent(touched, self._commit_timeout))

    def clear(self, db: int, stamps: Sequence[str]) -> None:
        """Invalidate every entry that carries one of the stamps, atomically."""
        try:
            self.slots.clear(db, stamps)
        except CacheUnavailable as error:
            self._queue(Touched(stamps={db: set(stamps)}), new_token())
            self._observer.error("clear", error)
        self._count(Touched(stamps={db: set(stamps)}))

    def deliver_queued(self) -> bool:
        """Run one pass of the retry thread: return True while there is more to do."""
        kept = self._kept.look_after(self._renew, self._settle_kept, self._observer.error)
        return self._deliver() or kept

    def _renew(self, kept: UndecidedCommit) -> None:
        hidden, _ = self._without_quiet(kept.touched, ())
        if hidden:
            self.slots.renew(hidden, kept.token, kept.intent_ms, RETRY_TIMEOUT)

    def _settle_kept(self, kept: UndecidedCommit) -> None:
        self.settle(Intent(kept.touched, RETRY_TIMEOUT, token=kept.token, written=kept.written))

    def _deliver(self) -> bool:
        """Deliver the queued invalidations until one fails: return True if some remain."""
        for item in self._journal.items():
            try:
                self._deliver_item(item)
            except CacheUnavailable:
                return True
            except ConfigurationError as error:
                # The server does not have the database, so it holds no old entry.
                self._journal.delivered(item)
                self._observer.error("mend", error)
        return not self._deliver_written() or bool(self._journal.by_db)

    def _deliver_written(self) -> bool:
        """Invalidate what others cache over queued tables; False if Redis is unavailable."""
        written = self._journal.take_written()
        if written:
            try:
                self._try_again(REGISTRY_DB)
                self._send_settle(Intent(Touched(), RETRY_TIMEOUT, written=written), {})
            except CacheUnavailable:
                self._journal.add_written(written)
                return False
            except ConfigurationError as error:
                self._observer.error("mend", error)
        return True

    def _try_again(self, db: int) -> None:
        if self._breaker.is_open:
            # The trial is a small write without effect, under the usual time limit.
            self.slots.delete(db, (stamp_key("~trial"),))

    def _deliver_item(self, item: PendingInvalidations) -> None:
        self._try_again(item.db)
        self.slots.settle(item.touched, item.token, {}, RETRY_TIMEOUT)
        self._journal.delivered(item)

    def _without_quiet(
        self, touched: Touched, offers: Sequence[Offer]
    ) -> tuple[Touched, Sequence[Offer]]:
        """Return the keys and offers without the databases whose regions use no intents."""
        loud: set[int] = set()
        quiet: set[int] = set()
        for each in self._settings.values():
            (loud if each.intents else quiet).add(each.db)
        quiet -= loud
        if not quiet:
            return touched, offers
        entries = {db: keys for db, keys in touched.entries.items() if db not in quiet}
        stamps = {db: keys for db, keys in touched.stamps.items() if db not in quiet}
        return Touched(entries, stamps), [offer for offer in offers if offer.db not in quiet]

    def _intent_ms(self) -> int:
        longest = 0
        for each in self._settings.values():
            longest = max(longest, each.intent_ms)
        return longest if self._settings else INTENT_MS

    def _count(self, touched: Touched) -> None:
        for db in touched.dbs():
            entries, stamps = touched.entries.get(db, ()), touched.stamps.get(db, ())
            self._observer.invalidate(db, len(entries), len(stamps))

    def close(self) -> None:
        """Try once more to deliver what is queued, then drop every connection."""
        self._retry_thread.close(self._commit_timeout)
        self._closed = True
        self._breaker.retire()
        self.slots.close()
        if self._survey is not None:
            self._survey.close()

    async def aclose(self) -> None:
        """Close without blocking the event loop, and wait until its connections are closed."""
        if self._retry_thread.is_running:
            await asyncio.to_thread(self._retry_thread.close, self._commit_timeout)
        self.close()
        if self._client is not None:
            await self._client.aclose()
        if self._survey is not None:
            await self._survey.aclose()

    def __repr__(self) -> str:
        return (
            f"<Store {self._client or self.slots!r} {self._breaker!r} {self._journal!r}"
            f" kept={len(self._kept)} {self._retry_thread!r}>"
        )
