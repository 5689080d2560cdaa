"""A live region: a dogpile CacheRegion whose entries every commit invalidates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dogpile.cache import register_backend
from dogpile.cache.api import NO_VALUE, CachedValue
from dogpile.cache.region import CacheRegion, value_version

from cachedorm.observe import Observer
from cachedorm.store.dogpile.entries_backend import SlotsBackend
from cachedorm.store.entries.entries import InvalidationQueue
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.entries.plain_values import PLAIN, PLAIN_STAMP, plain_key
from cachedorm.store.entries.provenance import refuse
from cachedorm.store.entries.timed import entries_for
from cachedorm.store.protocol.entry import ABSENT
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.lifetime import Outage, is_os_error
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Slots

__all__ = ["NO_VALUE", "CachedRegion", "Loaded", "RegionBackend", "RegionSettings"]


class RegionBackend(SlotsBackend):
    """The backend of a declared region, made by dogpile from the given entries."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments["entries"])


register_backend("cachedorm.region", __name__, "RegionBackend")  # type: ignore[no-untyped-call]


class CachedRegion(CacheRegion):
    """One region of a Cache. ``fetch`` serves entries that follow the database; all the rest is
    dogpile's, with leases underneath. ``get`` and ``fill`` are ``fetch`` in two steps.

    While Redis is away, reads answer NO_VALUE, fills load, and what is set is dropped; what is
    deleted is kept by the ``keeper``, if there is one. ``outage`` knows a load's error that says
    that the database is down.
    """

    def __init__(
        self,
        settings: RegionSettings,
        slots: Slots,
        observer: Observer,
        stamps: Iterable[str] = (),
        keeper: InvalidationQueue | None = None,
        outage: Outage = is_os_error,
    ) -> None:
        super().__init__(name=settings.name)
        self.settings = settings
        self.entries = entries_for(settings, slots, observer, keeper, outage)
        self.configure("cachedorm.region", arguments={"entries": self.entries})
        self._stamps = {PLAIN_STAMP, *stamps}
        # Bound once: a hit of the library's own keys is looked up without a step in between.
        self.fetch = self.entries.fetch
        self._lookup = self.entries.get
        self.fill = self.entries.fill

    def get(
        self, key: str, expiration_time: float | None = None, ignore_expiration: bool = False
    ) -> Any:
        """Return the value or NO_VALUE; for the library's entries also ABSENT, "no such row"."""
        if type(key) is EntryKey:
            return self._lookup(key)
        if not ignore_expiration:
            self._tell_limit(expiration_time)
        return super().get(key, expiration_time, ignore_expiration)

    def get_multi(
        self,
        keys: Iterable[str],
        expiration_time: float | None = None,
        ignore_expiration: bool = False,
    ) -> Any:
        """Return the values of these keys in their order, NO_VALUE if there is none."""
        if not ignore_expiration:
            self._tell_limit(expiration_time)
        return super().get_multi(keys, expiration_time, ignore_expiration)  # type: ignore[no-untyped-call]

    def get_or_create(
        self,
        key: str,
        creator: Callable[..., Any],
        expiration_time: float | None = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        creator_args: tuple[Any, Mapping[str, Any]] | None = None,
    ) -> Any:
        """Return the cached value or the creator's, which is called once for all callers here.

        Unlike dogpile's own, it never returns an expired value while another caller renews it.
        """
        self._tell_limit(expiration_time)
        if self.async_creation_runner is not None:
            return super().get_or_create(
                key, creator, expiration_time, should_cache_fn, creator_args
            )
        entry = plain_key(self.key_mangler(key) if self.key_mangler else key)
        limit = self.expiration_time if expiration_time is None else expiration_time
        seen = self.entries.look((entry,))[0]
        if seen.value is not NO_VALUE and not _expired(seen.value, limit):
            return _payload(seen.value)

        def load() -> Loaded:
            args, kwargs = creator_args or ((), {})
            created = creator(*args, **kwargs)
            publish = should_cache_fn is None or bool(should_cache_fn(created))
            return Loaded(_stamped(entry, created), publish=publish)

        return _payload(self.entries.fill(entry, load, asked=seen.asked))

    def get_or_create_multi(
        self,
        keys: Iterable[str],
        creator: Callable[..., Any],
        expiration_time: float | None = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
    ) -> Any:
        """Return the cached values, and the creator's for the keys that have none."""
        self._tell_limit(expiration_time)
        return super().get_or_create_multi(keys, creator, expiration_time, should_cache_fn)

    def _tell_limit(self, expiration_time: float | None) -> None:
        """Report to the recorder that this read's value may expire before its entry."""
        limit = self.expiration_time if expiration_time is None else expiration_time
        if limit not in (None, -1):
            refuse("own expiration", f"{self.name} was asked for nothing older than {limit} s")

    def invalidate(self, hard: bool = True) -> None:
        """Clear the region for every process; ``hard`` is ignored."""
        self.clear()

    def watch(self, stamps: Iterable[str]) -> None:
        """Count these stamps (wildcards and memberships) among those that ``clear`` takes away."""
        self._stamps.update(stamps)

    def clear(self) -> None:
        """Invalidate every entry of the region: each carries one of the watched stamps."""
        self.entries.clear(sorted(self._stamps))

    @property
    def stamps(self) -> set[str]:
        """The watched stamps."""
        return set(self._stamps)

    @property
    def outlived(self) -> int:
        """How many loads took longer than the region's lease, and so were never cached."""
        return self.entries.filler.outlived

    def __repr__(self) -> str:
        settings = self.settings
        return f"<CachedRegion {settings.name!r} db={settings.db} ttl={settings.ttl_ms / 1000:g}s>"


def _expired(value: Any, limit: float | None) -> bool:
    if limit is None or limit == -1 or not isinstance(value, CachedValue):
        return False
    return bool(time.time() - value.metadata["ct"] > limit)


def _payload(value: Any) -> Any:
    return value.payload if isinstance(value, CachedValue) else value


def _stamped(entry: EntryKey, value: Any) -> Any:
    """What the entry's form stores: dogpile's plain one keeps the second it was made."""
    if entry.form is not PLAIN or value is ABSENT:
        return value
    return CachedValue(value, {"ct": time.time(), "v": value_version})
