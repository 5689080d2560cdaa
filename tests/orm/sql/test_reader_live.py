"""What PostgreSQL really writes for a text, against what was read from it.

Statement triggers on every table say who was written, cascades included; what they say must lie
within what `read_sql`, `resolve` and `Cascades` gave.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus
from sqlalchemy import MetaData, create_engine, make_url

from cachedorm.orm.interest.cascades import CascadeEffect, Cascades
from cachedorm.orm.sql.reader import EVERYTHING, Effect, Everything, read_sql, resolve
from examples.servers import Found, scratch_database

SCHEMA = """
create schema s;
set search_path = s, public;
create table changes (tbl text);
create table a (id int primary key, x int, "Näme" text);
create table b (id int primary key, a_id int references a on delete cascade on update cascade);
create table c (id int primary key, b_id int references b on delete set null);
create table "Quoted;" (id int primary key, x int);
create table p (id int, x int) partition by range (id);
create table p_1 partition of p for values from (0) to (100);
create view v as select * from a;
create view "select" as select * from b;
create function told() returns trigger language plpgsql as $$
begin insert into s.changes values (tg_argv[0]); return null; end $$;
create function quietly() returns int language plpgsql as $$
begin delete from s.a; return 1; end $$;
create procedure wipe() language sql as 'delete from s.a';
"""
ROWS = """
set local search_path = s, public;
delete from c; delete from b; delete from a; delete from p;
insert into a values (1, 1), (2, 2);
insert into b values (1, 1);
insert into c values (1, 1);
insert into p values (1, 1);
delete from changes;
"""
TRIGGERS = """
create trigger told after insert or update or delete or truncate on s.{0}
for each statement execute function s.told('{0}')
"""
TABLES = ("a", "b", "c", '"Quoted;"', "p", "p_1")


@dataclass(slots=True)
class Truth:
    """A connection that tells which tables a text writes; it always rolls back."""

    connection: psycopg.Connection
    cascades: Cascades
    metadata: MetaData
    ended: bool = False  # whether the last text ended its transaction

    def written(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object] | None = None
    ) -> set[str]:
        """Run a text and give the names of the tables that it wrote."""
        self._start()
        try:
            self.connection.execute(sql.encode(), parameters)
            return self._told()
        finally:
            self.connection.rollback()

    def copied(self, sql: str) -> set[str]:
        """The same for a COPY, which gives or takes no row."""
        self._start()
        with self.connection.cursor().copy(sql.encode()) as copy:
            if " to " in sql:
                list(copy)
        found = self._told()
        self.connection.rollback()
        return found

    def _start(self) -> None:
        self.connection.execute(ROWS)

    def _told(self) -> set[str]:
        self.ended = self.connection.info.transaction_status is TransactionStatus.IDLE
        rows = self.connection.execute("select distinct tbl from s.changes").fetchall()
        return {row[0].strip('"') for row in rows}

    def read(self, sql: str) -> set[str] | Everything:
        """Give the names that the library would touch for the same text."""
        effect = read_sql(sql, "postgresql")
        if effect.everything:
            return EVERYTHING
        tables = {(t.schema, t.name): t for t in self.metadata.tables.values()}
        direct = resolve(effect.writes, tables, "s")
        if isinstance(direct, Everything):
            return EVERYTHING
        return {t.name for t in direct} | self._cascaded(effect)

    def _cascaded(self, effect: Effect) -> set[str]:
        found: set[str] = set()
        for names, what in (
            (effect.deletes, CascadeEffect.DELETE),
            (effect.updates, CascadeEffect.UPDATE),
            (effect.truncates_cascade, CascadeEffect.TRUNCATE_CASCADE),
        ):
            for name in names:
                for cascade in self.cascades.of(self.metadata.tables[f"s.{name.name}"], what):
                    found.add(cascade.table.name)
        return found


@pytest.fixture(scope="module")
def truth(servers: Found) -> Iterator[Truth]:
    """A database of our own with tables and triggers, and a connection to it."""
    with scratch_database(servers.database_url) as url, psycopg.connect(plain(url)) as connection:
        connection.execute(SCHEMA)
        for table in TABLES:
            connection.execute(TRIGGERS.format(table).encode())
        connection.commit()
        metadata, engine = MetaData(), create_engine(url)
        metadata.reflect(engine, schema="s", only=["a", "b", "c", "Quoted;"])
        engine.dispose()
        yield Truth(connection, Cascades(metadata.tables.values()), metadata)


def plain(url: str) -> str:
    """The URL as libpq knows it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


