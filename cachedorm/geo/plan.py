"""Nearby from a cache: exact for the very point asked, from what is cached of the cell around it.

The answer for a point q is the first k rows, by distance from q and then by primary key, of those
within r of q. What is cached is, for a cell with centre c, the rows within

    reach = min(r + h, d + 2h)    of c,

where h is the cell's half diagonal (no point of the cell is farther than h from c) and d is so
large that k rows lie within d of c; with fewer than k rows in the table, reach = r + h. This holds
every row of the answer for every point q of the cell. Let x be in the answer. Then:

* dist(x, c) <= dist(x, q) + dist(q, c) <= r + h.
* If k rows lie within d of c, all of them lie within d + h of q. Suppose dist(x, q) > d + h. The k
  rows are then nearer to q than x is, so within r, and come before x: x is not among the first k.
  So dist(x, q) <= d + h, and dist(x, c) <= d + 2h.

The triangle inequality holds on the spheroid, distances being lengths of shortest paths. Rounding
(nanometres) is covered by the centimetre that h is larger than it need be. The answer is picked
with the distances that PostGIS computes; where less than a millimetre decides about the order or
the end, PostGIS is asked.

The candidates can only change with a row that was, or comes, within r + h of c. That circle is
covered by at most four cells, whose stamps the entry carries; every write touches the cells that
its row was in and is in.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import (
    BindParameter,
    Column,
    Double,
    Integer,
    Select,
    Table,
    bindparam,
    case,
    cast,
    func,
    select,
)
from sqlalchemy.engine import Connection, Dialect, IteratorResult
from sqlalchemy.orm import Mapper, Session

from cachedorm.geo.candidates import SPLIT, Candidates, CandidatesCodec, Hit, Split
from cachedorm.geo.geodesy import geo_library, half_diagonal
from cachedorm.geo.geohash import PRECISION_MAX, box_of, cell_of, cell_tag, cover
from cachedorm.orm.database.compat import rows_result
from cachedorm.orm.database.profile import INTERNAL_OPTIONS, Profile
from cachedorm.orm.mapping.source import Readable, Source
from cachedorm.orm.reading.read_path import BYPASSED, Bypassed, ReadPath
from cachedorm.orm.reading.results import EntityElement, elements_of
from cachedorm.store.codec import UNDECODABLE
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.protocol.entry import FINGERPRINT_BYTES, Format
from cachedorm.store.protocol.keys import (
    EntryKey,
    Template,
    membership_tag,
    stamp_key,
    wildcard_tag,
)

# How many precisions a crowded cell is split down; beyond that the database answers.
SPLITS_MAX = 3
# How many keys, with their stamps, and how many splits a plan remembers.
CELL_KEYS_MAX = 20_000
SPLIT_SECONDS = 600.0
GEOHASH = frozenset("0123456789bcdefghjkmnpqrstuvwxyz")

RowValues = Mapping[str, Any]


class NearbyQuery(Protocol):
    """What a plan needs of the declaration that it answers."""

    mapper: Mapper[Any]
    template: Template
    ttl_ms: int | None
    precision: int
    max_candidates: int
    radius_max_m: float

    @property
    def table(self) -> Table: ...

    @property
    def statement(self) -> Select[Any]: ...

    @property
    def levels(self) -> tuple[int, ...]: ...

    def column(self, which: str) -> Column[Any]: ...

    def point(self, lat: Any, lon: Any) -> Any: ...

    def distance(self, point: Any) -> Any: ...


class NearbyPlan:
    """How one Nearby is keyed, stored, read and finished under one Cache."""

    def __init__(
        self,
        nearby: NearbyQuery,
        region: CachedRegion,
        database: str,
        profile: Profile,
        dialect: Dialect,
    ) -> None:
        self.query = nearby
        self.region = region
        self.mapper = nearby.mapper
        found = elements_of(nearby.statement, dialect, repr(nearby))
        entity = found.each[0]
        assert isinstance(entity, EntityElement)
        self._entity = entity
        self._names = tuple(each.name for each in found.each)
        self._extra = tuple(each.extra for each in found.each)
        self._candidates = _candidates_of(nearby, entity)
        self._levels = nearby.levels
        self._table = nearby.table.fullname
        self._wildcard = stamp_key(wildcard_tag(self._table))
        self._membership = stamp_key(membership_tag(self._table))
        self._finest = min(nearby.precision + SPLITS_MAX, PRECISION_MAX)
        self._key = lru_cache(CELL_KEYS_MAX)(self._key_made)
        self._half = lru_cache(CELL_KEYS_MAX)(lambda cell: half_diagonal(box_of(cell)))
        codec = CandidatesCodec(entity.plan.encode, entity.plan.decode)
        source = Source.of(nearby.mapper, (nearby.table,), profile)
        self.tables, self.is_from = source.tables, source.is_from
        fingerprint = self._fingerprint((database, *source.whose), dialect)
        self.form = Format(fingerprint, codec.encode, codec.decode)
        # Cells known to be split, and until when, so that a hit in one of them is one command.
        self._split: dict[str, float] = {}

    @property
    def stamps(self) -> tuple[str, ...]:
        """The stamps of which every entry carries at least one."""
        return (self._wildcard, self._membership)

    def key_of_texts(self, texts: Mapping[str, str]) -> EntryKey | None:
        """The key that these texts of its fields stand in; None if no call makes such a key."""
        cell, k = texts["geohash"], int(texts["k"])
        radius_m = float(Decimal(texts["radius"]) * 1000)
        if not 1 <= len(cell) <= PRECISION_MAX or not GEOHASH.issuperset(cell):
            return None
        if not 0 < radius_m <= self.query.radius_max_m or not 1 <= k <= self.query.max_candidates:
            return None
        return self._key(cell, radius_m, k)

    def readable(self, payload: bytes, most: int) -> Readable:
        """The candidates of a cell, or that it is split; raises only UNDECODABLE."""
        found = self.form.decode(payload)
        if isinstance(found, Split):
            return Readable("crowded cell, answered by smaller ones", 0, [])
        names = self._entity.plan.names
        rows = [dict(zip(names, row, strict=True)) for row in islice(found.rows, most)]
        return Readable("candidate", len(found), rows)

    def answer(
        self, session: Session, values: RowValues, path: ReadPath
    ) -> IteratorResult[Any] | Bypassed:
        """The rows for a point; BYPASSED where SQLAlchemy must read them."""
        reason = path.why_bypass(session, self)
        if reason is not None:
            path.count_bypass(self.region.settings.name, reason)
            return BYPASSED
        found: Candidates | Split = SPLIT
        for cell, key in self._cells(values):
            found = path.entry(session, self, self.region, key, self._load(cell, key, values))
            if not isinstance(found, Split):
                break
            self._remember(key)
        if isinstance(found, Split):
            path.observer.bypass(self.region.settings.name, "crowded cell")
            return BYPASSED
        nearest = found.nearest(values["lat"], values["lon"], values["radius_m"], values["k"])
        if nearest is None:
            path.observer.bypass(self.region.settings.name, "within a millimetre")
            return BYPASSED
        return self._result(session, found, nearest, key)

    def _result(
        self, session: Session, found: Candidates, nearest: list[Hit], key: EntryKey
    ) -> IteratorResult[Any] | Bypassed:
        try:
            rows = [found.rows[at] for at, _ in nearest]
        except UNDECODABLE:
            self.region.entries.delete((key,))
            return BYPASSED
        objects = self._entity.values(session, rows)
        made = [(each, metres) for each, (_, metres) in zip(objects, nearest, strict=True)]
        return rows_result(self._names, self._extra, (True, False), made)

    def _cells(self, values: RowValues) -> Iterator[tuple[str, EntryKey]]:
        """The cells to ask, one inside the other, but for those that are known to be split."""
        finest = cell_of(values["lat"], values["lon"], self._finest)
        for precision in range(self.query.precision, self._finest + 1):
            cell = finest[:precision]
            key = self._key(cell, values["radius_m"], values["k"])
            if precision == self._finest or not self._known_split(key):
                yield cell, key

    def _key_made(self, cell: str, radius_m: float, k: int) -> EntryKey:
        named = {"geohash": cell, "radius": radius_text(radius_m), "k": k}
        text = self.query.template.render(named, ("k",))
        south, west, north, east = box_of(cell)
        centre = (south + north) / 2, (west + east) / 2
        covering = cover(*centre, radius_m + self._half(cell), self._levels)
        narrow = (
            (self._membership,)
            if covering is None
            else tuple(stamp_key(cell_tag(self._table, each)) for each in covering)
        )
        return EntryKey(text, (self._wildcard, *narrow), self.form, self.query.ttl_ms)

    def _load(
        self, cell: str, key: EntryKey, values: RowValues
    ) -> Callable[[Connection], tuple[Any, bool]]:
        def load(connection: Connection) -> tuple[Candidates | Split, bool]:
            rows = connection.execute(
                self._candidates, self._bound(cell, values), execution_options=INTERNAL_OPTIONS
            ).all()
            if len(rows) > self.query.max_candidates:
                return SPLIT, True
            return _candidates(rows), True

        return load

    def _bound(self, cell: str, values: RowValues) -> dict[str, Any]:
        south, west, north, east = box_of(cell)
        half = self._half(cell)
        return {
            "lat": (south + north) / 2,
            "lon": (west + east) / 2,
            "reach_m": values["radius_m"] + half,
            "twice_m": 2 * half,
            "k": values["k"],
        }

    def _known_split(self, key: str) -> bool:
        until = self._split.get(key)
        if until is None:
            return False
        if time.monotonic() < until:
            return True
        self._split.pop(key, None)
        return False

    def _remember(self, key: str) -> None:
        if len(self._split) >= CELL_KEYS_MAX:
            self._split.clear()
        self._split[str(key)] = time.monotonic() + SPLIT_SECONDS

    def _fingerprint(self, database: tuple[str | None, ...], dialect: Dialect) -> bytes:
        digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
        query = str(self._candidates.compile(dialect=dialect))
        stored = self._entity.plan.signature
        text = (database, self.query.template.text, self.query.max_candidates, query, stored)
        digest.update(repr(text).encode())
        return digest.digest()

    def __repr__(self) -> str:
        return f"<NearbyPlan {self.query.template.text!r} splits known={len(self._split)}>"


def radius_text(radius_m: float) -> Decimal:
    """The radius in kilometres, exactly, as it stands in keys: 5 for 5000 m."""
    return Decimal(repr(radius_m)).scaleb(-3)


def _candidates(rows: Any) -> Candidates:
    return Candidates(
        array("d", (row[-2] for row in rows)),
        array("d", (row[-1] for row in rows)),
        [tuple(row[:-2]) for row in rows],
    )


def _candidates_of(nearby: NearbyQuery, entity: EntityElement) -> Select[Any]:
    """The SELECT of a cell's candidates: one statement, since what it reads must be one moment's.

    One more than is kept is fetched, so that a crowded cell is seen. PostGIS orders ``<->`` on the
    sphere, which is another order; but the largest of k true distances has k rows within it, which
    is all that the proof asks of d.
    """
    geography = nearby.column("geography")
    point = nearby.point(bindparam("lat", type_=Double()), bindparam("lon", type_=Double()))
    some = (
        select(nearby.distance(point).label("metres"))
        .where(geography.is_not(None))
        .order_by(geography.op("<->")(point))
        .limit(bindparam("k", type_=Integer()))
        .subquery("some")
    )
    enough = case((func.count() == bindparam("k", type_=Integer()), func.max(some.c.metres)))
    twice: BindParameter[float] = bindparam("twice_m", type_=Double())
    # LEAST leaves out what is null.
    reach = func.least(
        bindparam("reach_m", type_=Double()),
        select(enough + twice).select_from(some).scalar_subquery(),
    )
    geometry = cast(geography, geo_library("geoalchemy2").Geometry)
    columns = list(entity.plan.statement.selected_columns)
    # Limited before it is ordered: else a planner may walk the primary key instead of the index.
    near = (
        select(*columns, func.ST_Y(geometry).label("y_"), func.ST_X(geometry).label("x_"))
        .where(func.ST_DWithin(geography, point, reach))
        .limit(nearby.max_candidates + 1)
        .subquery("near")
    )
    keys: list[Any] = [near.c[column.key] for column in nearby.table.primary_key]
    return select(near).order_by(*keys)
