"""What a write does to other tables is read from the foreign keys."""

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Integer, MetaData, Table

from cachedorm.orm.interest.cascades import Cascade, CascadeEffect, Cascades

Told = tuple[str, CascadeEffect, frozenset[str] | None, int]


def told(cascades: tuple[Cascade, ...]) -> list[Told]:
    """Table, effect, columns and depth of each."""
    return [(c.table.fullname, c.effect, c.columns, c.depth) for c in cascades]


def table(name: str, metadata: MetaData, *columns: Column[int], schema: str | None = None) -> Table:
    """A table with an id and these columns."""
    return Table(name, metadata, Column("id", Integer, primary_key=True), *columns, schema=schema)


def link(
    name: str, to: str, ondelete: str | None = None, onupdate: str | None = None
) -> Column[int]:
    """A column with a foreign key."""
    return Column(name, Integer, ForeignKey(to, ondelete=ondelete, onupdate=onupdate))


def test_delete() -> None:
    """CASCADE deletes, SET NULL and SET DEFAULT update, RESTRICT and NO ACTION do nothing."""
    m = MetaData()
    users = table("users", m, schema="my")
    posts = table("posts", m, link("user_id", "my.users.id", "cascade"))
    notes = table("notes", m, link("by", "my.users.id", "SET  NULL"))
    votes = table("votes", m, link("by", "my.users.id", "SET DEFAULT"))
    table("bills", m, link("by", "my.users.id", "RESTRICT"))
    table("logs", m, link("by", "my.users.id"), link("at", "my.users.id", "NO ACTION"))
    found = Cascades(m.tables.values()).of(users, CascadeEffect.DELETE)
    assert sorted(told(found), key=str) == [
        ("notes", CascadeEffect.UPDATE, frozenset({"by"}), 1),
        ("posts", CascadeEffect.DELETE, None, 1),
        ("votes", CascadeEffect.UPDATE, frozenset({"by"}), 1),
    ]
    keys = {c.table: c.keys for c in found}
    assert keys[posts] == ((users.c.id, posts.c.user_id),)
    assert keys[notes] == ((users.c.id, notes.c.by),)
    assert keys[votes] == ((users.c.id, votes.c.by),)
    assert all(c.exact for c in found)


def test_deeper() -> None:
    """A cascaded delete cascades on; below the first level rows cannot be selected beforehand."""
    m = MetaData()
    a = table("a", m)
    table("b", m, link("a_id", "a.id", "CASCADE"))
    table("c", m, link("b_id", "b.id", "CASCADE"))
    table("d", m, link("c_id", "c.id", "SET NULL"))
    found = Cascades(m.tables.values()).of(a, CascadeEffect.DELETE)
    assert told(found) == [
        ("b", CascadeEffect.DELETE, None, 1),
        ("c", CascadeEffect.DELETE, None, 2),
        ("d", CascadeEffect.UPDATE, frozenset({"c_id"}), 3),
    ]
    assert [c.exact for c in found] == [True, False, False]


def test_set_null_goes_on() -> None:
    """SET NULL is an update of the child's columns, which others may refer to."""
    m = MetaData()
    a = table("a", m)
    table("b", m, Column("a_id", Integer, ForeignKey("a.id", ondelete="SET NULL"), unique=True))
    table("c", m, link("b_a", "b.a_id", onupdate="CASCADE"), link("b_id", "b.id", "CASCADE"))
    assert told(Cascades(m.tables.values()).of(a, CascadeEffect.DELETE)) == [
        ("b", CascadeEffect.UPDATE, frozenset({"a_id"}), 1),
        ("c", CascadeEffect.UPDATE, frozenset({"b_a"}), 2),
    ]


def test_update() -> None:
    """ON UPDATE acts if a referenced column is set; not knowing which, all are."""
    m = MetaData()
    a = table("a", m, Column("code", Integer, unique=True), Column("name", Integer))
    table("b", m, link("a_code", "a.code", onupdate="CASCADE"))
    table("c", m, link("a_id", "a.id", onupdate="SET NULL"))
    table("d", m, link("a_id", "a.id", "CASCADE"))
    cascades = Cascades(m.tables.values())
    assert told(cascades.of(a, CascadeEffect.UPDATE, frozenset({"name"}))) == []
    code = ("b", CascadeEffect.UPDATE, frozenset({"a_code"}), 1)
    assert told(cascades.of(a, CascadeEffect.UPDATE, frozenset({"name", "code"}))) == [code]
    both = [code, ("c", CascadeEffect.UPDATE, frozenset({"a_id"}), 1)]
    assert told(cascades.of(a, CascadeEffect.UPDATE)) == both
    assert told(cascades.of(a, CascadeEffect.UPDATE, None)) == both


