"""Tables that share rows: one under two names, partitions, inheritance children, views."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cachedorm import Cached, CachePolicy
from tests.support.orm.library import REGIONS, SHELF

# As a database administrator made them.
TABLES = """
create table boxes (id int primary key, label text);
create table parcels (
    id int primary key, box_id int references boxes on delete cascade, label text
);
create table parcels_old () inherits (parcels);
create table letters_sent (id int primary key, label text) partition by range (id);
create table letters_sent_1 partition of letters_sent for values from (0) to (100);
create view boxes_view as select id, label from boxes;
create table calls (id int primary key, label text);
create table calls_ruled (id int primary key, label text);
create rule also_calls as on update to calls_ruled do also
    update calls set label = new.label where id = new.id;
insert into boxes select n, 'old' from generate_series(1, 2) n;
insert into parcels select n, 1, 'old' from generate_series(1, 2) n;
insert into parcels_old values (3, null, 'old');
insert into letters_sent select n, 'old' from generate_series(1, 2) n;
insert into calls select n, 'old' from generate_series(1, 2) n;
insert into calls_ruled select n, 'old' from generate_series(1, 2) n;
"""


class KinBase(DeclarativeBase):
    __cache_regions__ = REGIONS


class Box(KinBase, Cached):
    __tablename__ = "boxes"
    __cache__ = CachePolicy(SHELF, key="box:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class AdminBox(KinBase):
    """The same table, where it stands."""

    __tablename__ = "boxes"
    __table_args__ = {"schema": "public"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class Parcel(KinBase, Cached):
    """Refers to its box by the box's other name; rows of ``parcels_old`` are its rows too."""

    __tablename__ = "parcels"
    __cache__ = CachePolicy(SHELF, key="parcel:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int | None] = mapped_column(ForeignKey("public.boxes.id", ondelete="CASCADE"))
    label: Mapped[str]


class LetterSent(KinBase, Cached):
    """A partitioned table."""

    __tablename__ = "letters_sent"
    __cache__ = CachePolicy(SHELF, key="sent:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class Call(KinBase, Cached):
    """A rule on another table writes it."""

    __tablename__ = "calls"
    __cache__ = CachePolicy(SHELF, key="call:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


def _table(name: str) -> Table:
    return Table(
        name, KinBase.metadata, Column("id", Integer, primary_key=True), Column("label", String)
    )


class BoxView(KinBase):
    """A view that can be written."""

    __table__ = _table("boxes_view")
    id: Mapped[int]
    label: Mapped[str]


parcels_old = _table("parcels_old")
letters_sent_1 = _table("letters_sent_1")
calls_ruled = _table("calls_ruled")
