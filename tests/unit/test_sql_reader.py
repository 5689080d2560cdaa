"""What a text is known to change; all else must be everything."""

import logging
import subprocess
import sys
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachedorm.orm.sql.names import Everything
from cachedorm.orm.sql.reader import (
    EVERYTHING,
    READ,
    UNKNOWN,
    Effect,
    Ending,
    RelationName,
    read_sql,
    resolve,
)

PG = "postgresql"


def names(*texts: str) -> frozenset[RelationName]:
    """Relation names from dotted texts."""
    parts = [text.rpartition(".") for text in texts]
    return frozenset(RelationName(schema or None, name) for schema, _, name in parts)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "SELECT * FROM a WHERE x = %(x)s FOR UPDATE",
        "select * from a for no key update of a skip locked",
        "(select 1) union all (select 2)",
        "((select 1))",
        "-- delete from a\n/* update /* nested */ a */ select 1",
        "select 'delete from a', \"update\" from b",
        "select $$ insert into a $$, $q$ ' $q$",
        "select E'it\\'s; delete from a'",
        "select 100 %% 3, x ->> 'y' from a where z ? 'k'",
        "values (1), (2)",
        "table a",
        "with x as (select 1), y as materialized (select 2) select * from x, y",
        "select nextval('s'), setval('s', 1), pg_advisory_xact_lock(1)",
        "select pg_notify('c', 'delete from a')",
        "show search_path",
        "SAVEPOINT sa_savepoint_1",
        "RELEASE SAVEPOINT sa_savepoint_1",
        "ROLLBACK TO SAVEPOINT sa_savepoint_1",
        "rollback work to a",
        "listen c",
        "unlisten *",
        "notify c, 'x'",
        "analyze a",
        "vacuum (full) a",
        "comment on table a is 'x'",
        "close c",
        "deallocate all",
        "select a.update, a.delete from a",
        "select * from a where x = :update and y = :into",
        ";;",
        "",
        "-- nothing",
    ],
)
def test_read(sql: str) -> None:
    """A known read and a session command without effect change nothing."""
    assert read_sql(sql, PG) == READ
    assert read_sql(sql, PG).harmless


@pytest.mark.parametrize(
    ("sql", "written"),
    [
        ("insert into a values (1)", "a"),
        ("INSERT INTO My_Db.Users (x) VALUES (%s), (%s) RETURNING id", "my_db.users"),
        ('insert into "My"."B""x" default values', 'My.B"x'),
        ("insert into a as z (x) select y from b", "a"),
        ("insert into a (x) values (%(x)s) on conflict do nothing", "a"),
        ("insert into db.s.a values ('1')", "s.a"),
        ("insert into 책 values (1)", "책"),
    ],
)
def test_inserted(sql: str, written: str) -> None:
    """What is only inserted into sets off no foreign key's action."""
    effect = read_sql(sql, PG)
    assert effect.writes == names(written)
    assert effect.opaque
    assert effect.deletes == names()
    assert not effect.everything


@pytest.mark.parametrize(
    "sql",
    [
        "update a set x = %(x)s where id = %(id)s::uuid",
        "UPDATE ONLY a AS z SET (x, y) = (1, 2) FROM b WHERE z.id = b.id RETURNING z.*",
        "/* c */ update a set x = x || '--' where y @> '{}' and st_dwithin(g, %s, 3)",
        "with b as (select 1) update a set x = (select * from b)",
        "update a set x = :x, y[1:n] = :y where z in (select id from b for update)",
        "insert into a values (1) on conflict (x) do update set x = excluded.x",
    ],
)
def test_updated(sql: str) -> None:
    """An UPDATE and an upsert are told apart: ON UPDATE may act."""
    effect = read_sql(sql, PG)
    assert (effect.writes, effect.updates, effect.deletes) == (names("a"), names("a"), names())


@pytest.mark.parametrize(
    "sql",
    [
        "delete from a",
        "delete from only a using b where a.x = b.x and a.y = any(%s)",
        "with x as (delete from a returning *) select * from x",
        "with x as (with y as (delete from a returning 1) select * from y) select * from x",
    ],
)
def test_deleted(sql: str) -> None:
    """A DELETE is found wherever it stands: ON DELETE may act."""
    effect = read_sql(sql, PG)
    assert (effect.writes, effect.updates, effect.deletes) == (names("a"), names(), names("a"))