def test_composite_key() -> None:
    """A composite key changes the columns it pairs; SET NULL all of them."""
    m = MetaData()
    parent = Table(
        "p", m, Column("x", Integer, primary_key=True), Column("y", Integer, primary_key=True)
    )

    def child(name: str, action: str) -> Table:
        key = ForeignKeyConstraint(["px", "py"], ["p.x", "p.y"], onupdate=action, ondelete=action)
        return table(name, m, Column("px", Integer), Column("py", Integer), key)  # type: ignore[arg-type]

    cascading = child("cascading", "CASCADE")
    child("nulling", "SET NULL (py)")
    cascades = Cascades(m.tables.values())
    found = cascades.of(parent, CascadeEffect.UPDATE, frozenset({"y"}))
    assert told(found) == [
        ("cascading", CascadeEffect.UPDATE, frozenset({"py"}), 1),
        ("nulling", CascadeEffect.UPDATE, frozenset({"px", "py"}), 1),
    ]
    pairs = ((parent.c.x, cascading.c.px), (parent.c.y, cascading.c.py))
    assert cascades.of(parent, CascadeEffect.DELETE)[0].keys == pairs


def test_self_reference_ends() -> None:
    """A tree is its own child: exactly below the row, and as a whole further down."""
    m = MetaData()
    tree = table("tree", m, link("parent_id", "tree.id", "CASCADE"))
    found = Cascades([tree]).of(tree, CascadeEffect.DELETE)
    assert told(found) == [
        ("tree", CascadeEffect.DELETE, None, 1),
        ("tree", CascadeEffect.DELETE, None, 2),
    ]
    assert found[0].keys == ((tree.c.id, tree.c.parent_id),)


def test_cycle_ends() -> None:
    """Tables that refer to each other end, and the first is reached again."""
    m = MetaData()
    a = table("a", m, link("b_id", "b.id", "CASCADE"))
    table("b", m, link("a_id", "a.id", "CASCADE"))
    assert told(Cascades(m.tables.values()).of(a, CascadeEffect.DELETE)) == [
        ("b", CascadeEffect.DELETE, None, 1),
        ("a", CascadeEffect.DELETE, None, 2),
        ("b", CascadeEffect.DELETE, None, 3),
    ]


def test_truncate() -> None:
    """TRUNCATE is of the table alone; with CASCADE every foreign key counts, all the way."""
    m = MetaData()
    a = table("a", m)
    table("b", m, link("a_id", "a.id", "RESTRICT"))
    table("c", m, link("b_id", "b.id"))
    cascades = Cascades(m.tables.values())
    assert cascades.of(a, CascadeEffect.TRUNCATE) == ()
    found = cascades.of(a, CascadeEffect.TRUNCATE_CASCADE)
    assert told(found) == [
        ("b", CascadeEffect.TRUNCATE_CASCADE, None, 1),
        ("c", CascadeEffect.TRUNCATE_CASCADE, None, 2),
    ]
    assert not any(c.exact for c in found)


def test_two_foreign_keys() -> None:
    """Two foreign keys of one child are two cascades: their rows differ."""
    m = MetaData()
    a = table("a", m)
    b = table("b", m, link("x", "a.id", "CASCADE"), link("y", "a.id", "CASCADE"))
    found = Cascades(m.tables.values()).of(a, CascadeEffect.DELETE)
    assert [c.keys for c in found] == [((a.c.id, b.c.x),), ((a.c.id, b.c.y),)]


def test_other_metadata() -> None:
    """Children are found in every MetaData; a table is its schema and name."""
    ours, theirs, third = MetaData(), MetaData(schema="s"), MetaData()
    a = table("a", ours, schema="s")
    b = table("b", theirs, link("a_id", "a.id", "CASCADE"))
    table("a", third, schema="s")
    c = table("c", third, link("a_id", "s.a.id", "CASCADE"))
    stranger = table("d", third, link("e_id", "nowhere.e.id", "CASCADE"))
    cascades = Cascades([a, b, c, stranger])
    found = cascades.of(a, CascadeEffect.DELETE)
    assert [x.table for x in found] == [b, c]
    assert [x.exact for x in found] == [True, True]
    assert cascades.of(third.tables["s.a"], CascadeEffect.DELETE) == found


def test_renamed_column() -> None:
    """Columns are meant by their names in the database, not by their keys."""
    m = MetaData()
    a = Table("a", m, Column("no", Integer, key="number", primary_key=True))
    table("b", m, Column("a_no", Integer, ForeignKey("a.number", onupdate="CASCADE"), key="link"))
    cascades = Cascades(m.tables.values())
    expected = [("b", CascadeEffect.UPDATE, frozenset({"a_no"}), 1)]
    assert told(cascades.of(a, CascadeEffect.UPDATE, frozenset({"no"}))) == expected
    assert told(cascades.of(a, CascadeEffect.UPDATE, frozenset({"number"}))) == []


def test_kept_and_shown() -> None:
    """An answer is made once; the object says what it knows."""
    m = MetaData()
    a = table("a", m)
    table("b", m, link("a_id", "a.id", "CASCADE"))
    cascades = Cascades(m.tables.values())
    assert cascades.of(a, CascadeEffect.DELETE) is cascades.of(
        a, CascadeEffect.DELETE, frozenset({"id"})
    )
    assert repr(cascades) == "<Cascades tables=2 foreign_keys=1>"
