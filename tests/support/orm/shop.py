"""Models whose keys are hard to follow: versions, other names, computed columns, cascades."""

from __future__ import annotations

import itertools

from sqlalchemy import Computed, ForeignKey, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from cachedorm import Cached, CachePolicy
from tests.support.orm.library import DESK, REGIONS, SHELF

_moves = itertools.count()


class ShopBase(DeclarativeBase):
    __cache_regions__ = REGIONS


class Part(ShopBase, Cached):
    """Its key's attribute has another name than the column, and its rows have versions."""

    __tablename__ = "parts"
    __cache__ = CachePolicy(DESK, key="part:{code}")

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column("part_code", String(20), unique=True)
    title: Mapped[str] = mapped_column(String(50), default="")
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Slug(ShopBase, Cached):
    """The database computes its key from another column."""

    __tablename__ = "slugs"
    __cache__ = CachePolicy(DESK, key="slug:{slug}")

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    slug: Mapped[str] = mapped_column(
        String(50), Computed("lower(title)", persisted=True), unique=True
    )


class Seat(ShopBase, Cached):
    """Its key is made by the database on insert, and by SQLAlchemy on every update."""

    __tablename__ = "seats"
    __cache__ = CachePolicy(DESK, key="seat:{code}")

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(
        String(20),
        unique=True,
        server_default=text("'new-' || nextval('seat_codes')"),
        onupdate=lambda: f"moved-{next(_moves)}",
    )
    title: Mapped[str] = mapped_column(String(50), default="")


class Owner(ShopBase, Cached):
    """Its primary key may change, and the database takes its things along."""

    __tablename__ = "owners"
    __cache__ = CachePolicy(SHELF, key="owner:{name}")

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    city: Mapped[str] = mapped_column(String(20), default="")


class Thing(ShopBase, Cached):
    """Part of its key follows its owner's, or becomes null with it."""

    __tablename__ = "things"
    __table_args__ = (UniqueConstraint("owner_name", "number"),)
    __cache__ = CachePolicy(DESK, key="thing:{owner_name}:{number}")

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_name: Mapped[str | None] = mapped_column(
        ForeignKey("owners.name", ondelete="SET NULL", onupdate="CASCADE")
    )
    number: Mapped[int]


class Root(ShopBase, Cached):
    """The top of three tables that the database deletes from, one after the other."""

    __tablename__ = "roots"
    __cache__ = CachePolicy(SHELF, key="root:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    branches: Mapped[list[Branch]] = relationship(passive_deletes=True, cascade="all, delete")


class Branch(ShopBase, Cached):
    __tablename__ = "branches"
    __cache__ = CachePolicy(SHELF, key="branch:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int] = mapped_column(ForeignKey("roots.id", ondelete="CASCADE"))


class Leaf(ShopBase, Cached):
    __tablename__ = "leaves"
    __cache__ = CachePolicy(DESK, key="leaf:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    branch_id: Mapped[int] = mapped_column(ForeignKey("branches.id", ondelete="CASCADE"))
