"""What observers cost a hit: ``session.get`` of a cached row, with each of them attached.

    python -m benchmarks.observers                  prints the table
    python -m benchmarks.observers --before FOLDER  and that of an older checkout

One row of three columns on SQLite, a real Redis, an open session. Method: interleaved.py.
Baseline: the hit of a Cache without observers, so a ratio says what an observer adds. The SDK of
OpenTelemetry keeps metrics in memory, and its spans go nowhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.interleaved import compare, publish
from cachedorm.contrib.logs import StructuredLogs
from cachedorm.contrib.opentelemetry import OpenTelemetryMetrics, OpenTelemetryTraces
from cachedorm.contrib.prometheus import PrometheusCounters, PrometheusObserver
from examples.servers import PrivateRedis

BASELINE = "no observers"


def attached() -> dict[str, list[Any]]:
    """What is measured, by name."""
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    tracers = TracerProvider(shutdown_on_exit=False)
    return {
        BASELINE: [],
        "the same once more": [],
        "StructuredLogs": [StructuredLogs()],
        "PrometheusCounters": [PrometheusCounters(CollectorRegistry())],
        "PrometheusObserver": [PrometheusObserver(CollectorRegistry())],
        "OpenTelemetryMetrics, no SDK": [OpenTelemetryMetrics()],
        "OpenTelemetryMetrics, SDK": [OpenTelemetryMetrics(meters)],
        "OpenTelemetryTraces, no SDK": [OpenTelemetryTraces()],
        "OpenTelemetryTraces, SDK": [OpenTelemetryTraces(tracers)],
    }


@contextmanager
def hit(
    url: str, folder: Path, prefix: str, observers: Sequence[Any]
) -> Iterator[Callable[[], Any]]:
    """Reads a row that is cached, by whichever library is imported as ``cachedorm`` now."""
    library: Any = import_module("cachedorm")
    region = library.Region("bench", db=1, ttl=3600)

    class Base(DeclarativeBase):
        """The base of one contestant's table."""

    class Row(library.Cached, Base):  # type: ignore[misc]
        """What is read."""

        __tablename__ = "observed"
        __cache__ = library.CachePolicy(region, key=f"{prefix}:{{id}}")
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        visits: Mapped[int]

    engine = create_engine(f"sqlite:///{folder / prefix}.sqlite")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Row(id=1, name="김하늘", visits=42))
        session.commit()
    factory = sessionmaker(engine)
    with library.Cache(url, observers=observers) as cache:
        cache.attach(factory)
        session = factory()
        for _ in range(3):
            session.rollback()
            session.expunge_all()
            assert session.get(Row, 1) is not None
        assert cache.stats().hits["bench"] == 2

        def read() -> Any:
            session.expunge_all()
            return session.get(Row, 1)

        yield read
        session.close()
        cache.detach(factory)
        cache.detach(engine)
    engine.dispose()


@contextmanager
def library_of(folder: str) -> Iterator[None]:
    """``cachedorm`` is the one of this checkout, inside."""

    def ours() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "cachedorm"]

    kept = {name: sys.modules.pop(name) for name in ours()}
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in ours():
            del sys.modules[name]
        sys.modules.update(kept)


def main() -> None:
    """Print the table."""
    before = sys.argv[sys.argv.index("--before") + 1] if "--before" in sys.argv else None
    with ExitStack() as stack:
        url = stack.enter_context(PrivateRedis()).url
        folder = Path(stack.enter_context(TemporaryDirectory()))
        ways = {
            name: stack.enter_context(hit(url, folder, f"way{number}", observers))
            for number, (name, observers) in enumerate(attached().items())
        }
        if before is not None:
            with library_of(before):
                name = f"no observers, {before}"
                ways[name] = stack.enter_context(hit(url, folder, "before", ()))
        rounds = int(os.environ.get("ROUNDS", "40"))
        figures = compare(ways, baseline=BASELINE, rounds=rounds)
    publish(__file__, "Observers", __doc__, figures, {})


if __name__ == "__main__":
    main()
