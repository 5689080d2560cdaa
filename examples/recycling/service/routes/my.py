"""A user's own page."""

from fastapi import APIRouter

from examples.recycling.service.access import Database, Own
from examples.recycling.service.answers import Done, Profile, ProfileChange
from examples.recycling.service.limits import ByUser
from examples.recycling.service.refusals import refusals, refuse_to_find
from models import User

router = APIRouter(tags=["my"], dependencies=[ByUser], responses=refusals(401, 403, 404, 422))


@router.get("/profile/{user_id}")
async def read_profile(user_id: Own, session: Database) -> Profile:
    """The user's profile."""
    user = await session.get(User, user_id)
    if user is None:
        refuse_to_find("User")
    return Profile.model_validate(user)


@router.put("/profile/{user_id}")
async def update_profile(user_id: Own, change: ProfileChange, session: Database) -> Done:
    """Change what is given of the profile."""
    # Locked, so that it cannot be gone between the look and the change.
    user = await session.get(User, user_id, with_for_update=True)
    if user is None:
        refuse_to_find("User")
    for name, value in change.given.items():
        setattr(user, name, value)
    await session.commit()
    return Done(message="Profile updated")
