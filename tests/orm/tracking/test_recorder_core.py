"""Core statements on a followed engine, and on a session's connection."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    event,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session, aliased, sessionmaker

from cachedorm import Cache
from cachedorm.errors import ArgumentError
from tests.support.orm.entries import Entries
from tests.support.orm.library import Author, Book, Diary, Place, readers
from tests.support.orm.shop import Owner, Part, Thing

Sessions = sessionmaker[Session]

BOOKS = [f"book:{number}" for number in range(1, 4)]
PLACES = [f"place:{code}" for code in "abcd"]
ALL = [*BOOKS, *PLACES]

books: Table = Book.__table__  # type: ignore[assignment]
places: Table = Place.__table__  # type: ignore[assignment]
authors: Table = Author.__table__  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def filled(sessions: Sessions, entries: Entries) -> None:
    """Three books; places a, b, c and none at d; all cached."""
    with sessions.begin() as session:
        session.add_all(Book(id=number, title=f"t{number}") for number in range(1, 4))
        session.add_all(Place(code=code) for code in "abc")
    entries.fill(*ALL)


def test_on_the_engine(library: Engine, entries: Entries) -> None:
    """Core DML on an attached engine ends the rows it names."""
    with library.begin() as connection:
        connection.execute(update(books).where(books.c.id == 1).values(title="new"))
        connection.execute(delete(books).where(books.c.id == 2))
        connection.execute(insert(places).values(code="d", title=""))
    assert entries.ended(*ALL) == ["book:1", "book:2", "place:d"]


def test_on_an_option_engine(library: Engine, entries: Entries) -> None:
    """An engine with options is the same engine."""
    options = library.execution_options(logging_token="x")
    with options.begin() as connection:
        connection.execute(update(books).where(books.c.id == 1).values(title="new"))
    assert entries.ended(*ALL) == ["book:1"]


def test_on_a_sessions_connection(sessions: Sessions, entries: Entries) -> None:
    """What a session's connection executes is the session's write."""
    with sessions.begin() as session:
        session.connection().execute(update(books).where(books.c.id == 1).values(title="new"))
    assert entries.ended(*ALL) == ["book:1"]


def test_executemany(library: Engine, entries: Entries) -> None:
    """Each parameter set names its row."""
    statement = update(places).where(places.c.id == bindparam("row")).values(code=bindparam("to"))
    with library.begin() as connection:
        connection.execute(statement, [{"row": 1, "to": "d"}, {"row": 2, "to": "e"}])
    assert entries.ended(*ALL, "place:e") == ["place:a", "place:b", "place:d", "place:e"]


def test_executemany_of_one_row(library: Engine, entries: Entries) -> None:
    """A row that is changed twice ends under the values that both leave behind."""
    keyed = places.c.id == bindparam("row")
    with library.begin() as connection:
        statement = update(places).where(keyed)
        connection.execute(
            statement.values(code=bindparam("to"), title=bindparam("text")),
            [{"row": 1, "to": "e", "text": ""}, {"row": 1, "to": "d", "text": "x"}],
        )
    assert entries.ended(*ALL) == ["place:a", "place:d"]


def test_executemany_by_filter(library: Engine, entries: Entries) -> None:
    """Parameter sets that name no key are all of the table."""
    statement = update(books).where(books.c.title == bindparam("old")).values(title="new")
    with library.begin() as connection:
        connection.execute(statement, [{"old": "t1"}, {"old": "t2"}])
    assert entries.ended(*ALL) == BOOKS


def test_key_of_another_type(library: Engine, entries: Entries) -> None:
    """A key that the database would convert first names no entry: all of the table's end."""
    with library.begin() as connection:
        connection.execute(update(books).where(books.c.id == 2.0).values(title="new"))
    assert "book:2" in entries.ended(*ALL)


def test_two_tables(library: Engine, entries: Entries) -> None:
    """UPDATE ... FROM and DELETE ... USING change rows that only a join finds."""
    with library.begin() as connection:
        joined = (books.c.id == places.c.id) & (places.c.code == "a")
        connection.execute(update(books).where(joined).values(title="new"))
    assert entries.ended(*ALL) == BOOKS
    with library.begin() as connection:
        connection.execute(delete(places).where(places.c.id == books.c.id, books.c.id > 2))
    assert entries.ended(*PLACES) == PLACES


def test_two_tables_by_key(library: Engine, entries: Entries) -> None:
    """Whatever is joined, a key in the filter says which row at most."""
    with library.begin() as connection:
        named = (books.c.id == 2) & (books.c.id == places.c.id)
        connection.execute(update(books).where(named).values(title=places.c.code))
    assert entries.ended(*ALL) == ["book:2"]


def test_subquery(library: Engine, entries: Entries) -> None:
    """A subquery in the filter may find other rows the second time: the table's wildcard."""
    with library.begin() as connection:
        found = select(places.c.id).where(places.c.code == "a")
        connection.execute(delete(books).where(books.c.id.in_(found)))
    assert entries.ended(*ALL) == BOOKS


