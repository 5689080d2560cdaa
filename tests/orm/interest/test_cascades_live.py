"""What PostgreSQL's foreign keys really do, against what `Cascades` says of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    create_engine,
    select,
    text,
    tuple_,
)

from cachedorm.orm.interest.cascades import Cascade, CascadeEffect, Cascades
from examples.servers import Found, scratch_database

METADATA = MetaData(schema="cascades_live")


def table(name: str, *parts: Column[int] | ForeignKeyConstraint) -> Table:
    """A table with an id and these parts."""
    return Table(name, METADATA, Column("id", Integer, primary_key=True), *parts)


def link(
    name: str, to: str, ondelete: str | None = None, onupdate: str | None = None
) -> Column[int]:
    """A column with a foreign key, and a default for SET DEFAULT."""
    key = ForeignKey(f"cascades_live.{to}", ondelete=ondelete, onupdate=onupdate)
    return Column(name, Integer, key, server_default="1")


PARENT = table("parent", Column("code", Integer, unique=True), Column("x", Integer))
table("deleted", link("parent_id", "parent.id", "CASCADE", "CASCADE"))
table("nulled", link("parent_id", "parent.id", "SET NULL", "SET NULL"))
table("defaulted", link("parent_code", "parent.code", "SET DEFAULT", "SET DEFAULT"))
table("held", link("parent_id", "parent.id"))
table("below", link("deleted_id", "deleted.id", "CASCADE"))
table(
    "nulled_below",
    Column("up", Integer, ForeignKey("cascades_live.below.id", ondelete="SET NULL"), unique=True),
)
table("deepest", link("up", "nulled_below.up", onupdate="CASCADE"))
TREE = table("tree", link("parent_id", "tree.id", "CASCADE"))
TREE.c.parent_id.server_default = None
TWO = Table(
    "two",
    METADATA,
    Column("x", Integer, primary_key=True),
    Column("y", Integer, primary_key=True),
)
PAIRED = table(
    "paired",
    Column("two_x", Integer),
    Column("two_y", Integer),
    ForeignKeyConstraint(
        ["two_x", "two_y"],
        ["cascades_live.two.x", "cascades_live.two.y"],
        ondelete="SET NULL",
        onupdate="CASCADE",
    ),
)

ROWS = """
insert into parent values (1, 1, 0), (2, 2, 0), (3, 3, 0);
insert into deleted values (10, 2), (11, 2), (12, 3);
insert into nulled values (20, 2), (21, 3);
insert into defaulted values (30, 2), (31, 3);
insert into held values (40, 1);
insert into below values (50, 10), (51, 12);
insert into nulled_below values (60, 50), (61, 51);
insert into deepest values (70, 50), (71, 51);
insert into tree values (1, null), (2, 1), (3, 2), (4, null);
insert into two values (1, 1), (1, 2);
insert into paired values (80, 1, 1), (81, 1, 2);
"""


@dataclass(frozen=True, slots=True)
class Database:
    """The tables above with rows in them, in a transaction that is rolled back."""

    connection: Connection

    def rows(self, found: Table) -> set[tuple[object, ...]]:
        """Every row of a table."""
        return {tuple(row) for row in self.connection.execute(select(found))}

    def lost(self, sql: str) -> dict[str, set[object]]:
        """Run a text and give, by table, the ids of the rows that it changed or deleted."""
        before = {found: self.rows(found) for found in METADATA.tables.values()}
        self.connection.execute(text(sql))
        lost = {found.name: rows - self.rows(found) for found, rows in before.items()}
        return {name: {row[0] for row in rows} for name, rows in lost.items() if rows}

    def foretold(self, cascade: Cascade, where: str) -> set[object]:
        """The ids of the child rows that `keys` picks, before the statement runs."""
        parents = select(*(parent for parent, _ in cascade.keys)).where(text(where))
        children = tuple_(*(child for _, child in cascade.keys))
        child = cascade.table
        found = self.connection.scalars(select(child.c.id).where(children.in_(parents)))
        return set(found)


@pytest.fixture(scope="module")
def url(servers: Found) -> Iterator[str]:
    """A database of our own with the tables above."""
    with scratch_database(servers.database_url) as made:
        engine = create_engine(made)
        with engine.begin() as connection:
            connection.execute(text("create schema cascades_live"))
            METADATA.create_all(connection)
        engine.dispose()
        yield made


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """The database with rows."""
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text("set local search_path = cascades_live"))
        connection.exec_driver_sql(ROWS)
        yield Database(connection)
    engine.dispose()


CASCADES = Cascades(METADATA.tables.values())
STATEMENTS = [
    ("delete from parent where id = 2", "parent.id = 2", PARENT, CascadeEffect.DELETE, None),
    ("delete from tree where id = 1", "tree.id = 1", TREE, CascadeEffect.DELETE, None),
    ("delete from two where y = 2", "two.y = 2", TWO, CascadeEffect.DELETE, None),
    (
        "update parent set id = 9 where id = 2",
        "parent.id = 2",
        PARENT,
        CascadeEffect.UPDATE,
        {"id"},
    ),
    (
        "update parent set code = 9 where id = 2",
        "parent.id = 2",
        PARENT,
        CascadeEffect.UPDATE,
        {"code"},
    ),
    ("update parent set x = 9 where id = 2", "parent.id = 2", PARENT, CascadeEffect.UPDATE, {"x"}),
    ("update two set y = 9 where y = 2", "two.y = 2", TWO, CascadeEffect.UPDATE, {"y"}),
    ("truncate parent cascade", "", PARENT, CascadeEffect.TRUNCATE_CASCADE, None),
    ("truncate two cascade", "", TWO, CascadeEffect.TRUNCATE_CASCADE, None),
]


@pytest.mark.parametrize(("sql", "where", "parent", "effect", "columns"), STATEMENTS)
def test_foretold(
    database: Database,
    sql: str,
    where: str,
    parent: Table,
    effect: CascadeEffect,
    columns: set[str] | None,
) -> None:
    """Exactly the tables foretold are changed; at depth 1, exactly the rows."""
    found = CASCADES.of(parent, effect, None if columns is None else frozenset(columns))
    foretold = {c.table.name: database.foretold(c, where) for c in found if c.exact}
    lost = database.lost(sql)
    assert set(lost) - {parent.name} == {c.table.name for c in found} - {parent.name}
    deeper = {c.table.name for c in found if not c.exact}
    for name, ids in foretold.items():
        if name not in deeper:
            assert ids == lost[name]
        else:
            assert ids < lost[name]  # a tree: the rows further down are not foretold


def test_columns(database: Database) -> None:
    """Only the columns foretold change in the child rows that stay."""
    found = [c for c in CASCADES.of(PARENT, CascadeEffect.DELETE) if c.columns is not None]
    before = [_by_id(database, c.table) for c in found]
    database.connection.execute(text("delete from parent where id = 2"))
    for cascade, old in zip(found, before, strict=True):
        for key, row in _by_id(database, cascade.table).items():
            pairs = zip(cascade.table.c, row, old[key], strict=True)
            changed = {column.name for column, now, then in pairs if now != then}
            assert changed <= (cascade.columns or set())


def _by_id(database: Database, found: Table) -> dict[object, tuple[object, ...]]:
    return {row[0]: row for row in database.rows(found)}


def test_plain_truncate_is_refused(database: Database) -> None:
    """A TRUNCATE without CASCADE reaches no other table: PostgreSQL refuses where it would."""
    assert CASCADES.of(PARENT, CascadeEffect.TRUNCATE) == ()
    with pytest.raises(Exception, match="cannot truncate a table referenced"):
        database.connection.execute(text("truncate parent"))
