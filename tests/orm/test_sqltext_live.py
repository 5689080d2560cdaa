"""What PostgreSQL really writes for a text, against what was read from it.

Statement triggers on every table say who was written, cascades included; what they say must lie
within what `read_sql`, `resolve` and `Cascades` gave.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData

from cachedorm.orm.cascades import Cascades
from cachedorm.orm.cascades import Effect as CascadeEffect
from cachedorm.orm.sqltext import EVERYTHING, Effect, Everything, read_sql, resolve

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
insert into a values (1, 1), (2, 2);
insert into b values (1, 1);
insert into c values (1, 1);
insert into p values (1, 1);
"""
TRIGGERS = """
create trigger told after insert or update or delete or truncate on s.{0}
for each statement execute function s.told('{0}')
"""
TABLES = ("a", "b", "c", '"Quoted;"', "p", "p_1")


@dataclass(frozen=True, slots=True)
class Truth:
    """A connection that tells which tables a text writes; it always rolls back."""

    connection: psycopg.Connection
    cascades: Cascades
    metadata: MetaData

    def written(self, sql: str, parameters: tuple[object, ...] | None = None) -> set[str]:
        """Run a text and give the names of the tables that it wrote."""
        cursor = self.connection.cursor()
        cursor.execute("set search_path = s, public; truncate s.changes")
        try:
            cursor.execute(sql.encode(), parameters)
            cursor = self.connection.cursor()
            cursor.execute("select distinct tbl from s.changes")
            return {row[0].strip('"') for row in cursor.fetchall()}
        finally:
            self.connection.rollback()

    def read(self, sql: str) -> set[str] | Everything:
        """Give the names that the library would touch for the same text."""
        effect = read_sql(sql, "postgresql")
        if effect.everything:
            return EVERYTHING
        tables = {(t.schema, t.name): t for t in self.metadata.tables.values()}
        direct = resolve(effect.writes, tables, set(), ["s", "public"], "s")
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


@pytest.fixture
def truth(engine: Engine, database_url: str) -> Iterator[Truth]:
    """Tables, triggers, and a connection of our own."""
    dsn = database_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(dsn) as connection:
        connection.execute(SCHEMA)
        for table in TABLES:
            connection.execute(TRIGGERS.format(table).encode())
        connection.commit()
        metadata = MetaData()
        metadata.reflect(engine, schema="s", only=["a", "b", "c", "Quoted;"])
        yield Truth(connection, Cascades(metadata.tables.values()), metadata)


EXACT = {
    "select * from a for update": set(),
    "select 'x;delete from a', $$;delete from a$$, $q$ $$ ;delete from a $q$": set(),
    "select E'it\\'s; delete from a --'": set(),
    "select /* /* */ ; delete from a */ 1 -- ; delete from a": set(),
    'select x as "; delete from a" from a': set(),
    "explain delete from a": set(),
    "explain (verbose) update a set x = 1": set(),
    "savepoint a; release a": set(),
    "table a; values (1)": set(),
    "copy (select 1) to stdout": set(),
    "insert into a values (3)": {"a"},
    "INSERT INTO S.A VALUES (3) ON CONFLICT (ID) DO NOTHING": {"a"},
    "insert into \"Quoted;\" values (1, ascii(';'))": {"Quoted;"},
    "delete from c": {"c"},
    "delete from b": {"b", "c"},
    "delete from a": {"a", "b", "c"},
    "explain analyze delete from a": {"a", "b", "c"},
    "update a set id = id + 10": {"a", "b"},
    "with gone as (delete from c returning id) insert into a select id + 9 from gone": {"a", "c"},
    "with d as (with e as (select 1) select * from e) update only c set b_id = null": {"c"},
    "merge into c using a on c.id = a.id when matched then update set b_id = null": {"c"},
    "truncate c": {"c"},
    "truncate only b cascade": {"b", "c"},
    "truncate table a restart identity cascade": {"a", "b", "c"},
    "update c set b_id = null; insert into a values (7)": {"a", "c"},
    "select 1; delete from c where 1 %% 2 = 1": {"c"},
    "/* select */ (((select 1)))": set(),
    "create temp table a as select * from s.a; reset all": set(),
    "alter table c add column y int": set(),
    "create index on a (x); analyze a; comment on table a is 'x'": set(),
}


@pytest.mark.parametrize("sql", EXACT)
def test_exact(truth: Truth, sql: str) -> None:
    """What is understood is named, and PostgreSQL agrees; nothing else is written."""
    parameters = () if "%%" in sql else None
    written = truth.written(sql.replace("%%", "%"), None if parameters is None else None)
    assert written == EXACT[sql]
    found = truth.read(sql)
    assert found is not EVERYTHING
    assert found >= written
