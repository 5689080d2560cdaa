"""Whether there is such a user, where what was asked for does not say."""

from sqlalchemy.ext.asyncio import AsyncSession

from examples.recycling.service.refusals import refuse_to_find
from models import User


async def check_user(session: AsyncSession, user_id: str) -> None:
    """404 if there is no such user: a valid token may outlive its user."""
    if await session.get(User, user_id) is None:
        refuse_to_find("User")
