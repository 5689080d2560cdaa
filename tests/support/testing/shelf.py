"""A little application of its own, as a user of the test kit has one."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import DateTime, bindparam, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cachedorm import Cached, CachedQuery, CachePolicy, Region, Regions

SHELF = Region("kit shelf", db=2, ttl=timedelta(hours=1), jitter=0)
AHEAD = Region(
    "kit ahead", db=3, ttl=timedelta(hours=1), jitter=0, refresh_ahead=timedelta(minutes=10)
)
REGIONS = Regions(SHELF, AHEAD)


class Base(DeclarativeBase):
    """Its tables."""


class Novel(Cached, Base):
    """Cached by its key."""

    __tablename__ = "kit_novels"
    __cache__ = CachePolicy(SHELF, key="novel:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    shelf: Mapped[str]


class Ticket(Cached, Base):
    """Says itself when it ends."""

    __tablename__ = "kit_tickets"
    __cache__ = CachePolicy(SHELF, key="ticket:{id}", expires_at="expires_at")

    id: Mapped[int] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Magazine(Cached, Base):
    """Refreshed ahead of its end."""

    __tablename__ = "kit_magazines"
    __cache__ = CachePolicy(AHEAD, key="magazine:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


novels_on = CachedQuery(
    SHELF,
    key="novels:{shelf}",
    statement=select(Novel).where(Novel.shelf == bindparam("shelf")).order_by(Novel.id),
)
