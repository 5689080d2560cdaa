"""Tokens that are not to be accepted any more."""

from fastapi import APIRouter, HTTPException, Request

from examples.recycling.service.access import Asking, Database, require_own
from examples.recycling.service.answers import Done, RevocationAnswer, RevocationRequest
from examples.recycling.service.limits import ByRevoke, ByUser
from examples.recycling.service.parameters import Jti
from examples.recycling.service.refusals import refusals, refuse_to_find
from examples.recycling.service.resources import resources_of
from examples.recycling.service.revocations import revoke
from examples.recycling.service.tokens import TokenRefused
from models import Revocation

router = APIRouter(prefix="/auth", tags=["auth"], responses=refusals(401, 403, 422))


@router.post("/revoke", dependencies=[ByRevoke])
async def revoke_token(
    asked: RevocationRequest, caller: Asking, request: Request, session: Database
) -> Done:
    """Revoke a token of one's own: this one, or one that was left elsewhere.

    The token itself is asked for, as RFC 7009 does: nobody can end what he does not hold.
    """
    try:
        held = resources_of(request).tokens.read(asked.token, expired=True)
    except TokenRefused:
        raise HTTPException(403, "Not a token of yours") from None
    require_own(held.user_id, caller)
    await revoke(session, held.jti, held.user_id, asked.reason, held.expires_at)
    return Done(message="Token revoked")


@router.get("/revocations/{jti}", dependencies=[ByUser], responses=refusals(404))
async def read_revocation(jti: Jti, caller: Asking, session: Database) -> RevocationAnswer:
    """Since when and why a token of one's own is revoked."""
    found = await session.get(Revocation, jti)
    if found is None:
        refuse_to_find("Revocation")
    require_own(found.user_id, caller)
    return RevocationAnswer.model_validate(found)
