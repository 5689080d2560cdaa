"""The row of a scan, from its request to its end; what the Celery task does to the database.

Each function may be called again with the same arguments, by the same process or another one, at
the same time: the first to end a scan decides, the others find it ended.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from examples.recycling.classification import candidates
from models import Guide, ScanResult, ScanStatus, User, all_categories

Found = dict[str, Any]


class UnknownUser(LookupError):
    """A scan was asked for by somebody who is not there (any more)."""


def begin_scan(sessions: sessionmaker[Session], task_id: str, user_id: str) -> None:
    """Write the row of a scan that nobody has begun; UnknownUser if it would belong to nobody."""
    with sessions.begin() as session:
        locked_scan(session, task_id, user_id)


def finish_scan(
    sessions: sessionmaker[Session], task_id: str, user_id: str, file_name: str
) -> Found:
    """What the photograph shows, committed; for a scan that has ended before, what was found then.

    Raises NotAPhotograph, UnknownUser, and the database's errors.
    """
    with sessions.begin() as session:
        # Looked up before anything is written: a transaction that has written reads past the cache.
        found = find(session, file_name)
        row = locked_scan(session, task_id, user_id)
        if row.status is not ScanStatus.PENDING:
            return row.result or {}
        end(row, ScanStatus.COMPLETED, found)
    return found


def fail_scan(sessions: sessionmaker[Session], task_id: str, user_id: str, why: str) -> None:
    """Record that the scan came to nothing, unless it has ended; nothing for an unknown user."""
    with sessions.begin() as session:
        try:
            row = locked_scan(session, task_id, user_id)
        except UnknownUser:
            return
        if row.status is ScanStatus.PENDING:
            end(row, ScanStatus.FAILED, {"error": why})


def find(session: Session, file_name: str) -> Found:
    """The guide for what the photograph shows; a category of None where there is no guide."""
    guided = set(session.scalars(all_categories()))
    category = next((each for each in candidates(file_name) if each in guided), None)
    if category is None:
        return {"category": None, "title": None}
    guide = session.scalar(Guide.by(category=category))
    return {"category": category, "title": guide.title if guide else None}


def locked_scan(session: Session, task_id: str, user_id: str) -> ScanResult:
    """The scan's row, nobody else's until this transaction ends; made if it was not there.

    Two that make it at once: the second gets an IntegrityError, and finds it when it tries again.
    """
    row = session.get(ScanResult, task_id, with_for_update=True)
    if row is None:
        if session.get(User, user_id) is None:
            raise UnknownUser(f"scan {task_id}: there is no user {user_id!r}")
        row = ScanResult(task_id=task_id, user_id=user_id, status=ScanStatus.PENDING)
        session.add(row)
        session.flush()
    return row


def end(row: ScanResult, status: ScanStatus, result: Found) -> None:
    """Give the row its outcome and the moment."""
    row.status, row.result, row.finished_at = status, result, datetime.now(UTC)
