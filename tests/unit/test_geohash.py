"""Cells and distances: what the exactness of "nearby" rests on."""

from __future__ import annotations

import math
import random
from array import array
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Geod

from cachedorm.errors import ArgumentError
from cachedorm.geo.geodesy import SLACK_M, Box, around, distances, half_diagonal, rounded
from cachedorm.geo.geohash import COVER_MAX, box_of, cell_of, cells_at, cover, tag_levels

LATS = st.floats(-90, 90)
LONS = st.floats(-180, 180)
PRECISIONS = st.integers(3, 9)
METRES = st.floats(1, 1_000_000)
# The first geodesic of a process takes as long as it takes.
unhurried = settings(deadline=None)


def metres(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The distance between two points."""
    return distances(*one, array("d", [other[0]]), array("d", [other[1]]))[0]


def inside(box: Box, share_up: float, share_across: float) -> tuple[float, float]:
    """A point of the box; shares of 0 and 1 are on its sides."""
    south, west, north, east = box
    return south + (north - south) * share_up, west + (east - west) * share_across


def middle(box: Box) -> tuple[float, float]:
    """The box's centre."""
    return inside(box, 0.5, 0.5)


@unhurried
@given(LATS, LONS, PRECISIONS)
def test_a_point_is_in_its_cell(lat: float, lon: float, precision: int) -> None:
    """The sides of the cell that a point is said to be in are around it."""
    south, west, north, east = box_of(cell_of(lat, lon, precision))
    assert south - 1e-12 <= lat <= north + 1e-12
    assert west - 1e-12 <= lon <= east + 1e-12


@unhurried
@given(LATS, LONS, PRECISIONS, st.floats(0, 1), st.floats(0, 1))
def test_no_point_of_a_cell_is_beyond_half_its_diagonal(
    lat: float, lon: float, precision: int, up: float, across: float
) -> None:
    """Wherever the cell lies, and wherever in it the point."""
    box = box_of(cell_of(lat, lon, precision))
    half = half_diagonal(box)
    for point in [inside(box, up, across), *(inside(box, *at) for at in product((0, 1), (0, 1)))]:
        assert metres(middle(box), point) <= half - SLACK_M / 2


def test_half_a_diagonal_is_not_much_more_than_it_must_be() -> None:
    """A larger one would only cost candidates, but many."""
    box = box_of("wydm9")
    assert half_diagonal(box) == pytest.approx(metres(middle(box), inside(box, 0, 0)), abs=0.03)
    assert 3000 < half_diagonal(box) < 3200


@unhurried
# Northward from the equator the spheroid is bent most: most degrees to a metre.
@example(0.0, 0.0, 100_000.0, 0.0, 1.0)
@given(LATS, LONS, METRES, st.floats(0, 360), st.floats(0, 1))
def test_what_is_near_is_in_the_box_around(
    lat: float, lon: float, reach: float, azimuth: float, share: float
) -> None:
    """Every point within so many metres is in the box, by one of the names of its meridian."""
    box = around(lat, lon, reach)
    if box is None:
        assert abs(lat) + math.degrees(reach / 6_335_000) >= 88.9
        return
    there_lon, there_lat, _ = Geod(ellps="WGS84").fwd(lon, lat, azimuth, reach * share)
    south, west, north, east = box
    assert south <= there_lat <= north
    assert any(west <= there_lon + turn <= east for turn in (-360, 0, 360))


@unhurried
@given(LATS, LONS, METRES, st.floats(0, 360), st.floats(0, 1))
def test_a_cover_holds_the_cell_of_all_that_is_near(
    lat: float, lon: float, reach: float, azimuth: float, share: float
) -> None:
    """A row anywhere within reach has one of the cover's cells among its tags."""
    levels = tag_levels(5, 1_000_000)
    cells = cover(lat, lon, reach, levels)
    if cells is None:
        return
    assert len(cells) <= COVER_MAX
    there_lon, there_lat, _ = Geod(ellps="WGS84").fwd(lon, lat, azimuth, reach * share)
    assert cells_at(there_lat, there_lon, levels, 0.0) & set(cells)


def test_an_ordinary_circle_is_covered_by_small_cells() -> None:
    """A few kilometres in Seoul depend on cells of some twenty, not on the country."""
    cells = cover(37.5665, 126.978, 8_000, tag_levels(5, 100_000))
    assert cells is not None
    assert {len(cell) for cell in cells} == {4}


def test_a_circle_across_the_antimeridian_is_covered_from_both_sides() -> None:
    """The cells on the other side are named as the rows there name them."""
    cells = cover(0.5, 179.99, 5_000, (2, 3, 4, 5))
    assert cells is not None
    for lon in (179.96, 179.999, 180.0, -180.0, -179.99, -179.97):
        assert cells_at(0.5, lon, (2, 3, 4, 5), 0.0) & set(cells)


@pytest.mark.parametrize("lat", [90.0, 89.95, -89.95, -90.0])
def test_no_few_cells_cover_a_pole(lat: float) -> None:
    """Every cell of the last row touches it, so the whole table is depended on."""
    assert cover(lat, 0.0, 1_000, (2, 3, 4, 5)) is None


def test_a_row_on_a_border_is_in_the_cells_of_both_sides() -> None:
    """Whichever side rounding puts it on, one of its tags is the query's."""
    border = 852 * 180 / 4096
    assert len(cells_at(border, 126.98, (5,), 0.0)) == 2
    assert len(cells_at(border + 0.001, 126.98, (5,), 0.0)) == 1


def test_cells_nest() -> None:
    """A row's larger cells are around its smaller ones."""
    assert cells_at(37.5665, 126.978, (2, 3, 4, 5), 0.0) == {"wy", "wyd", "wydm", "wydm9"}


@pytest.mark.parametrize(
    ("lat", "lon"), [(90.1, 0.0), (0.0, -180.5), (math.nan, 0.0), (0.0, math.inf)]
)
def test_what_is_no_place_has_no_cells(lat: float, lon: float) -> None:
    """PostGIS bends such values into range; here they are an error, and so the whole table."""
    with pytest.raises(ArgumentError, match="not a place on earth"):
        cells_at(lat, lon, (5,), 0.0)


@pytest.mark.parametrize(
    ("radius_max_m", "levels"),
    [(1_000, (4, 5)), (5_000, (4, 5)), (100_000, (2, 3, 4, 5)), (1_000_000, (1, 2, 3, 4, 5))],
)
def test_rows_are_tagged_as_coarsely_as_the_widest_circle_needs(
    radius_max_m: float, levels: tuple[int, ...]
) -> None:
    """Each level is one more stamp for every write."""
    assert tag_levels(5, radius_max_m) == levels


def test_distances_are_rounded_as_postgis_rounds_them() -> None:
    """To a hundredth of a micrometre."""
    assert rounded(1.234567894) == 1.23456789
    assert rounded(0.0) == 0.0


def test_distances_leave_what_they_are_given_alone() -> None:
    """The geodesic is computed in place, in copies."""
    lats, lons = array("d", [1.0, 2.0]), array("d", [3.0, 4.0])
    distances(0.0, 0.0, lats, lons)
    assert (list(lats), list(lons)) == ([1.0, 2.0], [3.0, 4.0])


def test_many_random_circles_find_a_level() -> None:
    """Away from the poles the default reach never falls back to the whole table."""
    draw = random.Random(7)
    levels = tag_levels(5, 100_000)
    for _ in range(2_000):
        lat, lon = draw.uniform(-60, 60), draw.uniform(-180, 180)
        assert cover(lat, lon, draw.uniform(1, 103_500), levels) is not None
