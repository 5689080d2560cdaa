"""Where to bring what can be recycled."""

from fastapi import APIRouter

from examples.recycling.service.access import Database
from examples.recycling.service.answers import Center, CenterNearby
from examples.recycling.service.parameters import CenterId, Latitude, Longitude, RadiusKm
from examples.recycling.service.refusals import refusals, refuse_to_find
from models import RecycleCenter, nearby_centers

router = APIRouter(tags=["location"])


@router.get("/centers/nearby", responses=refusals(422))
async def read_nearby_centers(
    lat: Latitude, lon: Longitude, session: Database, radius: RadiusKm = 5
) -> list[CenterNearby]:
    """Up to 20 centres within the radius, nearest first."""
    rows = await session.execute(nearby_centers(lat=lat, lon=lon, radius_m=radius * 1000))
    return [
        CenterNearby(**Center.model_validate(center).model_dump(), distance_m=distance_m)
        for center, distance_m in rows
    ]


@router.get("/centers/{center_id}", responses=refusals(404, 422))
async def read_center(center_id: CenterId, session: Database) -> Center:
    """One centre."""
    center = await session.get(RecycleCenter, center_id)
    if center is None:
        refuse_to_find("Center")
    return Center.model_validate(center)
