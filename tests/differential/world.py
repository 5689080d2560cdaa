"""100,000 rows all over the world, most of them where answering "nearby" is hard."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from geoalchemy2 import Geography
from sqlalchemy import Computed, Double, Engine, Index, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cachedorm import Region, Regions
from cachedorm.geo import Nearby

PLACES = Region("places", db=4, ttl=timedelta(hours=24), jitter=0)
ROWS = 100_000


class Base(DeclarativeBase):
    """Its own metadata: the application's tables stay out of it."""

    __cache_regions__ = Regions(PLACES)


class Spot(Base):
    """A place. Its key is text that PostgreSQL orders otherwise than Python does."""

    __tablename__ = "spots"

    id: Mapped[str] = mapped_column(String(20, collation="en-x-icu"), primary_key=True)
    note: Mapped[str] = mapped_column(String(40))
    lat: Mapped[float] = mapped_column(Double)
    lon: Mapped[float] = mapped_column(Double)
    location: Mapped[Any] = mapped_column(
        Geography("POINT", srid=4326, spatial_index=False),
        Computed("(ST_SetSRID(ST_MakePoint(lon, lat), 4326))::geography", persisted=True),
    )

    __table_args__ = (Index("ix_spots_location", location, postgresql_using="gist"),)


def nearby_by(precision: int, max_candidates: int = 500) -> Nearby:
    """The nearest spots, by cells of this precision, under keys of their own."""
    return Nearby(
        PLACES,
        key=f"spot:nearby{precision}:{max_candidates}:{{geohash}}:{{radius}}",
        model=Spot,
        geography=Spot.location,
        lat=Spot.lat,
        lon=Spot.lon,
        precision=precision,
        max_candidates=max_candidates,
    )


nearby = nearby_by(5)

# Cells of precision 5 have sides of 180 / 4096 degrees; their borders are multiples of that.
SIDE = 180 / 4096
SEOUL = (37.5665, 126.978)

# By the last two digits of a row's number: how many in a hundred, their latitude and longitude.
_KINDS = (
    # A city: dense in the middle.
    (50, "37.55 + (random() + random() + random() - 1.5) * 0.1",
     "126.98 + (random() + random() + random() - 1.5) * 0.14"),
    # A country.
    (20, "33 + random() * 6", "125 + random() * 5"),
    # The world.
    (15, "random() * 180 - 90", "random() * 360 - 180"),
    # Both poles, and the poles themselves.
    (3, "(90 - random() * random() * 1.5) * sign(random() - 0.5)", "random() * 360 - 180"),
    (1, "90 * sign(random() - 0.5)", "random() * 360 - 180"),
    # Both sides of the antimeridian, and the meridian itself by both its names.
    (3, "random() * 40 - 20", "(180 - random() * random() * 0.2) * sign(random() - 0.5)"),
    (1, "random() * 2 - 1", "180 * sign(random() - 0.5)"),
    # Borders of cells, one way and both ways.
    (2, f"(852 + floor(random() * 6)) * {SIDE!r}", "126.98 + random() * 0.1"),
    (1, f"(852 + floor(random() * 6)) * {SIDE!r}", f"(2888 + floor(random() * 6)) * {SIDE!r}"),
    # Many rows at one place.
    (2, "37.5 + floor(random() * 5) * 0.02", "127 + floor(random() * 5) * 0.02"),
    # A lattice around nowhere, full of equal distances.
    (2, "(floor(random() * 41) - 20) * 0.01", "(floor(random() * 41) - 20) * 0.01"),
)  # fmt: skip


def populate(engine: Engine, rows: int = ROWS, seed: float = 0.42) -> None:
    """Make the table and fill it; the same rows for the same seed."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("select setseed(:seed)"), {"seed": seed})
        connection.execute(text(_insert(rows)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze spots"))


def _insert(rows: int) -> str:
    return f"""
        insert into spots (id, note, lat, lon)
        select (array['a', 'B', 'c', 'D', 'e-', 'F_'])[1 + i % 6] || i, 'spot ' || i,
               {_case(1)}, {_case(2)}
        from generate_series(0, {rows - 1}) i
    """


def _case(which: int) -> str:
    branches, upto = [], 0
    for kind in _KINDS:
        upto += int(kind[0])
        branches.append(f"when i % 100 < {upto} then {kind[which]}")
    assert upto == 100
    return f"case {' '.join(branches)} end"