def test_cte(library: Engine, entries: Entries) -> None:
    """DML inside the CTE of another statement is seen, whatever that statement is."""
    with library.begin() as connection:
        gone = delete(places).where(places.c.id == 1).returning(places.c.id).cte("gone")
        found = select(gone.c.id).where(gone.c.id > 0)
        connection.execute(update(books).where(books.c.id.in_(found)).values(title="new"))
    assert entries.ended(*ALL) == [*BOOKS, *PLACES]


def test_cte_of_a_select(library: Engine, entries: Entries) -> None:
    """A SELECT that writes in its CTE is a write."""
    with library.begin() as connection:
        new = insert(places).values(code="d", title="").returning(places.c.id).cte("new")
        assert connection.execute(select(new.c.id)).scalar_one()
    assert entries.ended(*ALL) == PLACES


def test_cte_of_text(library: Engine, entries: Entries) -> None:
    """So is one whose CTE is SQL text."""
    with library.begin() as connection:
        gone = text("delete from places where id = 1 returning id").columns(Column("id", Integer))
        connection.execute(select(gone.cte("gone")))
    assert entries.ended(*ALL) == PLACES


def test_statement_of_an_entity(sessions: Sessions, entries: Entries) -> None:
    """``select(Model).from_statement(dml)`` is that DML."""
    with sessions.begin() as session:
        new = insert(Place).values(code="d", title="").returning(Place)
        assert session.scalars(select(Place).from_statement(new)).one().code == "d"
    assert "place:d" in entries.ended(*ALL)


def test_insert_from_select(library: Engine, entries: Entries) -> None:
    """Rows that come from a SELECT are not known."""
    with library.begin() as connection:
        rows = select(literal("d"), literal(""))
        connection.execute(insert(places).from_select(["code", "title"], rows))
    assert entries.ended(*ALL) == PLACES


def test_insert_of_several_values(library: Engine, entries: Entries) -> None:
    """VALUES of several rows tell each row's key."""
    entries.fill("book:7", "book:8")
    with library.begin() as connection:
        connection.execute(insert(books).values([{"id": 7, "title": ""}, {"id": 9, "title": ""}]))
    assert entries.ended(*ALL, "book:7", "book:8") == ["book:7"]


def test_insert_with_an_expression(library: Engine, entries: Entries) -> None:
    """A key that the database computes may be any."""
    with library.begin() as connection:
        connection.execute(insert(places).values(code=func.lower("D"), title=""))
    assert entries.ended(*ALL) == PLACES


def test_upsert_that_does_nothing(library: Engine, entries: Entries) -> None:
    """ON CONFLICT DO NOTHING changes no row but its own."""
    with library.begin() as connection:
        new = postgresql.insert(places).values(code="d", title="")
        connection.execute(new.on_conflict_do_nothing())
    assert entries.ended(*ALL) == ["place:d"]


def test_upsert_by_the_key(library: Engine, entries: Entries) -> None:
    """DO UPDATE on the key's own columns changes the row that the parameters name."""
    with library.begin() as connection:
        new = postgresql.insert(books).values([{"id": 2, "title": "new"}])
        new = new.on_conflict_do_update(index_elements=["id"], set_={"title": "new"})
        connection.execute(new)
    assert entries.ended(*ALL) == ["book:2"]


def test_upsert_by_another_column(library: Engine, entries: Entries) -> None:
    """DO UPDATE on other columns than keys are made of may change a row under any key."""
    with library.begin() as connection:
        new = postgresql.insert(places).values(id=1, code="x", title="")
        new = new.on_conflict_do_update(index_elements=["id"], set_={"code": "d"})
        connection.execute(new)
    assert entries.ended(*ALL) == PLACES


