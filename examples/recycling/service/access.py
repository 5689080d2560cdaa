"""Who is asking, and whether it is theirs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from cachedorm.contrib.fastapi import session_of
from examples.recycling.service.parameters import USER_ID
from examples.recycling.service.refusals import unauthorized
from examples.recycling.service.resources import resources_of
from examples.recycling.service.tokens import Caller, TokenRefused
from models import Revocation

Database = Annotated[
    AsyncSession, Depends(session_of(lambda request: resources_of(request).sessions))
]

bearer = HTTPBearer(bearerFormat="JWT", description="A token of ours", auto_error=False)


async def asking(
    request: Request,
    session: Database,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Caller:
    """The holder of the request's token; 401 without a valid one that nobody revoked.

    The table is asked, through the cache: with Redis away it answers itself, and while it cannot
    answer, only a "not revoked" of the last 5 s lets anybody in.
    """
    if credentials is None:
        raise unauthorized("Not authenticated", token=False)
    try:
        caller = resources_of(request).tokens.read(credentials.credentials)
    except TokenRefused as why:
        raise unauthorized(str(why)) from None
    if await session.get(Revocation, caller.jti) is not None:
        raise unauthorized("Token revoked")
    return caller


Asking = Annotated[Caller, Depends(asking)]


async def own(user_id: Annotated[str, Path(**USER_ID)], caller: Asking) -> str:
    """The user in the path, if that is who asks; else 403."""
    require_own(user_id, caller)
    return user_id


Own = Annotated[str, Depends(own)]


def require_own(user_id: str, caller: Caller) -> None:
    """403 unless this is the caller."""
    if user_id != caller.user_id:
        raise HTTPException(403, "Not yours")
