"""``CachePolicy(writes=...)``: tables that a database trigger changes when the model is written."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, ForeignKey, MetaData, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from cachedorm import Cached, CachePolicy
from cachedorm.declare.policies.shape import EntityShape
from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.orm.interest.cascades import Cascades
from cachedorm.orm.interest.declared_writes import DeclaredWrites
from cachedorm.orm.interest.tables import Interests
from tests.support.orm.library import SHELF

_TRIGGER = (
    "create function recount() returns trigger language plpgsql as $$ begin"
    " update totals set sum = sum + 1; return null; end $$",
    "create trigger recount after insert or update or delete on entries"
    " for each row execute function recount()",
)


class LedgerBase(DeclarativeBase):
    metadata = MetaData()


class Entry(LedgerBase, Cached):
    __tablename__ = "entries"
    __cache__ = CachePolicy(SHELF, key="entry:{id}", writes=("totals",))

    id: Mapped[int] = mapped_column(primary_key=True)
    total_id: Mapped[int] = mapped_column(ForeignKey("totals.id", ondelete="CASCADE"))


class Total(LedgerBase, Cached):
    __tablename__ = "totals"
    __cache__ = CachePolicy(SHELF, key="total:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    sum: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def counted(library: Engine, sessions: sessionmaker[Session]) -> sessionmaker[Session]:
    """One total, cached, that a trigger changes."""
    LedgerBase.metadata.create_all(library)
    with library.begin() as connection:
        for sql in _TRIGGER:
            connection.execute(text(sql))
    with sessions.begin() as session:
        session.add(Total(id=1))
        session.flush()
        session.add(Entry(id=1, total_id=1))
    assert total(sessions) == total(sessions) == 1
    return sessions


def total(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.get_one(Total, 1).sum


def test_by_flush(counted: sessionmaker[Session]) -> None:
    """A flush of the model ends the entries of the tables that it names."""
    with counted.begin() as session:
        session.add(Entry(id=2, total_id=1))
    assert total(counted) == 2


def test_by_core(counted: sessionmaker[Session], library: Engine) -> None:
    """So does Core."""
    with library.begin() as connection:
        connection.execute(update(Entry).values(id=5))
    assert total(counted) == 2


def test_by_text(counted: sessionmaker[Session], library: Engine) -> None:
    """And SQL text."""
    with library.begin() as connection:
        connection.execute(text("update entries set id = 5"))
    assert total(counted) == 2


def _unseen(*writes: str) -> DeclaredWrites:
    owner = Entry.__mapper__
    policy = CachePolicy(SHELF, key="entry:{id}", writes=writes)
    shape = EntityShape(owner, policy, policy.template, by_primary_key=True)
    tables = list(LedgerBase.metadata.tables.values())
    return DeclaredWrites([shape], tables, Interests([shape], tables), Cascades(tables))


def test_unknown_name() -> None:
    """A name that is no table's is refused, with the names that are."""
    with pytest.raises(DeclarationError, match="writes: no mapped table is named"):
        _unseen("total")
    with pytest.raises(DeclarationError, match="known are: entries, totals"):
        _unseen("total")


def test_string() -> None:
    """A string is no tuple of names."""
    writes: tuple[str, ...] = "totals"  # type: ignore[assignment]
    with pytest.raises(DeclarationError, match="is a string; give a tuple of table names"):
        DeclaredWrites(
            [
                EntityShape(
                    Entry.__mapper__, CachePolicy(SHELF, writes=writes), None, by_primary_key=False
                )
            ],
            LedgerBase.metadata.tables.values(),
            Interests([], []),
            Cascades([]),
        )


def test_what_follows() -> None:
    """A trigger's writes have triggers and foreign keys of their own."""
    unseen = _unseen("totals")
    followed = [interest.table.name for interest in unseen.of(Entry.__table__)]  # type: ignore[arg-type]
    assert followed == ["entries"]  # totals is not followed here, but its cascade is
    with pytest.raises(ArgumentError, match="give a tuple of table names"):
        unseen.named("totals")