EXACT: dict[str, set[str]] = {
    "select * from a for update": set(),
    "select 'x;delete from a', $$;delete from a$$, $q$ $$ ;delete from a $q$": set(),
    "select E'it\\'s; delete from a --'": set(),
    "select /* /* */ ; delete from a */ 1 -- ; delete from a": set(),
    'select x as "; delete from a" from a': set(),
    "savepoint a; release a": set(),
    "table a; values (1)": set(),
    "insert into a values (3)": {"a"},
    "INSERT INTO S.A VALUES (3) ON CONFLICT (ID) DO NOTHING": {"a"},
    "insert into \"Quoted;\" values (1, ascii(';'))": {"Quoted;"},
    "delete from c": {"c"},
    "delete from b": {"b", "c"},
    "delete from a": {"a", "b", "c"},
    "update a set id = id + 10": {"a", "b"},
    "with gone as (delete from c returning id) insert into a select id + 9 from gone": {"a", "c"},
    "with d as (with e as (select 1) select * from e) update only c set b_id = null": {"c"},
    "merge into c using a on c.id = a.id when matched then update set b_id = null": {"c"},
    "truncate c": {"c"},
    "truncate only b cascade": {"b", "c"},
    "truncate table a restart identity cascade": {"a", "b", "c"},
    "update c set b_id = null; insert into a values (7)": {"a", "c"},
    "/* select */ (((select 1)))": set(),
    "analyze a; comment on table a is 'x'": set(),
}


@pytest.mark.parametrize("sql", EXACT)
def test_exact(truth: Truth, sql: str) -> None:
    """What is understood is named, and PostgreSQL agrees; nothing else is written."""
    written = truth.written(sql)
    assert written == EXACT[sql]
    found = truth.read(sql)
    assert not isinstance(found, Everything)
    assert found >= written


BOUND: dict[str, Sequence[object] | Mapping[str, object]] = {
    "delete from c where id %% 2 = %s": (1,),
    "insert into c values (%s::int, (%s))": (5, None),
    "update c set b_id = %(x)s where '%%x' <> %(y)s and id = any(%(z)s)": {
        "x": None,
        "y": "",
        "z": [1],
    },
}


@pytest.mark.parametrize("sql", BOUND)
def test_bound(truth: Truth, sql: str) -> None:
    """The driver's binds and its doubled percent signs are read as the driver reads them."""
    assert truth.written(sql, BOUND[sql]) == truth.read(sql) == {"c"}


@pytest.mark.parametrize(
    ("sql", "written"), [("copy c (id) from stdin", {"c"}), ("copy a to stdout", set())]
)
def test_copy(truth: Truth, sql: str, written: set[str]) -> None:
    """COPY FROM writes; what a COPY names is not looked at."""
    assert truth.copied(sql) == written
    assert truth.read(sql) is EVERYTHING


HIDDEN: dict[str, set[str]] = {
    "update v set x = 5": {"a"},
    'delete from "select"': {"b", "c"},
    "insert into p values (7, 7)": {"p"},
    "update p_1 set x = 2": {"p_1"},
    "explain delete from a": set(),
    "explain analyze delete from a": {"a", "b", "c"},
    "create temp table a as select * from s.a; insert into s.a values (3)": {"a"},
    "alter table c add column y int": set(),
    "drop table c": set(),
    "create index on a (x)": set(),
    "do $$ begin delete from a; end $$": {"a", "b", "c"},
    "call wipe()": {"a", "b", "c"},
    "prepare q as delete from c; execute q": {"c"},
    "create rule r as on insert to c do also (delete from a; select 1); insert into c values (3)": {
        "a",
        "b",
        "c",
    },
    "create function f() returns int begin atomic delete from c; select 1; end; select f()": {"c"},
    "set search_path = public; delete from s.p_1": {"p_1"},
    "alter table a rename to z; delete from z": {"a", "b", "c"},
    "set local standard_conforming_strings = off; select 'it\\'; delete from c; --'": {"c"},
}


@pytest.mark.parametrize("sql", HIDDEN)
def test_hidden(truth: Truth, sql: str) -> None:
    """Where the table written is not the one named, it is everything."""
    assert truth.written(sql) == HIDDEN[sql]
    assert truth.read(sql) is EVERYTHING


def test_function_is_not_seen(truth: Truth) -> None:
    """A function that a SELECT calls may write; the text does not say so."""
    assert truth.written("select quietly()") == {"a", "b", "c"}
    assert truth.read("select quietly()") == set()


SIGNS = ["'", "''", '"', "$$", "$q$", "E'", "\\", "/*", "*/", "--", "\n", ";", " ", "x", "%"]
WRITES = ["delete from a", "truncate c", "update b set id = 9", "commit", "select 1"]
INSIDE = st.lists(st.sampled_from([*SIGNS, *WRITES]), max_size=5).map("".join)
AROUND = st.sampled_from(
    [
        "select '{}'",
        "select E'{}'",
        "select $${}$$",
        "select $q${}$q$",
        'select 1 as "{}"',
        "/*{}*/",
        "--{}\n",
        "{}",
        "select 1{}",
        "with w as ({} returning 1) select 1",
    ]
)
PIECE = st.builds(str.format, AROUND, INSIDE) | st.sampled_from(WRITES)
TEXT = st.lists(st.tuples(PIECE, st.sampled_from([";", " ", "\n"])).map("".join), max_size=4)


@given(TEXT.map("".join))
@settings(max_examples=300, deadline=None)
def test_never_less(truth: Truth, sql: str) -> None:
    """Whatever PostgreSQL accepts and does, the library touches at least that."""
    try:
        written = truth.written(sql)
    except psycopg.Error:
        return
    found = truth.read(sql)
    assert isinstance(found, Everything) or found >= written
    if truth.ended:
        assert read_sql(sql, "postgresql").ends_transaction is not None
