"""What was scanned, and what was found."""

from fastapi import APIRouter

from examples.recycling.service.access import Asking, Database, Own, require_own
from examples.recycling.service.answers import Scan
from examples.recycling.service.limits import ByUser
from examples.recycling.service.parameters import HistoryLimit, TaskId
from examples.recycling.service.refusals import refusals, refuse_to_find
from examples.recycling.service.routes.found import check_user
from models import ScanResult, scan_history

router = APIRouter(tags=["scan"], dependencies=[ByUser], responses=refusals(401, 403, 404, 422))


@router.get("/scan/history/{user_id}")
async def read_scan_history(
    user_id: Own, session: Database, limit: HistoryLimit = 20
) -> list[Scan]:
    """The last scans, newest first."""
    found = (await session.scalars(scan_history(user_id=user_id, limit=limit))).all()
    if not found:
        await check_user(session, user_id)
    return [Scan.model_validate(each) for each in found]


@router.get("/scan/{task_id}")
async def read_scan(task_id: TaskId, caller: Asking, session: Database) -> Scan:
    """One scan task."""
    found = await session.get(ScanResult, task_id)
    if found is None:
        refuse_to_find("Scan")
    require_own(found.user_id, caller)
    return Scan.model_validate(found)
