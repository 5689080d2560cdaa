"""Prometheus metrics of a Cache: ``Cache(url, observers=[PrometheusObserver()])``.

Labels are regions, Redis databases, operations and reasons, never keys, so that the number of
series is bounded by what is declared. Works in prometheus-client's multiprocess mode.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from cachedorm.errors import ConfigurationError
from cachedorm.observe import Observer

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise ImportError(
        "cachedorm.contrib.prometheus needs prometheus-client: pip install 'cachedorm[prometheus]'"
    ) from missing

K = TypeVar("K")

LATENCY_BUCKETS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
"""Seconds: reads at the lower end, queries and timeouts of Redis at the upper."""

SIZE_BUCKETS: Final = (64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)


class _Children(dict[K, Callable[[float], None]]):
    """The metric's children by label values, made once: ``labels()`` costs more than counting."""

    def __init__(self, made: Callable[[K], Callable[[float], None]]) -> None:
        self._made = made

    def __missing__(self, labels: K) -> Callable[[float], None]:
        child = self[labels] = self._made(labels)
        return child


class PrometheusCounters(Observer):
    """Count everything, and time fills and waits but not hits.

    The metrics are made in ``registry``, by default prometheus-client's own. One observer serves
    any number of Caches. Raises ConfigurationError if the registry has these metrics already.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        buckets: Sequence[float] = LATENCY_BUCKETS,
    ) -> None:
        self._registry, self._buckets = registry, tuple(buckets)
        self._made: list[Collector] = []
        try:
            self._make()
        except ValueError as error:
            # All or nothing: a second attempt must not find half of the metrics.
            for each in self._made:
                registry.unregister(each)
            raise ConfigurationError(f"{type(self).__name__}: {self._explained(error)}") from error

    def _explained(self, error: ValueError) -> str:
        if "Duplicated" not in str(error):
            return f"buckets={self._buckets}: {error}"
        return (
            f"{error}; a registry holds the metrics of one observer: give every Cache the same"
            " observer, or this one its own registry"
        )

    def _make(self) -> None:
        """Make the metrics; a subclass makes its own too."""
        self._hits = self._counter("cachedorm_hits", "Entries served.", "region")
        self._misses = self._counter("cachedorm_misses", "Entries missed.", "region", "reason")
        self._fills = self._counter("cachedorm_fills", "Entries loaded and stored.", "region")
        self._refusals = self._counter(
            "cachedorm_refusals", "Entries loaded and not stored.", "region"
        )
        self._fill_seconds = self._histogram(
            "cachedorm_fill_seconds", "Loading an entry from the database.", "region"
        )
        self._entry_bytes = self._histogram(
            "cachedorm_entry_bytes", "The size of a stored entry.", "region", buckets=SIZE_BUCKETS
        )
        self._wait_seconds = self._histogram(
            "cachedorm_wait_seconds", "Waiting for another fill.", "region"
        )
        self._bypasses = self._counter(
            "cachedorm_bypasses", "Reads that went past the cache.", "region", "reason"
        )
        self._errors = self._counter(
            "cachedorm_errors", "Failures hidden from callers.", "operation"
        )
        self._make_of_commits()

    def _make_of_commits(self) -> None:
        self._invalidations = self._counter(
            "cachedorm_invalidations", "Commits and calls that invalidated entries.", "db"
        )
        self._entries = self._counter(
            "cachedorm_invalidated_entries", "Entries invalidated by key.", "db"
        )
        self._stamps = self._counter(
            "cachedorm_invalidated_stamps",
            "Stamps deleted, which invalidates every entry that carries one.",
            "db",
        )
        self._tell_seconds = self._histogram(
            "cachedorm_tell_seconds", "The commands of a commit.", "operation"
        )
        self._trips = self._counter("cachedorm_breaker_trips", "How often a breaker opened.")
        self._open = Gauge(
            "cachedorm_breaker_open",
            "How many Caches do not ask their Redis because it failed.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._made.append(self._open)
        self._opened, self._lock = 0, threading.Lock()
        self._trips[()](0)
        self._errors["settle",](0)

    def _counter(self, name: str, text: str, *labels: str) -> _Children[tuple[str, ...]]:
        metric = Counter(name, text, labels, registry=self._registry)
        self._made.append(metric)
        return _Children(lambda values: (metric.labels(*values) if labels else metric).inc)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = ()
    ) -> _Children[tuple[str, ...]]:
        buckets = buckets or self._buckets
        metric = Histogram(name, text, labels, registry=self._registry, buckets=buckets)
        self._made.append(metric)
        return _Children(lambda values: metric.labels(*values).observe)

    def region(self, region: str, db: int, server: str) -> None:
        # Series that start at 0 show their first increase, and do not read as "no data".
        for counter in (self._hits, self._fills, self._refusals):
            counter[region,](0)
        self._misses[region, "empty"](0)
        self._bypasses[region, "outlived"](0)
        for counter in (self._invalidations, self._entries, self._stamps):
            counter[str(db),](0)

    def hit(self, region: str, key: str) -> None:
        self._hits[region,](1)

    def miss(self, region: str, key: str, reason: str) -> None:
        self._misses[region, reason](1)

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        self._fill_seconds[region,](seconds)
        if published:
            self._fills[region,](1)
            self._entry_bytes[region,](size_bytes)
        else:
            self._refusals[region,](1)

    def wait(self, region: str, key: str, seconds: float) -> None:
        self._wait_seconds[region,](seconds)

    def bypass(self, region: str, reason: str) -> None:
        self._bypasses[region, reason](1)

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        self._invalidations[str(db),](1)
        self._entries[str(db),](entries)
        self._stamps[str(db),](stamps)

    def error(self, what: str, error: BaseException) -> None:
        self._errors[what,](1)

    def tell(self, moment: str, dbs: Sequence[int], seconds: float, done: bool) -> None:
        self._tell_seconds[moment,](seconds)

    def breaker(self, is_open: bool) -> None:
        with self._lock:
            # Counted here, not by the gauge: in a forked process gauges start at 0.
            self._opened += 1 if is_open else -1
            self._open.set(self._opened)
        if is_open:
            self._trips[()](1)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} breakers open: {self._opened}>"


class PrometheusObserver(PrometheusCounters):
    """PrometheusCounters, and the time of every read and commit.

    ``redis_cache_hits``, ``redis_cache_misses`` and ``redis_cache_latency_seconds`` by ``db`` and
    ``operation``: ``get``, ``get_many``, ``intend`` (before a COMMIT), ``settle`` (after it).
    """

    def _make(self) -> None:
        super()._make()
        self._dbs: dict[str, str] = {}
        self._read_seconds = self._histogram(
            "cachedorm_read_seconds", "Reads of the cache, without fills.", "region", "operation"
        )
        self._redis_hits = self._counter("redis_cache_hits", "Entries served.", "db", "operation")
        self._redis_misses = self._counter(
            "redis_cache_misses", "Entries missed.", "db", "operation"
        )
        self._redis_seconds = self._histogram(
            "redis_cache_latency_seconds", "Reads, and the commands of commits.", "db", "operation"
        )

    def region(self, region: str, db: int, server: str) -> None:
        super().region(region, db, server)
        self._dbs[region] = str(db)
        for counter in (self._redis_hits, self._redis_misses):
            counter[str(db), "get"](0)

    def read(self, region: str, operation: str, seconds: float, hits: int, misses: int) -> None:
        labels = self._dbs[region], operation
        self._read_seconds[region, operation](seconds)
        self._redis_seconds[labels](seconds)
        if hits:
            self._redis_hits[labels](hits)
        if misses:
            self._redis_misses[labels](misses)

    def tell(self, moment: str, dbs: Sequence[int], seconds: float, done: bool) -> None:
        super().tell(moment, dbs, seconds, done)
        for db in dbs:
            self._redis_seconds[str(db), moment](seconds)