def test_upsert_that_cascades(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """DO UPDATE of a key that other tables refer to takes their rows along."""
    with sessions.begin() as session:
        session.add(Owner(name="kim"))
        session.flush()
        session.add(Thing(id=1, owner_name="kim", number=1))
    entries.fill("thing:kim:1", "thing:lee:1", "owner:lee")
    with shop.begin() as connection:
        new = postgresql.insert(Owner).values(name="kim", city="")
        new = new.on_conflict_do_update(index_elements=["name"], set_={"name": "lee"})
        connection.execute(new)
    assert entries.ended("thing:kim:1", "thing:lee:1") == ["thing:kim:1", "thing:lee:1"]
    assert entries.ended("owner:lee") == ["owner:lee"]


def test_another_table_object(library: Engine, entries: Entries) -> None:
    """A Table of another MetaData is the same table if it has its name."""
    mine = Table(
        "places", MetaData(), Column("id", Integer, primary_key=True), Column("code", String)
    )
    with library.begin() as connection:
        connection.execute(update(mine).where(mine.c.id == 1).values(code="d"))
    assert entries.ended(*ALL) == ["place:a", "place:d"]


def test_unknown_table(library: Engine, entries: Entries) -> None:
    """What nobody mapped may be a view of anything: everything ends."""
    view = Table("front", MetaData(), Column("id", Integer), Column("title", String))
    with library.begin() as connection:
        connection.execute(text("create view front as select id, title from books"))
    entries.fill(*ALL)
    with library.begin() as connection:
        connection.execute(update(view).where(view.c.id == 1).values(title="new"))
    assert entries.ended(*ALL) == ALL


def test_alias(sessions: Sessions, entries: Entries) -> None:
    """An alias is nothing that is known."""
    other = aliased(Book)
    with sessions.begin() as session:
        session.execute(
            update(other).where(other.id == 1).values(title="new"),
            execution_options={"synchronize_session": False},
        )
    assert "book:1" in entries.ended(*ALL)


def test_translated_schema(library: Engine, entries: Entries) -> None:
    """With a schema_translate_map the statement's tables are others than it says."""
    with library.begin() as connection:
        connection.execute(text("create schema other"))
        connection.execute(text("create table other.books (id int primary key, title text)"))
    entries.fill(*ALL)
    options = {"schema_translate_map": {None: "other"}}
    with library.connect().execution_options(**options) as connection, connection.begin():
        connection.execute(update(books).where(books.c.title == "x").values(title="new"))
    assert entries.ended(*ALL) == ALL


def test_secondary_table(sessions: Sessions, entries: Entries, sql_log: object) -> None:
    """A many-to-many table that nobody caches touches nothing."""
    with sessions.begin() as session:
        session.execute(insert(readers).values(book_id=1, reader_id=1))
        session.execute(delete(readers).where(readers.c.book_id == 1))
    assert entries.ended(*ALL) == []


def test_failed_statement(library: Engine, entries: Entries) -> None:
    """What a failed statement would have changed may end; what follows it is followed."""
    with library.connect() as connection, connection.begin():
        savepoint = connection.begin_nested()
        with pytest.raises(ProgrammingError):
            connection.execute(insert(places).values(code=func.nothing(), title=""))
        savepoint.rollback()
        connection.execute(update(places).where(places.c.id == 1).values(code="d"))
    assert entries.ended(*ALL) == ["place:a", "place:d"]


def test_dml_within_dml(library: Engine, entries: Entries) -> None:
    """A listener of the application's that writes meanwhile is followed as well."""

    def audit(connection: Connection, statement: object, *_: object) -> None:
        if statement is outer:
            connection.execute(insert(Diary).values(text="seen"))
            connection.execute(delete(books).where(books.c.id == 3))

    outer = update(places).where(places.c.id == 1).values(code="d")
    event.listen(library, "before_execute", audit)
    with library.begin() as connection:
        connection.execute(outer)
    event.remove(library, "before_execute", audit)
    assert entries.ended(*ALL) == ["book:3", "place:a", "place:d"]


def test_row_that_comes_meanwhile(library: Engine, sessions: Sessions, entries: Entries) -> None:
    """A row that comes between the SELECT and the statement is noticed by the count: all end."""

    def come(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE") and connection is mine:
            with sessions.begin() as other:
                other.get_one(Place, 3).title = "x"

    with library.begin() as mine:
        mine.execute(update(places).where(places.c.id == 1).values(title="x"))
    entries.fill(*ALL)
    event.listen(library, "before_cursor_execute", come)
    with library.begin() as mine:
        mine.execute(update(places).where(places.c.title == "x").values(title="y"))
    event.remove(library, "before_cursor_execute", come)
    assert entries.ended(*PLACES) == PLACES


def test_declared_writes(library: Engine, sessions: Sessions, entries: Entries) -> None:
    """``cachedorm_writes`` says which tables a function writes that a statement calls."""
    with library.begin() as connection:
        connection.execute(
            text(
                "create function rename_all() returns int language sql as"
                " $$ update places set title = 'new'; select 1 $$"
            )
        )
    entries.fill(*ALL)
    options = {"cachedorm_writes": ("places",)}
    with library.begin() as connection:
        connection.execute(select(func.rename_all()), execution_options=options)
    assert entries.ended(*ALL) == PLACES
    with sessions.begin() as session:
        session.execute(select(func.rename_all()), execution_options=options)
    assert entries.ended(*ALL) == PLACES


@pytest.mark.parametrize(
    ("named", "message"),
    [(("shelfs",), "no mapped table is named 'shelfs'; known are: .*books"), ("books", "a tuple")],
)
def test_declared_writes_of_nothing(library: Engine, named: object, message: str) -> None:
    """A name that is no table's is an error before the statement runs."""
    with library.connect() as connection, pytest.raises(ArgumentError, match=message):
        connection.execute(text("select 1"), execution_options={"cachedorm_writes": named})


def test_detached_connection(library: Engine, entries: Entries, cache: Cache) -> None:
    """A connection that was taken out of its pool is followed to its end."""
    with library.connect() as connection:
        connection.detach()
        with connection.begin():
            connection.execute(update(books).where(books.c.id == 1).values(title="new"))
    assert entries.ended(*ALL) == ["book:1"]


def test_insert_by_attribute_names(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """Insert by column keys that are not the columns' names is understood."""
    entries.fill("part:a", "part:b")
    with sessions.begin() as session:
        session.execute(insert(Part).values([{"id": 1, "code": "a", "title": "", "version": 1}]))
    assert entries.ended("part:a", "part:b") == ["part:a"]
