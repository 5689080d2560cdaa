"""Distances on the WGS 84 spheroid, as PostGIS measures them.

PostGIS and pyproj both call GeographicLib's inverse geodesic from PROJ, so the two agree to some
nanometres; nothing here relies on more than a millimetre.
"""

from __future__ import annotations

import math
from array import array
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from cachedorm.errors import ConfigurationError

# Added to every bound, and the width within which a comparison of distances is not trusted: a
# thousand times what two versions of GeographicLib and the rounding of degrees can differ by.
SLACK_M = 0.01
DOUBT_M = 0.001

# The smallest radius of curvature of WGS 84, b^2/a at the equator along the meridian, rounded
# down. Every path on the spheroid is at least this many times as long as the path of the same
# latitudes and longitudes on the unit sphere, since there ds^2 = M^2 dlat^2 + N^2 cos^2(lat) dlon^2
# with M and N, the radii of curvature, nowhere smaller.
CURVATURE_MIN_M = 6_335_439.0

# (south, west, north, east), in degrees.
Box = tuple[float, float, float, float]

_HUNDREDTH_NM = 1e8  # PostGIS rounds to 1e-8 m what it gives as a distance


@cache
def geo_library(name: str) -> Any:
    """A library of the extra ``geo``, imported when first needed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"answering Nearby from a cache needs {name}: pip install 'cachedorm[geo]'"
        ) from error


@lru_cache(maxsize=1)
def _spheroid() -> Any:
    return geo_library("pyproj").Geod(ellps="WGS84")


def distances(lat: float, lon: float, lats: array[float], lons: array[float]) -> array[float]:
    """The distances in metres from one point to many, not rounded."""
    count = len(lats)
    found: array[float] = _spheroid().inv(
        array("d", (lon,)) * count,
        array("d", (lat,)) * count,
        lons[:],  # overwritten with the answer
        lats[:],
        inplace=True,
        return_back_azimuth=False,
    )[2]
    return found


def rounded(metres: float) -> float:
    """A distance as ST_Distance gives it."""
    return math.floor(metres * _HUNDREDTH_NM + 0.5) / _HUNDREDTH_NM


def half_diagonal(box: Box) -> float:
    """Metres from the box's centre that no point of the box is farther than, rounded up.

    The farthest point of a box of latitudes and longitudes is a corner. Along a parallel, distance
    grows with the difference in longitude: its derivative is the sine of the azimuth of arrival
    (times the parallel's radius), and an eastward geodesic arrives eastward. So the farthest point
    lies on the east or west side. That is part of a meridian, a geodesic, and along a geodesic the
    distance from a point is convex within a quarter of the globe: its maximum is at an end.
    """
    south, west, north, east = box
    lat, lon = (south + north) / 2, (west + east) / 2
    corners = distances(
        lat, lon, array("d", (south, south, north, north)), array("d", (west, east, west, east))
    )
    return math.ceil(max(corners) * 100) / 100 + SLACK_M


def around(lat: float, lon: float, metres: float) -> Box | None:
    """A box that holds all within a distance in metres; None near a pole.

    East may be beyond 180, west beyond -180: the box then crosses the antimeridian.
    """
    # In radians on the unit sphere, where a cap's box is known in closed form; see CURVATURE_MIN_M.
    reach = (metres + SLACK_M) / CURVATURE_MIN_M
    up = math.degrees(reach)
    if lat + up >= _POLAR or lat - up <= -_POLAR:
        return None
    # Below 1, since lat + up < 90 means sin(reach) < cos(lat).
    across = math.degrees(math.asin(math.sin(reach) / math.cos(math.radians(lat))))
    return (lat - up, lon - across, lat + up, lon + across)


_POLAR = 89.0
