"""A small shop for the tests of the response cache: rows by key, a list, a row written through."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ForeignKey, String, bindparam, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cachedorm import Cached, CachedQuery, CachePolicy, Region, Regions

PAGES = Region("pages", db=1, ttl=60, jitter=0)
ROWS = Region("rows", db=2, ttl=timedelta(hours=1), jitter=0)
LISTS = Region("lists", db=3, ttl=timedelta(hours=1), jitter=0)
REGIONS = Regions(PAGES, ROWS, LISTS)


class Base(DeclarativeBase):
    __cache_regions__ = REGIONS


class Owner(Cached, Base):
    """Written through: a commit puts the new row in the old one's place."""

    __tablename__ = "page_owners"
    __cache__ = CachePolicy(ROWS, key="owner:{id}", on_write="write_through")

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Item(Cached, Base):
    """Invalidated by a commit; its secret is not cached."""

    __tablename__ = "page_items"
    __cache__ = CachePolicy(ROWS, key="item:{id}", exclude=("secret",))

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey(Owner.id))
    secret: Mapped[str | None] = mapped_column(String(50))


class Diary(Base):
    """Not cached, but in the same database."""

    __tablename__ = "page_diaries"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50), default="")


items_of = CachedQuery(
    LISTS,
    key="items:{owner_id}",
    statement=select(Item).where(Item.owner_id == bindparam("owner_id")).order_by(Item.id),
)
