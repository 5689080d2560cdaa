"""Prometheus: what is counted and timed, with which labels, in one process and in several."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from cachedorm import Cache
from cachedorm.contrib.prometheus import PrometheusCounters, PrometheusObserver
from cachedorm.errors import ConfigurationError
from tests.fixtures.patience import PATIENCE, patient_cache
from tests.support.contrib.observed import App, app
from tests.support.contrib.shelf import PAGES, REGIONS
from tests.support.contrib.site import Site

ROOT = Path(__file__).parents[2]
DEAD = "redis://127.0.0.1:1"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observed(redis_url: str, tmp_path: Path, registry: CollectorRegistry) -> Iterator[App]:
    """The application with everything that Prometheus can have."""
    with app(redis_url, tmp_path, PrometheusObserver(registry)) as made:
        yield made


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_reads_are_counted(observed: App, registry: CollectorRegistry) -> None:
    """Hits, misses by reason, fills, their times and the sizes of what was stored."""
    observed.read(1)
    observed.read(1)
    observed.read_many(1, 2)
    assert value(registry, "cachedorm_hits_total", region="notes") == 2
    assert value(registry, "cachedorm_misses_total", region="notes", reason="empty") == 2
    assert value(registry, "cachedorm_fills_total", region="notes") == 2
    assert value(registry, "cachedorm_fill_seconds_count", region="notes") == 2
    assert value(registry, "cachedorm_entry_bytes_count", region="notes") == 2
    size = value(registry, "cachedorm_entry_bytes_sum", region="notes")
    assert size is not None
    assert 20 < size < 500
    assert value(registry, "cachedorm_read_seconds_count", region="notes", operation="get") == 2
    many = {"region": "notes", "operation": "get_many"}
    assert value(registry, "cachedorm_read_seconds_count", **many) == 1


def test_the_three_of_the_design(observed: App, registry: CollectorRegistry) -> None:
    """Their names, and exactly the labels ``db`` and ``operation``."""
    observed.read(1)
    observed.read(1)
    observed.read(1)
    observed.read_many(1, 2)
    observed.write(2, "new")
    get, many = {"db": "3", "operation": "get"}, {"db": "3", "operation": "get_many"}
    assert value(registry, "redis_cache_hits_total", **get) == 3  # one is the writer's own read
    assert value(registry, "redis_cache_misses_total", **get) == 1
    assert value(registry, "redis_cache_hits_total", **many) == 1
    assert value(registry, "redis_cache_misses_total", **many) == 1
    assert value(registry, "redis_cache_latency_seconds_count", **get) == 4
    for operation in ("get_many", "intend", "settle"):
        labels = {"db": "3", "operation": operation}
        assert value(registry, "redis_cache_latency_seconds_count", **labels) == 1
    labels_of = {
        family.name: {frozenset(sample.labels) - {"le"} for sample in family.samples}
        for family in registry.collect()
        if family.name.startswith("redis_cache_")
    }
    exactly = {frozenset({"db", "operation"})}
    assert labels_of == dict.fromkeys(
        ["redis_cache_hits", "redis_cache_misses", "redis_cache_latency_seconds"], exactly
    )


def test_both_families_count_the_same(observed: App, registry: CollectorRegistry) -> None:
    """Whatever the reads, entries served and missed are one number each."""
    for number in (1, 1, 9, 9, 2):
        observed.read(number)
    observed.read_many(1, 2, 3)
    observed.write(1, "new")
    observed.read(1)
    for what in ("hits", "misses"):
        sums = {
            prefix: sum(
                sample.value
                for family in registry.collect()
                for sample in family.samples
                if sample.name == f"{prefix}_{what}_total"
            )
            for prefix in ("cachedorm", "redis_cache")
        }
        assert sums["cachedorm"] == sums["redis_cache"] > 0


async def test_responses_are_reads_too(site: Site, registry: CollectorRegistry) -> None:
    """What the response cache serves and misses is in both families, under its own database."""
    cache = patient_cache(site.redis_url, regions=REGIONS, observers=[PrometheusObserver(registry)])
    async with site.moved_to(cache) as moved, moved.client() as client:
        for _ in range(3):
            await client.get("/items/1")
    db, region = str(PAGES.db), PAGES.name
    assert value(registry, "cachedorm_hits_total", region=region) == 2
    assert value(registry, "redis_cache_hits_total", db=db, operation="get") == 2
    assert value(registry, "redis_cache_misses_total", db=db, operation="get") == 1
    assert value(registry, "redis_cache_latency_seconds_count", db=db, operation="get") == 3


def test_a_ratio_begins_with_the_region(registry: CollectorRegistry) -> None:
    """A process that only hits, on a Redis that is warm, has a hit ratio all the same."""
    PrometheusCounters(registry).region("notes", 3, "")
    assert value(registry, "cachedorm_misses_total", region="notes", reason="empty") == 0
    for what in ("entries", "stamps"):
        assert value(registry, f"cachedorm_invalidated_{what}_total", db="3") == 0


def test_commits_are_counted(observed: App, registry: CollectorRegistry) -> None:
    """By database, and both moments are timed."""
    observed.write(1, "new")
    assert value(registry, "cachedorm_invalidations_total", db="3") == 1
    assert value(registry, "cachedorm_invalidated_stamps_total", db="3") == 1
    for moment in ("intend", "settle"):
        assert value(registry, "cachedorm_tell_seconds_count", operation=moment) == 1


def test_bypasses_are_counted_by_reason(observed: App, registry: CollectorRegistry) -> None:
    """As the library words them."""
    with observed.cache.bypass():
        observed.read(1)
    assert value(registry, "cachedorm_bypasses_total", region="notes", reason="disabled") == 1


def test_redis_away(tmp_path: Path, registry: CollectorRegistry) -> None:
    """Errors, the open breaker, and reads that were neither hits nor misses."""
    with app(DEAD, tmp_path, PrometheusObserver(registry)) as observed:
        assert value(registry, "cachedorm_breaker_open") == 0
        assert value(registry, "cachedorm_breaker_trips_total") == 0
        for _ in range(5):
            assert observed.read(1) is not None
        assert value(registry, "cachedorm_breaker_open") == 1
    assert value(registry, "cachedorm_breaker_open") == 0  # it is closed, and asks nobody
    assert value(registry, "cachedorm_breaker_trips_total") == 1
    assert value(registry, "cachedorm_errors_total", operation="read") == 5
    away = {"region": "notes", "reason": "unavailable"}
    assert value(registry, "cachedorm_bypasses_total", **away) == 5
    assert value(registry, "cachedorm_hits_total", region="notes") == 0
    assert value(registry, "redis_cache_misses_total", db="3", operation="get") == 0


def test_no_label_is_a_key(observed: App, registry: CollectorRegistry) -> None:
    """A hundred keys make as many series as one."""

    def series() -> int:
        return len(generate_latest(registry).splitlines())

    observed.read(1)
    observed.read(1)
    before = series()
    for number in range(100):
        observed.read(number)
        observed.read(number)
    assert series() == before
    allowed = {"region", "db", "operation", "reason", "le"}
    for family in registry.collect():
        for sample in family.samples:
            assert set(sample.labels) <= allowed, sample


def test_counters_alone(redis_url: str, tmp_path: Path, registry: CollectorRegistry) -> None:
    """Without the time of each read, for those who want hits to cost the least."""
    with app(redis_url, tmp_path, PrometheusCounters(registry)) as observed:
        observed.read(1)
        observed.read(1)
    assert value(registry, "cachedorm_hits_total", region="notes") == 1
    assert "redis_cache" not in generate_latest(registry).decode()
    assert "cachedorm_read_seconds" not in generate_latest(registry).decode()


def test_one_observer_for_several_caches(registry: CollectorRegistry) -> None:
    """Breakers that are open are counted together."""
    observer = PrometheusObserver(registry)
    with Cache(observers=[observer]), Cache(observers=[observer]):
        observer.breaker(True)
        observer.breaker(True)
        observer.breaker(False)
    assert value(registry, "cachedorm_breaker_open") == 1
    assert "open: 1" in repr(observer)


def test_a_second_observer_is_refused(registry: CollectorRegistry) -> None:
    """In words that say what to do."""
    PrometheusObserver(registry)
    with pytest.raises(ConfigurationError, match="give every Cache the same"):
        PrometheusCounters(registry)


def test_names_that_are_taken_leave_nothing_behind(registry: CollectorRegistry) -> None:
    """An application with its own redis_cache_hits keeps it, and may have the counters."""
    Counter("redis_cache_hits", "Hand-written.", ["db", "operation"], registry=registry)
    with pytest.raises(ConfigurationError, match="redis_cache_hits"):
        PrometheusObserver(registry)
    PrometheusCounters(registry)


def test_wrong_buckets_are_said_to_be_wrong(registry: CollectorRegistry) -> None:
    """Not that a metric is there twice; and the registry is as it was."""
    with pytest.raises(ConfigurationError, match=r"buckets=\(1.0, 0.1\).*order"):
        PrometheusObserver(registry, buckets=(1.0, 0.1))
    PrometheusObserver(registry)


SCRIPT = """
import os, sys
from pathlib import Path
from cachedorm.contrib.prometheus import PrometheusObserver
from tests.support.contrib.observed import app

