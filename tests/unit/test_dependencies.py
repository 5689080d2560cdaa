"""What the answer of a statement depends on, and what is refused because it cannot be told."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    BindParameter,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    Select,
    String,
    Table,
    TypeDecorator,
    and_,
    bindparam,
    case,
    cast,
    column,
    exists,
    false,
    func,
    insert,
    lateral,
    literal,
    literal_column,
    or_,
    select,
    table,
    text,
    true,
    tuple_,
    type_coerce,
    union,
    union_all,
    values,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    mapped_column,
    relationship,
    with_loader_criteria,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase

from cachedorm import CachedQuery, Region
from cachedorm.declare.queries.dependencies import NotAnalysable, dependencies_of
from cachedorm.errors import ArgumentError, DeclarationError

HERE = Region("here", db=1, ttl=timedelta(seconds=60))


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    GOOD = "good"


class Folded(TypeDecorator[str]):
    """Compared in lower case, by SQL."""

    impl = String(20)
    cache_ok = True

    def bind_expression(self, bindvalue: BindParameter[str]) -> Any:
        return func.lower(bindvalue)


class Shelf(Base):
    __tablename__ = "racks"

    id: Mapped[int] = mapped_column(primary_key=True)
    floor: Mapped[int]
    label: Mapped[str] = mapped_column(String(20))
    opened: Mapped[date] = mapped_column(Date)
    books: Mapped[list[Book]] = relationship(back_populates="shelf")


class Book(Base):
    __tablename__ = "tomes"

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("racks.id"))
    parent_id: Mapped[int | None]
    title: Mapped[str] = mapped_column(String(50))
    code: Mapped[str] = mapped_column(CHAR(5))
    price: Mapped[Any] = mapped_column(Numeric(8, 2))
    mood: Mapped[Mood] = mapped_column(Enum(Mood))
    folded: Mapped[str] = mapped_column(Folded)
    printed: Mapped[datetime] = mapped_column(DateTime)
    shelf: Mapped[Shelf] = relationship(back_populates="books")


class Loan(Base):
    __tablename__ = "loans"
    __table_args__ = ({"schema": "desk"},)

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("tomes.id"))
    reader: Mapped[str] = mapped_column(String(20))


other = Table("others", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
Parent = aliased(Book)
shelf: BindParameter[Any] = bindparam("shelf")
book: BindParameter[Any] = bindparam("book")
of_shelf = select(Book.id, Book.title).where(Book.shelf_id == shelf)
recursive = select(Book.id).where(Book.id == book).cte("tree", recursive=True)
tree = recursive.union_all(select(Book.id).join(recursive, Book.parent_id == recursive.c.id))
counted = select(Book.shelf_id, func.count().label("n")).group_by(Book.shelf_id).subquery("counted")
beside = lateral(select(Book.title).where(Book.shelf_id == Shelf.id).limit(3))


def distinct_on(statement: Select[Any], by: Any) -> Select[Any]:
    """DISTINCT ON, which is an extension since 2.1."""
    make = getattr(postgresql, "distinct_on", None)
    extended: Select[Any] = statement.distinct(by) if make is None else statement.ext(make(by))
    return extended


# name: (statement, what repr shows)
INFERRED: dict[str, tuple[SelectBase, str]] = {
    "equality": (select(Book).where(Book.shelf_id == shelf), "tomes.shelf_id=:shelf"),
    "the other way round": (select(Book).where(shelf == Book.shelf_id), "tomes.shelf_id=:shelf"),
    "filter_by": (select(Book).filter_by(shelf_id=shelf), "tomes.shelf_id=:shelf"),
    "a value of the statement": (select(Book).where(Book.shelf_id == 3), "tomes.shelf_id=3"),
    "an enum": (select(Book).where(Book.mood == Mood.GOOD), "tomes.mood=<Mood.GOOD: 'good'>"),
    "a Decimal": (select(Book).where(Book.price == bindparam("p")), "tomes.price=:p"),
    "nothing": (select(Book), "tomes.*"),
    "is null": (select(Book).where(Book.parent_id.is_(None)), "tomes.*"),
    "inequality": (select(Book).where(Book.id > 3, Book.id != 5), "tomes.*"),
    "or": (select(Book).where(or_(Book.id == 1, Book.shelf_id == 2)), "tomes.*"),
    "or inside and": (
        select(Book).where(and_(Book.shelf_id == shelf, or_(Book.id == 1, Book.id == 2))),
        "tomes.shelf_id=:shelf",
    ),
    "not": (select(Book).where(~(Book.id == 1)), "tomes.*"),
    "the key before others": (
        select(Book).where(Book.shelf_id == shelf, Book.id == book),
        "tomes.id=:book",
    ),
    "in, a list of the call": (
        select(Book).where(Book.id.in_(bindparam("ids", expanding=True))),
        "tomes.id=:ids",
    ),
    "in, a list of the statement": (select(Book).where(Book.id.in_([1, 2])), "tomes.id=1, 2"),
    "in, no values": (select(Book).where(Book.id.in_([])), "tomes.id="),
    "in, too many values": (select(Book).where(Book.id.in_(range(21))), "tomes.*"),
    "not in": (select(Book).where(Book.id.not_in([1])), "tomes.*"),
    "in of pairs": (select(Book).where(tuple_(Book.id, Book.shelf_id).in_([(1, 2)])), "tomes.*"),
    "one value before many": (
        select(Book).where(Book.id.in_([1, 2]), Book.shelf_id == shelf),
        "tomes.shelf_id=:shelf",
    ),
    "a function of the column": (select(Book).where(func.abs(Book.id) == 1), "tomes.*"),
    "a cast of the column": (select(Book).where(cast(Book.id, String) == "1"), "tomes.*"),
    "another type of the column": (
        select(Book).where(type_coerce(Book.id, String) == "1"),
        "tomes.*",
    ),
    "equality wider than Python's": (select(Book).where(Book.code == "a"), "tomes.*"),
    "a value that SQL changes": (select(Book).where(Book.folded == "A"), "tomes.*"),
    "a value of another type": (
        select(Book).where(Book.printed == bindparam("day", type_=Date)),
        "tomes.*",
    ),
    "a value of an expression": (select(Book).where(Book.id == book + 1), "tomes.*"),
    "join": (
        select(Book).join(Book.shelf).where(Shelf.id == shelf),
        "racks.id=:shelf, tomes.shelf_id=:shelf",
    ),
    "join by condition": (
        select(Book).join(Shelf, and_(Shelf.id == Book.shelf_id, Shelf.floor == bindparam("f"))),
        "tomes.*, racks.floor=:f",
    ),
    "join in the condition": (
        select(Book, Loan).where(Loan.book_id == Book.id, Book.id == book),
        "tomes.id=:book, desk.loans.book_id=:book",
    ),
    "join of columns of two types": (
        select(Book, Shelf).where(Book.printed == Shelf.opened, Shelf.opened == bindparam("day")),
        "tomes.*, racks.opened=:day",
    ),
    "three tables in a chain": (
        select(Loan)
        .join(Book, Book.id == Loan.book_id)
        .join(Shelf, Shelf.id == Book.shelf_id)
        .where(Book.shelf_id == shelf, Loan.book_id == book),
        "desk.loans.book_id=:book, tomes.id=:book, racks.id=:shelf",
    ),
    "outer join, the optional side": (
        select(Shelf, Book).outerjoin(Shelf.books).where(Shelf.id == shelf),
        "racks.id=:shelf, tomes.shelf_id=:shelf",
    ),
    "outer join, narrowed by the optional side alone": (
        select(Shelf, Book).outerjoin(Book, and_(Book.shelf_id == Shelf.id, Book.id == book)),
        "racks.*, tomes.id=:book",
    ),
    "outer join, not the other way": (
        select(Shelf, Book).outerjoin(Book, and_(Book.shelf_id == Shelf.id, Shelf.id == shelf)),
        "racks.*, tomes.*",
    ),
    "outer join, the condition names the optional side": (
        select(Shelf, Book).outerjoin(Shelf.books).where(Book.shelf_id == shelf),
        "racks.*, tomes.shelf_id=:shelf",
    ),
    "full join": (
        select(Shelf, Book).outerjoin(Shelf.books, full=True).where(Shelf.id == shelf),
        "racks.id=:shelf, tomes.*",
    ),
    "joins in joins": (
        select(Shelf.id)
        .select_from(Shelf.__table__.outerjoin(Book.__table__.join(Loan.__table__)))
        .where(Shelf.id == shelf),
        "racks.id=:shelf, tomes.shelf_id=:shelf, desk.loans.*",
    ),
    "the table twice": (
        select(Book, Parent).join(Parent, Parent.id == Book.parent_id).where(Book.id == book),
        "tomes.*",
    ),
    "the table twice, both narrow": (
        select(Book, Parent).join(Parent, Parent.id == Book.parent_id).where(Book.parent_id == 3),
        "tomes.parent_id=3, tomes.id=3",
    ),
    "aggregate": (
        select(func.count(), func.sum(case((Book.id > 1, 1), else_=0))).where(
            Book.shelf_id == shelf
        ),
        "tomes.shelf_id=:shelf",
    ),
    "a window": (
        select(func.rank().over(partition_by=Book.shelf_id, order_by=Book.id)),
        "tomes.*",
    ),
    "having": (
        select(Book.shelf_id).group_by(Book.shelf_id).having(Book.shelf_id == shelf),
        "tomes.*",
    ),
    "exists": (
        select(Shelf).where(
            Shelf.id == shelf, exists().where(Book.shelf_id == Shelf.id, Book.id == book)
        ),
        "racks.id=:shelf, tomes.id=:book",
    ),
    "exists by relationship": (
        select(Shelf).where(Shelf.books.any(Book.title == "x"), Shelf.id == shelf),
        "racks.id=:shelf, tomes.shelf_id=:shelf",
    ),
    "a correlated subquery": (
        select(
            Shelf,
            select(func.count(Book.id)).where(Book.shelf_id == Shelf.id).scalar_subquery(),
        ).where(Shelf.id == shelf),
        "racks.id=:shelf, tomes.shelf_id=:shelf",
    ),
    "a subquery of the same table": (
        select(Book).where(
            Book.shelf_id == shelf,
            Book.price > select(func.avg(Book.price)).correlate(None).scalar_subquery(),
        ),
        "tomes.*",
    ),
    "a subquery that is not correlated": (
        select(Shelf).where(
            Shelf.id == shelf,
            exists(select(Book.id).where(Book.shelf_id == Shelf.id).correlate_except(Shelf, Book)),
        ),
        "racks.*, tomes.*",
    ),
    "in a select": (
        select(Shelf).where(Shelf.id.in_(select(Book.shelf_id).where(Book.id == book))),
        "racks.*, tomes.id=:book",
    ),
    "a subquery in ORDER BY": (
        select(Shelf.id)
        .where(Shelf.id == shelf)
        .order_by(select(func.max(Book.id)).where(Book.id == book).scalar_subquery()),
        "racks.id=:shelf, tomes.id=:book",
    ),
    "a subquery in LIMIT": (
        select(Shelf.id)
        .where(Shelf.id == shelf)
        .limit(select(func.count(Book.id)).scalar_subquery()),
        "racks.id=:shelf, tomes.*",
    ),
    "a subquery as a source": (
        select(Shelf, counted.c.n)
        .outerjoin(counted, counted.c.shelf_id == Shelf.id)
        .where(Shelf.id == shelf),
        "racks.id=:shelf, tomes.*",
    ),
    "a narrow subquery as a source": (
        select(of_shelf.subquery().c.title),
        "tomes.shelf_id=:shelf",
    ),
    "an entity of a subquery": (
        select(aliased(Book, select(Book).where(Book.id == book).subquery())),
        "tomes.id=:book",
    ),
    "a CTE": (select(of_shelf.cte("mine").c.title), "tomes.shelf_id=:shelf"),
    "a recursive CTE": (select(tree.c.id), "tomes.*"),
    "a lateral source": (
        select(Shelf.id, beside.c.title).join(beside, true()).where(Shelf.id == shelf),
        "racks.id=:shelf, tomes.shelf_id=:shelf",
    ),
    "union": (
        union(of_shelf, select(Book.id, Book.title).where(Book.id == book)),
        "tomes.shelf_id=:shelf, tomes.id=:book",
    ),
    "union all, one side whole": (
        union_all(of_shelf, select(Book.id, Book.title)),
        "tomes.*",
    ),
    "a union as a source": (
        select(union(of_shelf, of_shelf).subquery().c.title),
        "tomes.shelf_id=:shelf",
    ),
    "distinct on": (
        distinct_on(select(Book), Book.shelf_id).order_by(Book.shelf_id),
        "tomes.*",
    ),
    "an alias": (select(Parent).where(Parent.id == book), "tomes.id=:book"),
    "a Core table": (select(other).where(other.c.n == bindparam("n")), "others.n=:n"),
    "values beside a table": (
        select(Book.id).join(
            values(column("id", Integer), name="v").data([(1,)]), literal(1) == Book.id
        ),
        "tomes.id=1",
    ),
    "grouping sets": (
        select(func.count()).select_from(Book).group_by(func.rollup(Book.shelf_id)),
        "tomes.*",
    ),
    "never": (select(Book).where(false(), Book.shelf_id == shelf), "tomes.*"),
    "a default of the parameter": (
        select(Book).where(Book.shelf_id == bindparam("shelf", 7)),
        "tomes.shelf_id=:shelf",
    ),
    "limits": (of_shelf.limit(bindparam("limit", 10)).offset(2), "tomes.shelf_id=:shelf"),
}


@pytest.mark.parametrize("name", INFERRED)
def test_dependencies_are_read_off_the_statement(name: str) -> None:
    """A narrow tag where an equality holds for every row that matters, else the whole table."""
    statement, expected = INFERRED[name]
    found = {str(each) for each in dependencies_of(statement)}
    assert found == set(_split(expected))


def _split(expected: str) -> list[str]:
    """Commas part the lines, but for those between values."""
    lines: list[str] = []
    for part in expected.split(", "):
        if "=" in part or part.endswith(".*"):
            lines.append(part)
        else:
            lines[-1] += f", {part}"
    return lines


class Scored(FunctionElement[int]):
    """A function of the application's own."""

    name = "scored"
    inherit_cache = True


