"""Revoking a token. The table is the truth; Redis hears of it before this returns."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from models import Revocation


async def revoke(
    session: AsyncSession, jti: str, user_id: str, reason: str, expires_at: datetime
) -> None:
    """Have this token refused from now on, by every process; twice is once. Commits.

    Written through to ``blacklist:{jti}`` with the token's remaining life. If Redis cannot be
    reached, others may still let the token in for as long as they remember "not revoked": 5 s.
    """
    session.add(Revocation(jti=jti, user_id=user_id, reason=reason, expires_at=expires_at))
    try:
        await session.commit()
    except IntegrityError:
        # Somebody was first; who revoked it and why stays as it is.
        await session.rollback()