url, folder, reads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with app(url, folder, PrometheusObserver()) as observed:
    for _ in range(reads):
        observed.read(1)
    print(os.getpid(), flush=True)
    sys.stdin.read()  # a worker that is alive while it is scraped
"""


class Worker:
    """A process of its own that reads note 1 so often, and lives until it is stopped."""

    def __init__(self, url: str, folder: Path, metrics: Path, reads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, url, str(folder), str(reads)],
            cwd=ROOT,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.communicate("", timeout=PATIENCE)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


def test_two_processes(redis_url: str, tmp_path: Path, registry: CollectorRegistry) -> None:
    """Counters and histograms are summed over processes; the breaker over those that live."""
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    with app(redis_url, tmp_path) as made:
        made.read(1)
    well = Worker(redis_url, tmp_path, metrics, 3)
    other = Worker(redis_url, tmp_path, metrics, 4)
    away = Worker(DEAD, tmp_path, metrics, 5)
    well.ready()
    other.ready()
    pid = away.ready()

    MultiProcessCollector(registry, path=str(metrics))  # type: ignore[no-untyped-call]
    assert value(registry, "cachedorm_hits_total", region="notes") == 7
    assert value(registry, "redis_cache_hits_total", db="3", operation="get") == 7
    latency = {"db": "3", "operation": "get"}
    assert value(registry, "redis_cache_latency_seconds_count", **latency) == 12
    assert value(registry, "cachedorm_errors_total", operation="read") == 5
    assert value(registry, "cachedorm_breaker_open") == 1

    well.stop()
    other.stop()
    away.kill()
    assert value(registry, "cachedorm_breaker_open") == 1  # nobody has said that it is dead
    mark_process_dead(pid, str(metrics))  # type: ignore[no-untyped-call]
    assert value(registry, "cachedorm_breaker_open") == 0
    assert value(registry, "cachedorm_hits_total", region="notes") == 7
