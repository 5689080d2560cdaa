"""Geohash cells: which one a point is in, which cover a circle, and the tags of a row in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column

from cachedorm.declare.queries.derived import DerivedTags
from cachedorm.errors import ArgumentError
from cachedorm.geo.geodesy import Box, around, geo_library
from cachedorm.store.protocol.keys import value_tag

# A cell of precision 3 is as wide as a country, one of 9 at most as wide as a house.
PRECISION_MIN, PRECISION_MAX = 3, 9
# How many cells' stamps an entry may carry beside its table's wildcard.
COVER_MAX = 4
# Degrees, a tenth of a millimetre: beyond what the arithmetic of cells and of degrees rounds off.
SLACK_DEG = 1e-9


def cell_of(lat: float, lon: float, precision: int) -> str:
    """The cell that a point is in; on a border, that of the north and east."""
    cell: str = geo_library("pygeohash").encode(lat, lon, precision)
    return cell


def box_of(cell: str) -> Box:
    """The sides of a cell."""
    lat, lon, up, across = geo_library("pygeohash").decode_exactly(cell)
    return (lat - up, lon - across, lat + up, lon + across)


def cells_at(lat: float, lon: float, levels: Sequence[int], slack: float) -> set[str]:
    """The cells, of each level, that a row is in or within ``slack`` degrees of.

    Raises ArgumentError for degrees that are not a place on earth.
    """
    if not (abs(lat) <= 90 and abs(lon) <= 180):  # a NaN neither
        raise ArgumentError(f"lat={lat!r}, lon={lon!r} is not a place on earth")
    slack += SLACK_DEG
    finest = max(levels)
    corners = {
        cell_of(_clamped(lat + up, 90.0), _clamped(lon + across, 180.0), finest)
        for up in (-slack, slack)
        for across in (-slack, slack)
    }
    return {corner[:level] for corner in corners for level in levels}


def cover(lat: float, lon: float, metres: float, levels: Iterable[int]) -> tuple[str, ...] | None:
    """The cells that hold all within ``metres`` of a point: at most four, of one level.

    They are of the finest of these levels at which four suffice. None where none does, or where a
    pole is near, around which the cells of every level run together.
    """
    box = around(lat, lon, metres)
    if box is None:
        return None
    for level in sorted(levels, reverse=True):
        cells = _cells_over(box, level)
        if cells is not None:
            return cells
    return None


def _cells_over(box: Box, level: int) -> tuple[str, ...] | None:
    south, west, north, east = box
    width, height = _sides(level)
    columns = round(360 / width)
    across = _indices(west + 180, east + 180, width)
    up = _indices(south + 90, north + 90, height)
    if len(across) * len(up) > COVER_MAX:
        return None
    named = (
        cell_of((row + 0.5) * height - 90, (column % columns + 0.5) * width - 180, level)
        for row in up
        for column in across
    )
    return tuple(dict.fromkeys(named))


def _indices(low: float, high: float, size: float) -> range:
    first, last = math.floor((low - SLACK_DEG) / size), math.floor((high + SLACK_DEG) / size)
    return range(first, last + 1)


def _clamped(degrees: float, limit: float) -> float:
    return max(-limit, min(limit, degrees))


def tag_levels(precision: int, radius_max_m: float) -> tuple[int, ...]:
    """The levels at which rows are tagged, for queries by cells of this precision.

    An entry depends on a circle wider than its own cell, so nothing finer than the cell helps.
    The coarsest is one whose cells, two by two, hold the widest circle up to 60 degrees north.
    A write touches one stamp a level for where its row was, and one for where it is.
    """
    width, height = _sides(precision)
    reach_m = radius_max_m + math.hypot(width, height) / 2 * _DEGREE_M
    narrow = (
        level
        for level in range(precision, 1, -1)
        if min(_sides(level)[0] * math.cos(math.radians(60)), _sides(level)[1]) * _DEGREE_M
        >= 2 * reach_m
    )
    return tuple(range(next(narrow, 1), precision + 1))


def _sides(level: int) -> tuple[float, float]:
    """The width and height of a level's cells, in degrees."""
    # Five bits a character, taken in turns, longitude first.
    return 360 / 2 ** ((5 * level + 1) // 2), 180 / 2 ** (5 * level // 2)


# A little less than a degree of latitude is anywhere.
_DEGREE_M = 110_000


def cell_tag(table: str, cell: str) -> str:
    """The tag of the rows in a cell."""
    return value_tag(table, "geohash", cell)


def cell_tags(
    db: int, table: str, lat: Column[Any], lon: Column[Any], levels: Sequence[int]
) -> DerivedTags:
    """The tags of the cells that a row of this table is in."""
    geo_library("pygeohash")  # missing, it is reported on attach, not when a row is written
    # A Numeric rounds what it is given to its scale.
    slack = max(_step(lat), _step(lon))

    def tags(row: Mapping[str, Any]) -> Iterator[str]:
        at = row[lat.name], row[lon.name]
        if None in at:
            return  # a row without a place is near no point
        for cell in cells_at(_degrees(at[0]), _degrees(at[1]), levels, slack):
            yield cell_tag(table, cell)

    name = f"geohash({lat.name},{lon.name}):{','.join(map(str, levels))}"
    return DerivedTags(db, name, (lat, lon), tags)


def _degrees(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"{value!r} is not degrees") from error


def _step(column: Column[Any]) -> float:
    scale = getattr(column.type, "scale", None)
    return 0.0 if scale is None else float(10.0**-scale)
