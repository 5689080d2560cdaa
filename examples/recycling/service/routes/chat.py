"""What a user asked, and what was answered."""

from fastapi import APIRouter

from examples.recycling.service.access import Database, Own
from examples.recycling.service.answers import ConversationAnswer
from examples.recycling.service.limits import ByUser
from examples.recycling.service.parameters import HistoryLimit
from examples.recycling.service.refusals import refusals
from examples.recycling.service.routes.found import check_user
from models import chat_history

router = APIRouter(tags=["chat"], dependencies=[ByUser], responses=refusals(401, 403, 404, 422))


@router.get("/chat/history/{user_id}")
async def read_chat_history(
    user_id: Own, session: Database, limit: HistoryLimit = 10
) -> list[ConversationAnswer]:
    """The last conversations, newest first."""
    found = (await session.scalars(chat_history(user_id=user_id, limit=limit))).all()
    if not found:
        await check_user(session, user_id)
    return [ConversationAnswer.model_validate(each) for each in found]
