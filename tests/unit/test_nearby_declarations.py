"""What a Nearby refuses: at declaration, and when it is called. Nothing here needs a server."""

from __future__ import annotations

import gc
import math
from datetime import timedelta
from typing import Any

import pytest
from geoalchemy2 import Geography
from sqlalchemy import Computed, Double, Float, Numeric
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    configure_mappers,
    mapped_column,
    relationship,
)

from cachedorm import Region
from cachedorm.declare.queries.derived import derived_count
from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.geo import Nearby
from tests.differential.world import PLACES, SEOUL, Spot, nearby


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lat": 90.1}, "lat=90.1; give a number from -90 to 90"),
        ({"lat": math.nan}, "lat=nan"),
        ({"lon": -180.1}, "from -180 to 180"),
        ({"lon": math.inf}, "lon=inf"),
        ({"lon": "126.9"}, "lon='126.9'"),
        ({"lat": None}, "lat=None"),
        ({"lat": True}, "lat=True"),
        ({"lat": 10**400}, "lat=1000"),
        ({"radius_m": 0}, "give metres above 0, at most 100000"),
        ({"radius_m": -1}, "from 0 to 100000"),
        ({"radius_m": 20_000_000}, "from 0 to 100000"),
        ({"radius_m": math.nan}, "radius_m=nan"),
        ({"k": 0}, "k=0; give a whole number from 1 to 500"),
        ({"k": 100_000}, "k=100000"),
        ({"k": 2.5}, "k=2.5"),
        ({"k": True}, "k=True"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong: dict[str, Any], says: str) -> None:
    """With what was given, and what may be."""
    right: dict[str, Any] = {"lat": SEOUL[0], "lon": SEOUL[1], "radius_m": 5000.0, "k": 20}
    with pytest.raises(ArgumentError) as caught:
        nearby(**{**right, **wrong})
    assert says in str(caught.value)


class Base(DeclarativeBase):
    pass


def model(name: str, **columns: Any) -> Any:
    """A mapped class with places, but for what these columns say."""
    made = {
        "__tablename__": name,
        "id": mapped_column(Numeric, primary_key=True),
        "lat": mapped_column(Double),
        "lon": mapped_column(Double),
        "at": mapped_column(
            Geography("POINT", srid=4326, spatial_index=False),
            Computed("(ST_SetSRID(ST_MakePoint(lon, lat), 4326))::geography"),
        ),
    }
    return type(name, (Base,), {**made, **columns})


@pytest.mark.parametrize(
    ("columns", "settings", "says"),
    [
        ({}, {"key": "near:{geohash}"}, "must have the fields {geohash} and {radius}"),
        ({}, {"precision": 2}, "precision=2; give a whole number from 3 to 9"),
        ({}, {"max_candidates": 0}, "max_candidates=0"),
        ({}, {"radius_max_m": 20_000_000}, "at most 1e+06"),
        ({}, {"lat": "latitude"}, "has no attribute latitude"),
        ({"lat": mapped_column(Float(24))}, {}, "use Double, or Numeric"),
        ({"at": mapped_column(Geography("POINT", srid=4326))}, {}, "must be generated from"),
        ({"at": mapped_column(Geography("POLYGON", srid=4326))}, {}, 'Geography("POINT"'),
        ({"at": mapped_column(Double)}, {}, 'Geography("POINT"'),
    ],
)
def test_what_cannot_work_is_refused_at_declaration(
    columns: dict[str, Any], settings: dict[str, Any], says: str
) -> None:
    """With what to do instead."""
    name = f"places_{abs(hash(says + str(columns)))}"
    mapped = model(name, **columns)
    given: dict[str, Any] = {"geography": "at", "lat": "lat", "lon": "lon", **settings}
    key = given.pop("key", "near:{geohash}:{radius}")
    with pytest.raises(DeclarationError) as caught:
        Nearby(PLACES, key, mapped, **given)(lat=0, lon=0, radius_m=1)
    assert says in str(caught.value)
    mapped.registry.dispose()


def test_relationships_loaded_eagerly_are_refused() -> None:
    """The entry would not hold them."""

    class Other(DeclarativeBase):
        pass

    class Place(Other):
        __tablename__ = "places"
        id: Mapped[int] = mapped_column(primary_key=True)
        lat: Mapped[float] = mapped_column(Double)
        lon: Mapped[float] = mapped_column(Double)
        at: Mapped[Any] = mapped_column(
            Geography("POINT", srid=4326),
            Computed("(ST_SetSRID(ST_MakePoint(lon, lat), 4326))::geography"),
        )
        twins: Mapped[list[Place]] = relationship(
            lazy="selectin", primaryjoin="foreign(Place.lat) == remote(Place.lat)", viewonly=True
        )

    Nearby(PLACES, "n:{geohash}:{radius}", Place, geography="at", lat="lat", lon="lon")
    with pytest.raises(DeclarationError, match="loads twins eagerly"):
        configure_mappers()
    Other.registry.dispose()


def test_a_region_outside_the_map_is_refused() -> None:
    """As for models and queries."""
    with pytest.raises(DeclarationError, match="elsewhere"):
        Nearby(
            Region("elsewhere", db=9, ttl=timedelta(hours=1)),
            "n:{geohash}:{radius}",
            Spot,
            geography="location",
            lat="lat",
            lon="lon",
        )


def test_repr_says_what_it_depends_on() -> None:
    """For whoever wonders why a write ends an entry."""
    assert "depends on the cells of lat, lon" in repr(nearby)


def test_each_declaration_counts() -> None:
    """One in the place of another that is gone is news to every Cache."""
    counted = []
    for _ in range(2):
        made = Nearby(
            PLACES, "again:{geohash}:{radius}", Spot, geography="location", lat="lat", lon="lon"
        )
        counted.append(derived_count())
        del made
        gc.collect()
    assert counted[0] < counted[1]
