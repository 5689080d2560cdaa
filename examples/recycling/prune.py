"""Forget revocations of tokens that have expired: nobody accepts those anyway."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from models import Revocation


def prune_revocations(
    session_factory: sessionmaker[Session], now: datetime, batch: int = 1000
) -> int:
    """Delete the revocations that have expired by ``now``; how many there were.

    A batch a transaction, oldest first, so no lock is held for long and a run that is cut short has
    done its part. Several may run at once: each takes rows that no other has. A service that
    accepts tokens beyond their ``exp`` (a leeway) gives a ``now`` that is as much earlier, or a
    revoked token would be accepted then. Up to 1,000 rows a batch disturb no other cached entry.
    Raises ValueError for a time without a zone and for a batch of nothing.
    """
    if now.tzinfo is None:
        raise ValueError(f"now={now} has no zone; give an aware time, such as datetime.now(UTC)")
    if batch < 1:
        raise ValueError(f"batch={batch}; a batch is at least one row")
    pruned, found = 0, batch
    while found == batch:
        with session_factory.begin() as session:
            found = prune_batch(session, now, batch)
        pruned += found
    return pruned


def prune_batch(session: Session, now: datetime, batch: int) -> int:
    """Delete the oldest of the expired rows that nobody else is deleting; how many."""
    expired = (
        select(Revocation.jti)
        .where(Revocation.expires_at <= now)
        .order_by(Revocation.expires_at)
        .limit(batch)
        .with_for_update(skip_locked=True)
    )
    jtis = session.scalars(expired).all()
    if jtis:
        session.execute(
            delete(Revocation).where(Revocation.jti.in_(jtis)),
            execution_options={"synchronize_session": False},
        )
    return len(jtis)