def test_merge() -> None:
    """A MERGE may do all three."""
    effect = read_sql(
        "merge into s.a as z using b on z.id = b.id when matched and b.gone then delete "
        "when matched then update set x = 1 when not matched then insert values (1)",
        PG,
    )
    assert effect.writes == effect.updates == effect.deletes == names("s.a")


def test_several() -> None:
    """Several statements, and several writes in one, are added up."""
    effect = read_sql("update a set x = ';'; with x as (delete from b) insert into c table x", PG)
    assert effect.writes == names("a", "b", "c")
    assert (effect.updates, effect.deletes) == (names("a"), names("b"))


@pytest.mark.parametrize(
    ("sql", "truncated", "cascade"),
    [
        ("truncate a", "a", False),
        ("TRUNCATE TABLE ONLY a, b * RESTART IDENTITY", "a b", False),
        ('truncate s.a, "B" continue identity cascade', "s.a B", True),
    ],
)
def test_truncated(sql: str, truncated: str, cascade: bool) -> None:
    """TRUNCATE names its tables; only with CASCADE are there more."""
    effect = read_sql(sql, PG)
    expected = names(*truncated.split())
    assert effect.writes == expected
    assert effect.truncates_cascade == (expected if cascade else names())


@pytest.mark.parametrize(
    "sql",
    [
        "do $$ begin delete from a; end $$",
        "call p()",
        "execute x(1)",
        "prepare x as delete from a",
        "declare c cursor for select 1",
        "fetch all from c",
        "move 1 in c",
        "import foreign schema s from server f into t",
        "explain analyze select 1",
        "explain (analyze, buffers) update a set x = 1",
        "explain delete from a",
        "copy a (x, y) from stdin with (format csv)",
        "copy (select 1) to stdout",
        "refresh materialized view concurrently s.v",
        "create table if not exists s.t (x int references a on delete cascade)",
        "create table t (temp int, replace int)",
        "create unique index concurrently i on a (x)",
        "alter table only a add column temp int default 1",
        "drop table a",
        "create function f() returns int language sql as $$ select 1 $$",
        "create or replace view v as select 1",
        "create trigger t after insert on a execute function f()",
        "create rule r as on insert to a do also (delete from b; delete from c)",
        "create table t as execute x",
        "alter table a rename to b",
        "alter table a attach partition b default",
        "alter table a add x int, inherit b",
        "alter table a disable trigger all",
        "alter view a rename to b",
        "drop schema s cascade",
        "drop view a",
        "select dblink_exec('dbname=me', 'delete from a')",
        "select AddGeometryColumn('a', 'g', 4326, 'POINT', 2)",
        "security label on table a is 'x'",
        "delete from a where current of c",  # a cursor, which sqlglot does not know
        'update U&"\\0061" set x = 1',
        "select 'it\\'; delete from a; --'",  # standard_conforming_strings decides
        "select 1 where x = %(it's)s; delete from a where x = %(it's)s",
        "select /* unclosed",
        "select 'unclosed",
        "select $q$ unclosed $$",
        "delete\u00a0from a",
        "frobnicate a",
        "(update a set x = 1)",
        "1",
        "update from where",
        "select delete from a",  # a column of that name: safe, if not sharp
    ],
)
def test_unknown(sql: str) -> None:
    """What is not understood for certain is everything, until the transaction ends."""
    effect = read_sql(sql, PG)
    assert effect.everything
    assert effect.opaque
    assert not effect.lingers
    assert not effect.begins


@pytest.mark.parametrize(
    "sql",
    [
        "create temp table a (x int)",
        "create global temporary table if not exists a as select 1",
        "create or replace temp view a as select 1",
        "explain analyze create temporary table a as select 1",
        "explain analyze select 1 into temp a",
    ],
)
def test_temporary(sql: str) -> None:
    """A temporary table may hide another of its name, beyond the commit."""
    assert read_sql(sql, PG) == Effect(everything=True, opaque=True, lingers=True)


@pytest.mark.parametrize(
    ("sql", "lingers"),
    [
        ("set search_path = s", True),
        ("SET ROLE r", True),
        ("set session authorization r", True),
        ("set local statement_timeout = 0", False),
        ("set transaction isolation level serializable", False),
        ("set constraints all deferred", False),
        ("reset all", True),
        ("discard plans", True),
        ("select set_config('a.b', %s, true)", True),
        ("select x, pg_catalog.\"set_config\"('role', 'r', false) from a", True),
        ("lock table a", False),
        ("grant select on a to r", False),
        ("start transaction isolation level repeatable read", False),
        ("begin read only", False),
    ],
)
def test_session_state(sql: str, lingers: bool) -> None:
    """What may change what later reads see makes them bypass; a plain SET beyond the commit."""
    effect = read_sql(sql, PG)
    assert effect.opaque
    assert effect.lingers is lingers
    assert effect.writes == names()
    assert not effect.everything


