"""What a long comparison came to, and how it is written down."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy
from sqlalchemy import Engine, text

from cachedorm import Cache
from tests.differential.world import ROWS

REPORT = Path(__file__).parents[2] / "benchmarks" / "nearby_differential.md"


@dataclass
class Report:
    """What was compared, and what came of it."""

    comparisons: int = 0
    rows: int = 0
    places: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    farthest_apart_m: float = 0.0
    seconds: float = 0.0


def described(report: Report, cache: Cache, engine: Engine) -> str:
    """The report, as Markdown."""
    stats = cache.stats()
    with engine.connect() as connection:
        postgis = connection.scalar(text("select postgis_lib_version()"))
    lines = [
        "# Nearby against PostGIS",
        "",
        "`make differential` compares every answer with the plain query's: rows, all their columns,"
        " order, distances.",
        "",
        "| | |",
        "|---|---|",
        f"| comparisons | {report.comparisons:,} |",
        f"| **differences** | **{len(report.differences)}** |",
        f"| rows compared | {report.rows:,} |",
        f"| farthest apart two distances were | {report.farthest_apart_m:.1e} m |",
        f"| places asked | {_counted(report.places)} |",
        f"| writes in between | {_counted(report.writes)} |",
        f"| entries read | {stats.hits.total():,} hits, {stats.misses.total():,} misses |",
        f"| left to PostGIS | {_counted(_left(cache))} |",
        f"| rows in the table | {ROWS:,} |",
        f"| took | {report.seconds:.0f} s |",
        f"| on | PostGIS {postgis}, SQLAlchemy {sqlalchemy.__version__} |",
        "",
    ]
    return "\n".join(lines + [f"- {each}" for each in report.differences])


def _left(cache: Cache) -> Counter[str]:
    return Counter({reason: count for (_, reason), count in cache.stats().bypasses.items()})


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"
