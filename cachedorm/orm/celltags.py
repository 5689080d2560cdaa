"""The tags of a row that has a place: the cells that it is in, of each level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column

from cachedorm.declare.nearby import Nearby
from cachedorm.errors import ArgumentError
from cachedorm.orm.cells import cells_at, tag_levels
from cachedorm.orm.geodesy import geo_library
from cachedorm.store.keys import value_tag

Values = Mapping[str, Any]
TagsOf = Callable[[Values], Iterator[str]]


def cell_tag(table: str, cell: str) -> str:
    """The tag of the rows in a cell."""
    return value_tag(table, "geohash", cell)


def cell_tags(nearby: Nearby) -> tuple[str, tuple[Column[Any], Column[Any]], TagsOf]:
    """How the tags are made, of which columns, and the tags of a row with these columns' values.

    The tags raise KeyError for a value that is not known, ArgumentError for what is no place.
    """
    geo_library("pygeohash")  # said when a Cache is attached, not when a row is written
    lat, lon = nearby.column("lat"), nearby.column("lon")
    table, levels = nearby.table.fullname, tag_levels(nearby.precision, nearby.radius_max_m)
    # A Numeric keeps so many places of what it is given.
    slack = max(_step(lat), _step(lon))

    def tags(row: Values) -> Iterator[str]:
        at = row[lat.name], row[lon.name]
        if None in at:
            return  # no place, so near none
        for cell in cells_at(_degrees(at[0]), _degrees(at[1]), levels, slack):
            yield cell_tag(table, cell)

    made = f"geohash({lat.name},{lon.name}):{','.join(map(str, levels))}"
    return made, (lat, lon), tags


def _degrees(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"{value!r} is not degrees") from error


def _step(column: Column[Any]) -> float:
    scale = getattr(column.type, "scale", None)
    return 0.0 if scale is None else float(10.0**-scale)
