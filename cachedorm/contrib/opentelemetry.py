"""Metrics and spans that follow OpenTelemetry's semantic conventions for Redis clients.

``Cache(url, observers=[OpenTelemetryMetrics(), OpenTelemetryTraces()])``. They use only the API:
without an SDK they do nothing. No attribute holds a key, so the number of series is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from cachedorm.observe import Observer

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import Histogram, Meter, MeterProvider
    from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider
except ImportError as missing:
    raise ImportError(
        "cachedorm.contrib.opentelemetry needs opentelemetry-api:"
        " pip install 'cachedorm[opentelemetry]'"
    ) from missing

Attributes: TypeAlias = dict[str, str | int]

# The conventions' advice for db.client.operation.duration.
DURATION_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
READ_DURATION: Final = "MGET"
TELL: Final = "PIPELINE"
FAILED: Final[Attributes] = {"error.type": "cachedorm.errors.CacheUnavailable"}


class LocatedObserver(Observer):
    """An observer that knows each region's server, as attributes of the conventions."""

    def __init__(self) -> None:
        self._regions: dict[str, Attributes] = {}
        # The server of each region and Redis database; regions in memory have none.
        self._places: dict[str | int, Attributes] = {}

    def region(self, region: str, db: int, server: str) -> None:
        self._regions[region] = {"cachedorm.region": region}
        if server:
            self._places[region] = self._places[db] = place_of(db, server)

    def _place_of_all(self, dbs: Sequence[int]) -> Attributes | None:
        """The attributes common to several databases of one server; None in memory."""
        known: Iterable[str | int] = [db for db in dbs if db in self._places] or self._places
        place = next((self._places[each] for each in known), None)
        if place is None or len(dbs) == 1:
            return place
        return {name: value for name, value in place.items() if name != "db.namespace"}