@pytest.mark.parametrize(
    ("sql", "ending"),
    [
        ("COMMIT", "commit"),
        ("commit work and chain", "commit"),
        ("END", "commit"),
        ("end transaction", "commit"),
        ("ROLLBACK", "rollback"),
        ("rollback transaction", "rollback"),
        ("ABORT", "rollback"),
        ("prepare transaction 'x'", "prepare"),
        ("commit prepared 'x'", "commit prepared"),
        ("rollback prepared 'x'", "rollback prepared"),
        ("update a set x = 1; commit", "commit"),
        ("commit; begin; update a set x = 1; rollback", "commit"),
        ("select '; commit'", None),
        ("create function f() returns int begin atomic select 1; end; commit", "commit"),
        ("create function f() returns int begin atomic select case when a then 1 end; end", None),
        ("create table t (begin int); commit", "commit"),
        ("select 'it\\'s'; commit", "perhaps"),
        ("do $$ begin commit; end $$", None),  # only where no transaction is open
    ],
)
def test_ending(sql: str, ending: Ending | None) -> None:
    """A transaction ended by text is named; "perhaps" if the text cannot be read."""
    assert read_sql(sql, PG).ends_transaction == ending


def test_begin() -> None:
    """BEGIN is seen: under AUTOCOMMIT it opens a transaction."""
    assert read_sql("begin work", PG) == Effect(begins=True)
    assert read_sql("commit and chain", PG).begins
    assert not read_sql("select 1", PG).begins


@pytest.mark.parametrize(
    ("sql", "written", "deleted"),
    [
        ("replace into A values (?)", "a", True),
        ("insert or replace into a values ('x', :y)", "a", True),
        ("INSERT OR IGNORE INTO a VALUES (1)", "a", False),
        ("update or replace a set x = 1", "a", True),
        ("update [My Table] set x = @x", "my table", False),
        ("insert into main.`a` select replace(x, 'into', '') from b", "main.a", False),
    ],
)
def test_sqlite(sql: str, written: str, deleted: bool) -> None:
    """SQLite's REPLACE deletes first; its names have no case."""
    effect = read_sql(sql, "sqlite")
    assert effect.writes == names(written)
    assert effect.deletes == (names(written) if deleted else names())


def test_sqlite_settings() -> None:
    """A PRAGMA or another file may change what is read."""
    for sql in ("PRAGMA foreign_keys = on", "attach 'x' as y", "detach y"):
        assert read_sql(sql, "sqlite") == Effect(opaque=True, lingers=True)
    assert read_sql("insert into 'a' values (1)", "sqlite").everything
    assert read_sql("explain query plan delete from a", "sqlite") == UNKNOWN
    assert read_sql("drop table a", "sqlite") == UNKNOWN
    assert read_sql("begin immediate", "sqlite") == Effect(begins=True)
    trigger = "create trigger t after insert on a begin delete from b; end; commit"
    assert read_sql(trigger, "sqlite").ends_transaction == "commit"


@pytest.mark.parametrize("dialect", ["mysql", "mariadb", "oracle"])
@pytest.mark.parametrize("sql", ["select 1", "insert into a values (1)", "truncate a"])
def test_other_databases(sql: str, dialect: str) -> None:
    """A database whose SQL is not known: everything, and it may commit at any statement."""
    assert read_sql(sql, dialect) == UNKNOWN | Effect(ends_transaction="perhaps")


def test_name_is_cut() -> None:
    """PostgreSQL cuts names at 63 bytes, never inside a letter."""
    assert read_sql("insert into " + "a" * 70 + " values (1)", PG).writes == names("a" * 63)
    assert read_sql('insert into "' + "책" * 22 + '" values (1)', PG).writes == names("책" * 21)


def test_long() -> None:
    """A text over 100 kB is a read only if no writing word occurs in it at all."""
    long = "select * from a where x in (" + ",".join(map(str, range(50_000))) + ")"
    assert read_sql(long, PG) == READ
    assert read_sql(long + " and y = 'into'", PG).everything
    assert read_sql(long + "; commit", PG).ends_transaction == "perhaps"
    assert read_sql("update a set x = '" + "x" * 90_000 + "'", PG).writes == names("a")
    assert read_sql("update a set x = " + "(" * 3_000 + "1" + ")" * 3_000, PG).everything


