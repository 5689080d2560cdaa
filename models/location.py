"""Where to bring what can be recycled."""

from geoalchemy2 import Geography, WKBElement
from sqlalchemy import CheckConstraint, Computed, Double, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from cachedorm import Cached, CachePolicy
from cachedorm.geo import Nearby
from models.base import Base, Moment, new_id
from models.regions import LOCATION


class RecycleCenter(Cached, Base):
    """One recycling centre. `lat` and `lon` are the truth, `location` is derived from them.

    Also read as `nearby_centers`: the nearest centres around a point.
    """

    __tablename__ = "recycle_centers"
    __cache__ = CachePolicy(LOCATION, key="location:center:{center_id}")

    center_id: Mapped[str] = mapped_column("id", String(64), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(120))
    address: Mapped[str] = mapped_column(String(255))
    lat: Mapped[float] = mapped_column(Double)
    lon: Mapped[float] = mapped_column(Double)
    location: Mapped[WKBElement] = mapped_column(
        # The index is named below with all the others, not by geoalchemy2 on its own.
        Geography("POINT", srid=4326, spatial_index=False),
        Computed("(ST_SetSRID(ST_MakePoint(lon, lat), 4326))::geography", persisted=True),
    )
    created_at: Mapped[Moment]

    __table_args__ = (
        # A geography bends what is out of range into range; a wrong row must be refused instead.
        CheckConstraint("lat BETWEEN -90 AND 90", name="lat"),
        CheckConstraint("lon BETWEEN -180 AND 180", name="lon"),
        Index("ix_recycle_centers_location", location, postgresql_using="gist"),
        {"schema": "location_db"},
    )


nearby_centers = Nearby(
    LOCATION,
    key="location:nearby:{geohash}:{radius}",
    model=RecycleCenter,
    geography=RecycleCenter.location,
    lat=RecycleCenter.lat,
    lon=RecycleCenter.lon,
    precision=5,
)
"""Up to k centres (20) within a radius of a point, nearest first, each with its `distance_m`.

`radius_m` is metres; the key has it in kilometres, as the document does.
"""
