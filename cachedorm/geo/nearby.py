"""Nearby: the k nearest rows within a radius of a point, exact for the very point asked.

Without a cache it is plain PostGIS, on the spheroid. With one, what is cached is not an answer but
the candidates of a geohash cell, which suffice for every point of it; see ``geo/plan.py``.
"""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    REAL,
    Column,
    Double,
    Float,
    Integer,
    Numeric,
    Select,
    Table,
    bindparam,
    cast,
    event,
    func,
    select,
    type_coerce,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, QueryableAttribute, class_mapper

from cachedorm.declare.policies.region import Region, Regions, milliseconds
from cachedorm.declare.queries.derived import DerivedQuery, DerivedTags
from cachedorm.declare.statement import QueryCall, called
from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.geo.geohash import PRECISION_MAX, PRECISION_MIN, cell_tags, tag_levels
from cachedorm.geo.plan import NearbyPlan
from cachedorm.orm.database.profile import Profile
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.protocol.keys import Template

CANDIDATES_MAX = 10_000
RADIUS_MAX_M = 1_000_000.0

_FIELDS = ("geohash", "radius")
_EAGER = frozenset({"joined", "selectin", "subquery", "immediate", False})
_SRID = 4326


class Nearby(DerivedQuery):
    """The k nearest within r metres of a point, of one mapped class, as a statement to execute.

    ``lat`` and ``lon`` are the truth, ``geography`` is generated from them; each is given as an
    attribute or its name. ``key`` has the fields ``{geohash}``, a cell of ``precision`` characters,
    and ``{radius}``, in kilometres; what else tells entries apart is appended. A cell with more
    than ``max_candidates`` is split into smaller ones. ``radius_max_m`` bounds what may be asked.

    Calling it gives the statement; its rows are the entity and ``distance_m``, nearest first, the
    primary key deciding between equals. Raises DeclarationError when mappers configure.
    """

    kind: ClassVar[str] = "nearby"
    appended = ("k",)

    def __init__(
        self,
        region: Region,
        key: str,
        model: type[Any],
        *,
        geography: Any,
        lat: Any,
        lon: Any,
        precision: int = 5,
        max_candidates: int = 500,
        radius_max_m: float = 100_000,
        ttl: timedelta | float | None = None,
    ) -> None:
        self.region = region
        self.template = Template(key)
        self.model = model
        self.precision = precision
        self.max_candidates = max_candidates
        self.radius_max_m = radius_max_m
        self.ttl_ms = region.ttl_ms if ttl is None else milliseconds(ttl, f"{self._who}: ttl")
        self._names = tuple(_name(each) for each in (geography, lat, lon))
        self._check_settings()
        self.mapper: Mapper[Any] = class_mapper(model, configure=False)
        if self.mapper.configured:
            self._configure(self.mapper, model)
        else:
            event.listen(self.mapper, "mapper_configured", self._configure)
        self.declare()

    def __call__(  # type: ignore[override]
        self, *, lat: float, lon: float, radius_m: float, k: int = 20
    ) -> Select[Any]:
        """The statement for this point: plain SQL to a session that no Cache serves.

        ``lat`` and ``lon`` in degrees. Raises ArgumentError for what is out of range.
        """
        values = {
            "lat": _number(self._who, "lat", lat, -90.0, 90.0),
            "lon": _number(self._who, "lon", lon, -180.0, 180.0),
            "radius_m": _number(self._who, "radius_m", radius_m, 0.0, self.radius_max_m),
            "k": self._checked_k(k),
        }
        if values["radius_m"] <= 0:
            raise ArgumentError(
                f"{self._who}: radius_m={radius_m!r}; give metres above 0, at most"
                f" {self.radius_max_m:g}"
            )
        return called(self.statement, QueryCall(self, values))

    @property
    def statement(self) -> Select[Any]:
        """The plain PostGIS query, whose parameters are lat, lon, radius_m and k."""
        # The class may be mapped, and this be called, before anything configured the mappers.
        if not self.mapper.configured:
            self.mapper.registry.configure()
        return self._statement

    @property
    def name(self) -> str:
        """The key's template and the model."""
        return f"{self.template.text} of {self.model.__name__}"

    @property
    def levels(self) -> tuple[int, ...]:
        """The lengths of the cells by which rows are tagged."""
        return tag_levels(self.precision, self.radius_max_m)

    @property
    def depends_on(self) -> str:
        """The text of the cells' tags."""
        lat, lon = self.column("lat").name, self.column("lon").name
        return f"{self.table.fullname}.geohash({lat},{lon})"

    def derived_tags(self) -> DerivedTags:
        """The cells' tags; ConfigurationError without the extra ``geo``."""
        lat, lon = self.column("lat"), self.column("lon")
        return cell_tags(self.region.db, self.table.fullname, lat, lon, self.levels)

    def plan(
        self, region: CachedRegion, database: str, profile: Profile, dialect: Dialect
    ) -> NearbyPlan:
        """How its entries are keyed, stored and read under one Cache."""
        return NearbyPlan(self, region, database, profile, dialect)

    @property
    def table(self) -> Table:
        """The table that the rows are in."""
        table = self.mapper.local_table
        assert isinstance(table, Table)
        return table

    def column(self, which: str) -> Column[Any]:
        """The column that stands for ``geography``, ``lat`` or ``lon``."""
        name = self._names[("geography", "lat", "lon").index(which)]
        column: Column[Any] = self.mapper.get_property(name, _configure_mappers=False).columns[0]
        return column

    def point(self, lat: Any, lon: Any) -> Any:
        """A point as SQL has it, of the geography's own type."""
        made = func.ST_SetSRID(func.ST_MakePoint(lon, lat), _SRID)
        return cast(made, self.column("geography").type)

    def distance(self, point: Any) -> Any:
        """The distance to a point, in metres on the spheroid, as SQL has it."""
        return type_coerce(func.ST_Distance(self.column("geography"), point), Double())

    def __repr__(self) -> str:
        return (
            f"<Nearby {self.template.text} in {self.region.name}: {self.model.__name__} by cells of"
            f" precision {self.precision}; depends on the cells of {', '.join(self._names[1:])}>"
        )

    @property
    def _who(self) -> str:
        return f"Nearby({self.template.text!r})"

    def _checked_k(self, k: Any) -> int:
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self.max_candidates:
            raise ArgumentError(
                f"{self._who}: k={k!r}; give a whole number from 1 to {self.max_candidates}"
                " (max_candidates)"
            )
        return k

    def _check_settings(self) -> None:
        if sorted(self.template.fields) != sorted(_FIELDS):
            raise DeclarationError(
                f"{self._who}: its key must have the fields {{geohash}} and {{radius}} and no other"
            )
        _check_whole(self._who, "precision", self.precision, PRECISION_MIN, PRECISION_MAX)
        _check_whole(self._who, "max_candidates", self.max_candidates, 1, CANDIDATES_MAX)
        if not 0 < self.radius_max_m <= RADIUS_MAX_M:
            raise DeclarationError(
                f"{self._who}: radius_max_m={self.radius_max_m!r}; give metres above 0, at most"
                f" {RADIUS_MAX_M:g}"
            )

    def _configure(self, mapper: Mapper[Any], model: type[Any]) -> None:
        """Check what only a configured mapper shows, and build the plain statement."""
        self._check_mapper(mapper)
        self._check_columns()
        regions = getattr(model, "__cache_regions__", None)
        if isinstance(regions, Regions):
            regions.require(self.region, self._who)
        point = self.point(bindparam("lat", type_=Double()), bindparam("lon", type_=Double()))
        distance = self.distance(point).label("distance_m")
        within = func.ST_DWithin(
            self.column("geography"), point, bindparam("radius_m", type_=Double())
        )
        self._statement: Select[Any] = (
            select(model, distance)
            .where(within)
            .order_by(distance, *mapper.primary_key)
            .limit(bindparam("k", type_=Integer()))
        )

    def _check_mapper(self, mapper: Mapper[Any]) -> None:
        name = mapper.class_.__name__
        if not isinstance(mapper.local_table, Table) or len(mapper.tables) != 1:
            raise DeclarationError(f"{self._who}: {name} must be mapped to one table")
        if mapper.polymorphic_on is not None or mapper.inherits is not None:
            raise DeclarationError(f"{self._who}: {name} must not be part of an inheritance")
        eager = [each.key for each in mapper.relationships if each.lazy in _EAGER]
        if eager:
            raise DeclarationError(
                f"{self._who}: {name} loads {', '.join(eager)} eagerly, which its entries do not"
                ' hold; use lazy="select" there'
            )

    def _check_columns(self) -> None:
        missing = [name for name in self._names if not self.mapper.has_property(name)]
        if missing:
            raise DeclarationError(
                f"{self._who}: {self.model.__name__} has no attribute {', '.join(missing)}"
            )
        for which in ("lat", "lon"):
            self._check_degrees(which)
        column, lat, lon = (self.column(each) for each in ("geography", "lat", "lon"))
        kind = getattr(column.type, "geometry_type", None)
        if getattr(column.type, "name", None) != "geography" or kind != "POINT":
            raise DeclarationError(
                f'{self._who}: {column} must be a Geography("POINT", srid={_SRID})'
            )
        if getattr(column.type, "srid", None) != _SRID:
            raise DeclarationError(f"{self._who}: {column} must have srid={_SRID} (WGS 84)")
        generated = "" if column.computed is None else str(column.computed.sqltext)
        if lat.name not in generated or lon.name not in generated:
            raise DeclarationError(
                f"{self._who}: {column} must be generated from {lat.name} and {lon.name}, so that"
                " they tell where a row is; declare Computed("
                f'"(ST_SetSRID(ST_MakePoint({lon.name}, {lat.name}), {_SRID}))::geography")'
            )

    def _check_degrees(self, which: str) -> None:
        column = self.column(which)
        exact = isinstance(column.type, Double | Numeric) and not isinstance(column.type, REAL)
        short = isinstance(column.type, Float) and (column.type.precision or 53) < 53
        if not exact or short or not isinstance(column, Column):
            raise DeclarationError(
                f"{self._who}: {column} has type {column.type!r}, whose values Python does not see"
                " as the database does; use Double, or Numeric"
            )


def _name(attribute: Any) -> str:
    if isinstance(attribute, QueryableAttribute):
        return attribute.key
    # Inside the class body, or from __table__: a column property or a column.
    return str(attribute)


def _check_whole(who: str, name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise DeclarationError(f"{who}: {name}={value!r}; give a whole number from {low} to {high}")


def _number(who: str, name: str, value: Any, low: float, high: float) -> float:
    number = math.nan
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except (OverflowError, ValueError):  # a huge integer, a signalling NaN
            number = math.nan
    # Also false for NaN; -0.0 is 0.0, so that it has the same key.
    if not low <= number <= high:
        raise ArgumentError(f"{who}: {name}={value!r}; give a number from {low:g} to {high:g}")
    return number + 0.0
