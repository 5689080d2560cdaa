"""OpenTelemetry: metrics and spans, as an SDK collects them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import event

from cachedorm.contrib.opentelemetry import OpenTelemetryMetrics, OpenTelemetryTraces, place_of
from tests.support.contrib.observed import App, app

DEAD = "redis://127.0.0.1:1"


class Seen:
    """What the SDK collected."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.exporter = InMemorySpanExporter()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def points(self, name: str) -> list[tuple[Mapping[str, Any], Any]]:
        """The points of one metric: attributes, and a sum's value or a histogram's count."""
        collected = self.reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), getattr(point, "value", getattr(point, "count", None)))
            for resource in (collected.resource_metrics if collected else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [each for each in self.exporter.get_finished_spans() if each.name.startswith(name)]

    def close(self) -> None:
        self.meters.shutdown()
        self.tracers.shutdown()


@pytest.fixture
def seen() -> Iterator[Seen]:
    made = Seen()
    yield made
    made.close()


@pytest.fixture
def observed(redis_url: str, tmp_path: Path, seen: Seen) -> Iterator[App]:
    """The application with both observers."""
    both = OpenTelemetryMetrics(seen.meters), OpenTelemetryTraces(seen.tracers)
    with app(redis_url, tmp_path, *both) as made:
        yield made


@pytest.fixture
def server(redis_url: str) -> dict[str, Any]:
    """The attributes of this worker's Redis, database 3."""
    url = urlsplit(redis_url)
    return {
        "db.system.name": "redis",
        "db.namespace": "3",
        "server.address": url.hostname,
        "server.port": url.port,
    }


def test_operations_have_the_conventional_metric(
    observed: App, seen: Seen, server: dict[str, Any]
) -> None:
    """Reads and what commits tell, by the conventions' name and attributes and no others."""
    observed.read(1)
    observed.read(1)
    observed.write(2, "new")
    points = seen.points("db.client.operation.duration")
    assert ({**server, "db.operation.name": "MGET"}, 3) in points
    assert ({**server, "db.operation.name": "PIPELINE"}, 2) in points
    assert len(points) == 2


def test_the_caches_own_metrics(observed: App, seen: Seen) -> None:
    """Of regions and reasons; no attribute is a key."""
    observed.read(1)
    observed.read(1)
    with observed.cache.bypass():
        observed.read(1)
    notes = {"cachedorm.region": "notes"}
    assert seen.points("cachedorm.hits") == [(notes, 1)]
    assert seen.points("cachedorm.misses") == [({**notes, "cachedorm.reason": "empty"}, 1)]
    assert seen.points("cachedorm.bypasses") == [({**notes, "cachedorm.reason": "disabled"}, 1)]
    assert seen.points("cachedorm.fills") == [(notes, 1)]
    assert seen.points("cachedorm.fill.duration") == [(notes, 1)]
    assert seen.points("cachedorm.entry.size") == [(notes, 1)]
    observed.write(1, "new")
    assert seen.points("cachedorm.invalidated") == [({"db.namespace": "3"}, 1)]


def test_the_buckets_are_those_of_the_conventions(observed: App, seen: Seen) -> None:
    """Seconds need other buckets than the SDK's own."""
    observed.read(1)
    data = seen.reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    (metric,) = [each for each in metrics if each.name == "db.client.operation.duration"]
    assert metric.unit == "s"
    points: Any = metric.data.data_points
    assert points[0].explicit_bounds[:3] == (0.001, 0.005, 0.01)


def test_a_hit_is_one_client_span(observed: App, seen: Seen, server: dict[str, Any]) -> None:
    """Inside of the caller's, named by the command and the server; never by a key."""
    observed.read(1)
    seen.exporter.clear()
    with seen.tracers.get_tracer("test").start_as_current_span("request") as request:
        observed.read(1)
    (span,) = seen.spans("MGET")
    assert span.name == f"MGET {server['server.address']}:{server['server.port']}"
    assert span.kind is SpanKind.CLIENT
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert span.attributes == {
        **server,
        "db.operation.name": "MGET",
        "cachedorm.region": "notes",
        "cachedorm.hits": 1,
        "cachedorm.misses": 0,
    }
    (whole,) = seen.spans("request")
    assert whole.start_time is not None
    assert span.start_time is not None
    assert span.end_time is not None
    assert whole.start_time <= span.start_time < span.end_time


def test_a_fill_is_around_its_sql(observed: App, seen: Seen) -> None:
    """What traces SQLAlchemy finds the fill's span as its parent."""
    parents: list[object] = []
    tracer = seen.tracers.get_tracer("test")

    def trace_sql(*arguments: object) -> None:
        with tracer.start_as_current_span("SELECT") as span:
            parents.append(getattr(span, "parent", None))

    engine: Any = observed.sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", trace_sql)
    observed.read(1)
    event.remove(engine, "before_cursor_execute", trace_sql)
    (fill,) = seen.spans("fill notes")
    assert parents == [fill.context]
    assert fill.attributes == {"cachedorm.region": "notes"}


def test_a_commit_has_two_spans(observed: App, seen: Seen) -> None:
    """One just before the COMMIT and one just after it."""
    observed.write(1, "new")
    spans = seen.spans("PIPELINE")
    moments = [dict(each.attributes or {})["cachedorm.moment"] for each in spans]
    assert moments == ["intend", "settle"]


def test_redis_away(tmp_path: Path, seen: Seen) -> None:
    """Failed operations say so, and the caller's span tells what it was spared."""
    both = OpenTelemetryMetrics(seen.meters), OpenTelemetryTraces(seen.tracers)
    with app(DEAD, tmp_path, *both) as observed:
        with seen.tracers.get_tracer("test").start_as_current_span("request"):
            for _ in range(3):
                observed.read(1)
        failed = dict(seen.points("db.client.operation.duration")[0][0])
        assert failed["error.type"] == "cachedorm.errors.CacheUnavailable"
        assert seen.points("cachedorm.breaker.open") == [({}, 1)]
    assert all(span.status.status_code is StatusCode.ERROR for span in seen.spans("MGET"))
    (request,) = seen.spans("request")
    names = [each.name for each in request.events]
    assert names.count("cachedorm.error") == names.count("cachedorm.bypass") == 3


def test_memory_is_no_database_server(tmp_path: Path, seen: Seen) -> None:
    """A Cache without Redis counts what it does, and calls nobody."""
    both = OpenTelemetryMetrics(seen.meters), OpenTelemetryTraces(seen.tracers)
    with app(None, tmp_path, *both) as observed:
        observed.read(1)
        observed.read(1)
        observed.write(1, "new")
    assert [count for _, count in seen.points("cachedorm.hits")] == [2]
    assert seen.points("db.client.operation.duration") == []
    assert {span.name for span in seen.spans()} == {"fill notes"}


def test_several_databases_have_no_namespace() -> None:
    """A commit that concerns two of them is one operation."""
    traces = OpenTelemetryTraces()
    traces.region("one", 1, DEAD)
    traces.region("two", 2, DEAD)
    assert traces._place_of_all([1]) == place_of(1, DEAD)
    both = traces._place_of_all([1, 2])
    assert both == {name: of for name, of in place_of(1, DEAD).items() if name != "db.namespace"}


@pytest.mark.parametrize(
    ("url", "address", "port"),
    [
        ("redis://k8s-redis:6379", "k8s-redis", 6379),
        ("rediss://[::1]:7000", "::1", 7000),
        ("unix:///tmp/redis.sock", "/tmp/redis.sock", None),
    ],
)
def test_where_a_server_is(url: str, address: str, port: int | None) -> None:
    """As the conventions name it."""
    place = place_of(2, url)
    assert place["server.address"] == address
    assert place.get("server.port") == port
    assert place["db.namespace"] == "2"


def test_without_an_sdk_nothing_happens(redis_url: str, tmp_path: Path) -> None:
    """A library that brings both observers along asks nothing of the application."""
    with app(redis_url, tmp_path, OpenTelemetryMetrics(), OpenTelemetryTraces()) as observed:
        observed.read(1)
        observed.read(1)
        assert observed.cache.stats().hits["notes"] == 1
        assert not observed.cache.stats().errors