class Moment(ColumnElement[datetime]):
    """SQL text of the application's own."""

    inherit_cache = True
    type = DateTime()


@compiles(Moment)
def _moment(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "clock_timestamp()"


REFUSED: dict[str, tuple[Callable[[], SelectBase], str]] = {
    "text": (lambda: select(Book).where(text("id = 1")), "SQL text: 'id = 1'"),
    "a textual select": (
        lambda: text("select id from tomes").columns(column("id", Integer)).subquery().select(),
        "SQL text",
    ),
    "an element of the application": (
        lambda: select(Book).where(Book.printed < Moment()),
        "Moment, which the application compiles to SQL text itself",
    ),
    "a prefix": (
        lambda: select(Book).prefix_with("DISTINCT ON (title)"),
        "SQL text: 'DISTINCT ON (title)'",
    ),
    "a suffix": (lambda: select(Book).suffix_with("FOR UPDATE"), "SQL text: 'FOR UPDATE'"),
    "a literal column": (lambda: select(literal_column("x"), Book.id), "a literal column: 'x'"),
    "now()": (lambda: select(Book).where(Book.printed < func.now()), "now()"),
    "current_date": (lambda: select(func.current_date(), Book.id), "current_date()"),
    "random()": (lambda: select(Book).order_by(func.random()), "random()"),
    "an unknown function": (lambda: select(func.score(Book.id)), "the function score()"),
    "a known name in a schema": (
        lambda: select(func.mine.lower(Book.title)),
        "the function mine.lower()",
    ),
    "a function of the application": (
        lambda: select(Book.id, Scored(Book.title)),
        "the function scored()",
    ),
    "a function as a source": (
        lambda: select(func.generate_series(1, 3).table_valued("n"), Book.id),
        "the function generate_series()",
    ),
    "a table by name only": (
        lambda: select(table("tomes", column("id")).c.id),
        "the source 'tomes', of which only the name is known",
    ),
    "a random sample": (
        lambda: select(aliased(Book, Book.__table__.tablesample(5))),
        "a random sample of tomes",
    ),
    "for update": (lambda: select(Book).with_for_update(), "FOR UPDATE"),
    "for update inside": (
        lambda: select(select(Book.id).with_for_update().subquery().c.id),
        "FOR UPDATE",
    ),
    "a write inside": (
        lambda: select(insert(other).values(n=1).returning(other.c.id).cte("made").c.id),
        "a statement inside that writes",
    ),
    "loader criteria": (
        lambda: select(Book).options(with_loader_criteria(Book, Book.id > 1)),
        "with_loader_criteria()",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused(name: str) -> None:
    """Never a guess: the error says what is in the way and asks for depends_on."""
    make, reason = REFUSED[name]
    with pytest.raises(NotAnalysable) as refused:
        dependencies_of(make())
    assert reason in str(refused.value)
    with pytest.raises(DeclarationError, match="depends_on="):
        _ = CachedQuery(HERE, "x:all", make()).dependencies


@pytest.mark.parametrize("name", REFUSED)
def test_depends_on_says_it_instead(name: str) -> None:
    """With depends_on the author vouches for it."""
    make, _ = REFUSED[name]
    query = CachedQuery(HERE, "x:all", make(), depends_on=(Book, other))
    assert [str(each) for each in query.dependencies] == ["tomes.*", "others.*"]


def test_depends_on_adds_to_what_is_inferred() -> None:
    """A table that is named there is depended on as a whole."""
    query = CachedQuery(HERE, "x:{shelf}", of_shelf, depends_on=(Loan,))
    assert [str(each) for each in query.dependencies] == ["tomes.shelf_id=:shelf", "desk.loans.*"]
    assert repr(query) == (
        "<CachedQuery x:{shelf} in here; depends on tomes.shelf_id=:shelf, desk.loans.*>"
    )
    with pytest.raises(DeclarationError, match="neither a mapped class nor a Table"):
        _ = CachedQuery(HERE, "x:{shelf}", of_shelf, depends_on=(int,)).dependencies


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no SELECT": (
        lambda: CachedQuery(HERE, "x:all", insert(other)),
        "the statement must be a SELECT",
    ),
    "a field that is no parameter": (
        lambda: CachedQuery(HERE, "x:{isbn}", of_shelf),
        "'isbn', which is not a parameter of the statement; its parameters are: shelf",
    ),
    "an execution that asks for more": (
        lambda: CachedQuery(HERE, "x:{shelf}", of_shelf.execution_options(populate_existing=True)),
        "has the execution option populate_existing, which a cached answer cannot obey",
    ),
    "another on_write": (
        lambda: CachedQuery(HERE, "x:{shelf}", of_shelf, on_write="later"),  # type: ignore[arg-type]
        'give "invalidate" or "refresh"',
    ),
    "a value looked up later": (
        lambda: CachedQuery(
            HERE, "x:all", select(Book).where(Book.shelf_id == bindparam("s", callable_=lambda: 1))
        ),
        "'s' is looked up when the statement runs",
    ),
    "an object": (
        lambda: CachedQuery(HERE, "x:all", select(Book).where(Book.shelf == Shelf(id=1))),
        "is looked up when the statement runs",
    ),
    "one value and a list": (
        lambda: CachedQuery(
            HERE,
            "x:all",
            select(Book).where(
                Book.id == bindparam("n"), Book.shelf_id.in_(bindparam("n", expanding=True))
            ),
        ),
        "'n' is one value here and a list there",
    ),
    "no table": (lambda: CachedQuery(HERE, "x:all", select(literal(1))).dependencies, "no table"),
    "a ttl that is none": (
        lambda: CachedQuery(HERE, "x:{shelf}", of_shelf, ttl=0),
        "ttl=0 is not positive",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_declaration_says_what_to_do(name: str) -> None:
    """Found when it is declared."""
    declare, message = WRONG[name]
    with pytest.raises(DeclarationError) as refused:
        declare()
    assert message in str(refused.value)


REFRESHED: dict[str, SelectBase] = {
    "one parameter": of_shelf,
    "by way of a join": select(Shelf, Book).outerjoin(Shelf.books).where(Shelf.id == shelf),
    "no parameter": select(Book.title).distinct(),
}


@pytest.mark.parametrize("name", REFRESHED)
def test_refresh_is_taken_where_a_row_tells_all_parameters(name: str) -> None:
    """The written row has the value of every parameter."""
    key = "x:all" if name == "no parameter" else "x:{shelf}"
    assert CachedQuery(HERE, key, REFRESHED[name], on_write="refresh").dependencies


NOT_REFRESHED: dict[str, tuple[str, SelectBase, str]] = {
    "a limit": (
        "x:{shelf}",
        of_shelf.limit(bindparam("limit", 10)),
        "a value for limit, which a write that touches tomes.shelf_id=:shelf does not determine",
    ),
    "a table as a whole": (
        "x:{shelf}",
        select(Book, Loan).where(Book.shelf_id == shelf),
        "needs a value for shelf, which a write that touches desk.loans.* does not determine",
    ),
    "a list": (
        "x:all",
        select(Book).where(Book.id.in_(bindparam("ids", expanding=True))),
        "needs a value for ids",
    ),
    "two of one table": (
        "x:{shelf}:{book}",
        select(Book).where(Book.shelf_id == shelf, Book.id == book),
        "needs a value for shelf",
    ),
}


@pytest.mark.parametrize("name", NOT_REFRESHED)
def test_refresh_is_refused_where_a_row_does_not(name: str) -> None:
    """The error names the parameter and what to use instead."""
    key, statement, message = NOT_REFRESHED[name]
    query = CachedQuery(HERE, key, statement, on_write="refresh")
    with pytest.raises(DeclarationError) as refused:
        _ = query.dependencies
    assert message in str(refused.value)
    assert 'on_write="invalidate"' in str(refused.value)


typed = CachedQuery(
    HERE,
    "x:{shelf}",
    select(Book)
    .where(
        Book.shelf_id == shelf,
        Book.title == bindparam("title", "x", type_=String(50)),
        Book.mood == bindparam("mood", Mood.GOOD),
        Book.price < bindparam("price", 5, type_=Numeric),
        Book.printed < bindparam("before", datetime(2026, 1, 1)),  # noqa: DTZ001
        Shelf.opened < bindparam("day", date(2026, 1, 1)),
        Book.id.in_(bindparam("ids", (1,), expanding=True)),
    )
    .limit(bindparam("limit", 10)),
)

MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({}, "missing: shelf"),
    "unknown": ({"shelf": 1, "author": 2}, "unknown: author"),
    "another type": ({"shelf": "1"}, "shelf is compared as Integer(), whose values are int; found"),
    "a bool": ({"shelf": True}, "found True (bool)"),
    "a float": ({"shelf": 1.0}, "found 1.0 (float)"),
    "null in the key": ({"shelf": None}, "shelf=None: a key cannot contain NULL"),
    "a number for text": ({"shelf": 1, "title": 5}, "title is compared as String(length=50)"),
    "a name for an enum": (
        {"shelf": 1, "mood": "GOOD"},
        "whose values are Mood; found 'GOOD' (str)",
    ),
    "text for a number": ({"shelf": 1, "price": "5"}, "whose values are Decimal; found '5' (str)"),
    "a date for a time": ({"shelf": 1, "before": date(2026, 1, 1)}, "whose values are datetime"),
    "a zone": (
        {"shelf": 1, "before": datetime.fromisoformat("2026-01-01T00:00+09:00")},
        "(datetime with a time zone)",
    ),
    "a time for a date": ({"shelf": 1, "day": datetime(2026, 1, 1)}, "whose values are date"),  # noqa: DTZ001
    "one value for a list": ({"shelf": 1, "ids": 3}, "ids is a list of values for an IN"),
    "text for a list": ({"shelf": 1, "ids": "12"}, "ids is a list of values for an IN"),
    "another type in a list": ({"shelf": 1, "ids": [1, "2"]}, "ids is compared as Integer()"),
    "a limit in words": ({"shelf": 1, "limit": "ten"}, "limit is compared as Integer()"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit_is_named(name: str) -> None:
    """The parameter, the type it is compared as, and what came."""
    given, message = MISFITS[name]
    with pytest.raises(ArgumentError) as refused:
        typed(**given)
    assert message in str(refused.value)
    assert "CachedQuery('x:{shelf}')" in str(refused.value)


def test_what_fits_is_taken() -> None:
    """Wider numbers, nulls outside of the key, empty lists, subclasses of the type."""

    class Title(str):
        __slots__ = ()

    typed(shelf=1)
    typed(shelf=1, price=5, title=None, ids=[], limit=None)
    typed(shelf=1, title=Title("x"), ids={1, 2, None})


def test_one_name_at_several_places_has_the_type_that_is_known() -> None:
    """A bind without a type does not hide the other's."""
    statement = select(Book).where(or_(bindparam("n").is_(None), Book.id == bindparam("n")))
    with pytest.raises(ArgumentError, match="n is compared as Integer"):
        CachedQuery(HERE, "x:all", statement)(n="1")


def test_a_query_that_cannot_work_keeps_no_other_from_working() -> None:
    """Its error is raised once to who attaches, and again to who reads it."""
    query = CachedQuery(HERE, "x:{shelf}", select(Book).where(Book.id != shelf), on_write="refresh")
    with pytest.raises(DeclarationError):
        _ = query.dependencies
    from cachedorm.declare.queries.query import declared_queries

    assert query not in declared_queries()
    assert isinstance(query.parameters["shelf"], BindParameter)
