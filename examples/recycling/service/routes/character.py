"""The character of a user."""

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from examples.recycling.service.access import Database, Own
from examples.recycling.service.answers import CharacterState, Done
from examples.recycling.service.limits import ByExp, ByUser
from examples.recycling.service.parameters import Exp
from examples.recycling.service.refusals import not_taken, refusals, refuse_to_find
from examples.recycling.service.routes.found import check_user
from models import Character, character_state

router = APIRouter(
    tags=["character"], dependencies=[ByUser], responses=refusals(401, 403, 404, 422)
)


@router.get("/character/{user_id}")
async def read_character(user_id: Own, session: Database) -> CharacterState:
    """The character, and how its missions stand."""
    row = (await session.execute(character_state(user_id=user_id))).one_or_none()
    if row is None:
        await check_user(session, user_id)
        refuse_to_find("Character")
    character, total, completed = row
    return CharacterState(
        user_id=character.user_id,
        name=character.name,
        level=character.level,
        exp=character.exp,
        exp_required=character.exp_required,
        total_missions=total,
        completed_missions=completed,
    )


@router.post("/character/{user_id}/exp", dependencies=[ByExp])
async def gain_exp(user_id: Own, exp: Exp, session: Database) -> Done:
    """Add experience, and rise as many levels as it gives."""
    character = await locked(session, user_id)
    try:
        await session.run_sync(lambda _: character.gain_exp(exp))
    except ValueError as full:
        raise not_taken("query", "exp", str(full)) from None
    await session.commit()
    return Done(message="Exp gained")


async def locked(session: AsyncSession, user_id: str) -> Character:
    """The character, which nobody else changes until the transaction ends; or 404."""
    character = await session.get(Character, user_id, with_for_update=True)
    if character is None:
        await check_user(session, user_id)
        refuse_to_find("Character")
    return character
