"""Photographs that were scanned for what can be recycled, one task each."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, bindparam, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from cachedorm import Cached, CachedQuery, CachePolicy
from models.base import Base, Identifier, Moment, one_of
from models.my import User
from models.regions import SCAN


class ScanStatus(StrEnum):
    """How far a scan task has come."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"


class ScanResult(Cached, Base):
    """What one scan task found. Also read as `scan:history:{user_id}`, newest first."""

    __tablename__ = "scan_results"
    __cache__ = CachePolicy(SCAN, key="scan:result:{task_id}")

    # Given by the task queue, so there is no default.
    task_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[Identifier] = mapped_column(ForeignKey(User.user_id, ondelete="CASCADE"))
    status: Mapped[ScanStatus] = mapped_column(
        one_of(ScanStatus, "status"), default=ScanStatus.PENDING
    )
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[Moment] = mapped_column()
    finished_at: Mapped[datetime | None]

    user: Mapped[User] = relationship()

    __table_args__ = (
        Index("ix_scan_results_newest", user_id, created_at.desc(), task_id),
        {"schema": "scan_db"},
    )


scan_history = CachedQuery(
    SCAN,
    key="scan:history:{user_id}",
    statement=select(ScanResult)
    .where(ScanResult.user_id == bindparam("user_id"))
    .order_by(ScanResult.created_at.desc(), ScanResult.task_id)
    .limit(bindparam("limit", 20)),
)
"""A user's last scans, newest first: 20, or `limit`, which is part of the key."""