class OpenTelemetryMetrics(LocatedObserver):
    """The conventional ``db.client.operation.duration``, and ``cachedorm.*`` by region and reason.

    ``meter_provider``: by default the global one.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        super().__init__()
        meter = metrics.get_meter("cachedorm", meter_provider=meter_provider)
        self._operations = _seconds(
            meter, "db.client.operation.duration", "Duration of database client operations."
        )
        self._fill_times = _seconds(
            meter, "cachedorm.fill.duration", "Loading an entry from the database."
        )
        self._wait_times = _seconds(meter, "cachedorm.wait.duration", "Waiting for another fill.")
        self._sizes = meter.create_histogram(
            "cachedorm.entry.size", "By", "Size of stored entries."
        )
        count = meter.create_counter
        self._hits = count("cachedorm.hits", "{entry}", "Entries served.")
        self._misses = count("cachedorm.misses", "{entry}", "Entries missed.")
        self._fills = count("cachedorm.fills", "{entry}", "Entries loaded and stored.")
        self._refusals = count("cachedorm.refusals", "{entry}", "Entries loaded and not stored.")
        self._bypasses = count("cachedorm.bypasses", "{read}", "Reads that went past the cache.")
        self._ended = count("cachedorm.invalidated", "{key}", "Entries and stamps invalidated.")
        self._errors = count("cachedorm.errors", "{error}", "Failures hidden from callers.")
        self._open = meter.create_up_down_counter(
            "cachedorm.breaker.open", "{cache}", "Caches that do not ask their Redis for now."
        )

    def hit(self, region: str, key: str) -> None:
        self._hits.add(1, self._regions[region])

    def miss(self, region: str, key: str, reason: str) -> None:
        self._misses.add(1, self._regions[region] | {"cachedorm.reason": reason})

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        attributes = self._regions[region]
        self._fill_times.record(seconds, attributes)
        (self._fills if published else self._refusals).add(1, attributes)
        if published:
            self._sizes.record(size_bytes, attributes)

    def wait(self, region: str, key: str, seconds: float) -> None:
        self._wait_times.record(seconds, self._regions[region])

    def bypass(self, region: str, reason: str) -> None:
        self._bypasses.add(1, {"cachedorm.region": region, "cachedorm.reason": reason})

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        self._ended.add(entries + stamps, {"db.namespace": str(db)})

    def error(self, what: str, error: BaseException) -> None:
        self._errors.add(1, {"cachedorm.operation": what})

    def read(self, region: str, operation: str, seconds: float, hits: int, misses: int) -> None:
        self._operation(READ_DURATION, self._places.get(region), seconds, done=bool(hits or misses))

    def tell(self, moment: str, dbs: Sequence[int], seconds: float, done: bool) -> None:
        self._operation(TELL, self._place_of_all(dbs), seconds, done=done)

    def _operation(
        self, name: str, place: Attributes | None, seconds: float, *, done: bool
    ) -> None:
        if place is not None:
            attributes = place | {"db.operation.name": name}
            self._operations.record(seconds, attributes if done else attributes | FAILED)

    def breaker(self, is_open: bool) -> None:
        self._open.add(1 if is_open else -1)


class OpenTelemetryTraces(LocatedObserver):
    """Client spans for cache reads and a commit's commands, and a span around every fill.

    The lease and the publishing of a miss have no span. An instrumentation of SQLAlchemy traces
    the SQL of a fill inside its span. Bypasses and failures are events of the caller's span.
    ``tracer_provider``: by default the global one.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        super().__init__()
        self._tracer = trace.get_tracer("cachedorm", tracer_provider=tracer_provider)

    def read(self, region: str, operation: str, seconds: float, hits: int, misses: int) -> None:
        place = self._places.get(region)
        if place is None:
            return
        about = self._regions[region] | {"cachedorm.hits": hits, "cachedorm.misses": misses}
        self._command(READ_DURATION, place | about, seconds, done=bool(hits or misses))

    def tell(self, moment: str, dbs: Sequence[int], seconds: float, done: bool) -> None:
        place = self._place_of_all(dbs)
        if place is not None:
            self._command(TELL, place | {"cachedorm.moment": moment}, seconds, done=done)

    def _command(self, name: str, attributes: Attributes, seconds: float, *, done: bool) -> None:
        # Without the database number: in the conventions for Redis it is not part of the target.
        target = f"{attributes['server.address']}:{attributes.get('server.port', '')}"
        every = {"db.operation.name": name} | attributes
        span = self._since(f"{name} {target.rstrip(':')}", SpanKind.CLIENT, every, seconds)
        if not done:
            span.set_attributes(FAILED)
            span.set_status(StatusCode.ERROR)
        span.end()

    def wait(self, region: str, key: str, seconds: float) -> None:
        self._since(f"wait {region}", SpanKind.INTERNAL, self._regions[region], seconds).end()

    def _since(self, name: str, kind: SpanKind, attributes: Attributes, seconds: float) -> Span:
        """Start a span that began ``seconds`` ago: the operation is over already."""
        began = time.time_ns() - int(seconds * 1e9)
        return self._tracer.start_span(name, kind=kind, attributes=attributes, start_time=began)

    def loading(self, region: str, key: str) -> AbstractContextManager[object]:
        return self._tracer.start_as_current_span(
            f"fill {region}", attributes=self._regions[region]
        )

    def bypass(self, region: str, reason: str) -> None:
        about = {"cachedorm.region": region, "cachedorm.reason": reason}
        trace.get_current_span().add_event("cachedorm.bypass", about)

    def error(self, what: str, error: BaseException) -> None:
        about = {"cachedorm.operation": what, "exception.type": type(error).__qualname__}
        trace.get_current_span().add_event("cachedorm.error", about)


def place_of(db: int, server: str) -> Attributes:
    """The attributes of a Redis database at a URL."""
    url = urlsplit(server)
    place: Attributes = {"db.system.name": "redis", "db.namespace": str(db)}
    place["server.address"] = url.hostname or url.path
    if url.port is not None:
        place["server.port"] = url.port
    return place


def _seconds(meter: Meter, name: str, text: str) -> Histogram:
    try:
        return meter.create_histogram(
            name, "s", text, explicit_bucket_boundaries_advisory=DURATION_BUCKETS
        )
    except TypeError:
        # An older API without advisory buckets: the SDK's views choose them.
        return meter.create_histogram(name, "s", text)