@given(st.text(), st.sampled_from([PG, "sqlite", "mysql", "other"]))
def test_never_raises_on_text(sql: str, dialect: str) -> None:
    """Whatever the text, there is an answer."""
    assert isinstance(read_sql(sql, dialect), Effect)


SIGNS = ["'", '"', "$$", "$q$", "E'", "\\", "/*", "*/", "--", "\n", ";", "(", ")", " ", "%(", ")s"]
WORDS = ["delete from a", "update b set x=1", "select 1", "with x as", "into c", "commit", ":x"]
FRAGMENTS = st.sampled_from([*SIGNS, *WORDS])


@given(st.lists(FRAGMENTS, max_size=12).map("".join), st.sampled_from([PG, "sqlite", "mysql"]))
def test_never_raises_on_sql(sql: str, dialect: str) -> None:
    """Nor on broken SQL; and nothing is called a read that writes outside of quotes."""
    assert isinstance(read_sql(sql, dialect), Effect)


@given(st.text(alphabet=st.sampled_from("ab;'\"\\$/*- \n%delupdatinsr"), max_size=30))
def test_quoted_text_says_nothing(inside: str) -> None:
    """What stands in a string, a comment or a quoted name is never taken for code."""
    string = "'" + inside.replace("'", "''") + "'"
    name = '"' + inside.replace('"', '""') + '"' if inside else '"x"'
    sql = f"update a set {name} = $tag${inside}$tag$, y = E{string.replace(chr(92), chr(92) * 2)}"
    sql += "" if "\\" in inside else f", z = {string}"
    assert read_sql(sql, PG) == read_sql("update a set x = 1", PG)


def test_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """sqlglot's warnings do not reach the application's log, and its logger stays as it was."""
    with caplog.at_level(logging.DEBUG):
        for sql in ("with x as (execute y) insert into a table x", "update a set x = 1", "set x=1"):
            read_sql(sql, PG)
    assert not caplog.records
    assert not logging.getLogger("sqlglot").filters


def test_cost() -> None:
    """A text seen before costs less than a microsecond."""
    sql = "update a set x = %(x)s where id = %(id)s"
    read_sql(sql, PG)
    best = min(timeit.repeat(lambda: read_sql(sql, PG), number=10_000, repeat=5)) / 10_000
    assert best < 1e-6


WITHOUT_SQLGLOT = """
import sys
sys.modules["sqlglot"] = None
from cachedorm.orm.sql.reader import READ, read_sql
assert read_sql("select 1 from a for update", "postgresql") == READ
assert read_sql("savepoint a", "postgresql") == READ
assert read_sql("commit", "postgresql").ends_transaction == "commit"
assert not read_sql("truncate a", "postgresql").everything
assert read_sql("update a set x = 1", "postgresql").everything
assert read_sql("with x as (delete from a) select 1", "postgresql").everything
"""


def test_without_sqlglot() -> None:
    """Without sqlglot a write is everything; reads and session commands are still known."""
    subprocess.run([sys.executable, "-c", WITHOUT_SQLGLOT], check=True)


TABLES = {
    ("my_db", "users"): "users",
    (None, "items"): "items",
    ("other", "users"): "others",
    ("my_db", "items"): "my items",
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("my_db.users", {"users"}),
        ("users", {"users", "others"}),  # any schema: the search path is not known
        ("items", {"items", "my items"}),
        ("public.items", {"items"}),
        ("my_db.items", {"my items"}),
        ("far.items", EVERYTHING),  # a relation that is not declared
        ("my_db.users_2024", EVERYTHING),  # a partition, or a view
    ],
)
def test_resolve(text: str, found: set[str] | Everything) -> None:
    """A name is every table it may stand for; one that stands for none is everything."""
    assert resolve(names(text), TABLES, "public") == found


def test_resolve_together() -> None:
    """One unknown name is enough; no names are no tables; the default schema may be unknown."""
    assert resolve(names("items", "zzz"), TABLES, "public") is EVERYTHING
    assert resolve(names(), TABLES, "public") == set()
    assert resolve(names("any.items"), TABLES, None) == {"items"}
    assert resolve(names("items"), {(None, "Items"): 1}, None, any_case=True) == {1}
