"""How to recycle what."""

from fastapi import APIRouter

from examples.recycling.service.access import Database
from examples.recycling.service.answers import GuideAnswer
from examples.recycling.service.parameters import Category, Keyword
from examples.recycling.service.refusals import refusals, refuse_to_find
from models import Guide, search_guides

router = APIRouter(tags=["info"])


@router.get("/guides/{category}", responses=refusals(404, 422))
async def read_guide(category: Category, session: Database) -> GuideAnswer:
    """The guide of a category."""
    guide = await session.scalar(Guide.by(category=category))
    if guide is None:
        refuse_to_find("Guide")
    return GuideAnswer.model_validate(guide)


@router.get("/search", responses=refusals(422))
async def search(keyword: Keyword, session: Database) -> list[GuideAnswer]:
    """Up to 50 guides with the keyword in title or content, in any case."""
    guides = await session.scalars(search_guides(keyword=keyword))
    return [GuideAnswer.model_validate(guide) for guide in guides]
