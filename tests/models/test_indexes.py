"""Every query of the document has an index that serves it; EXPLAIN says so on the whole town."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, Select, delete, func, or_, select, text
from sqlalchemy.orm import Session

from models import (
    Activity,
    Character,
    Conversation,
    Guide,
    Mission,
    RecycleCenter,
    Revocation,
    ScanResult,
    User,
)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Walk the plan, from the top down."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def explain(town: Engine, statement: Any) -> list[dict[str, Any]]:
    """Return the plan's nodes, with sequential scans and sorts priced out of the question.

    On tables this small the planner rightly reads them whole; what counts is that it need not.
    """
    compiled = statement.compile(town, compile_kwargs={"literal_binds": True})
    with town.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_sort = off"))
        sql = f"EXPLAIN (FORMAT JSON) {compiled}"
        (document,) = connection.exec_driver_sql(sql.replace("%", "%%"), ()).scalar_one()
    return list(nodes(document["Plan"]))


def newest(model: type[Any], key: Any, limit: int) -> Select[Any]:
    """The document's history query."""
    mine = select(model).where(model.user_id == "u0001")
    return mine.order_by(model.created_at.desc(), key).limit(limit)


def near(lat: float, lon: float, radius_m: int) -> Any:
    """Whether a centre lies within so many metres of a point."""
    point = func.ST_SetSRID(func.ST_MakePoint(lon, lat), 4326)
    return func.ST_DWithin(RecycleCenter.location, func.geography(point), radius_m)


def word(keyword: str) -> Any:
    """Whether title or content holds the word."""
    lowered = keyword.lower()
    return or_(
        func.lower(Guide.title).contains(lowered, autoescape=True),
        func.lower(Guide.content).contains(lowered, autoescape=True),
    )


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        (select(User).where(User.user_id == "u0001"), {"pk_users"}),
        (select(User).where(User.email == "u0001@example.com"), {"uq_users_email"}),
        (newest(Activity, Activity.activity_id, 100), {"ix_activities_newest"}),
        (newest(Mission, Mission.mission_id, 100), {"ix_missions_newest"}),
        (newest(Conversation, Conversation.conversation_id, 10), {"ix_conversations_newest"}),
        (newest(ScanResult, ScanResult.task_id, 20), {"ix_scan_results_newest"}),
        (select(Character).where(Character.user_id == "u0001"), {"pk_characters"}),
        (
            select(Mission.status, func.count())
            .where(Mission.user_id == "u0001")
            .group_by(Mission.status),
            {"ix_missions_newest"},
        ),
        (select(RecycleCenter).where(RecycleCenter.center_id == "c00001"), {"pk_recycle_centers"}),
        (
            select(RecycleCenter).where(near(37.5665, 126.978, 5000)),
            {"ix_recycle_centers_location"},
        ),
        (select(Guide).where(Guide.category == "plastic"), {"uq_recycle_guides_category"}),
        (select(Guide.category).order_by(Guide.category), {"uq_recycle_guides_category"}),
        (
            select(Guide).where(word("플라스틱")),
            {"ix_recycle_guides_title_trgm", "ix_recycle_guides_content_trgm"},
        ),
        (select(ScanResult).where(ScanResult.task_id == "task-1"), {"pk_scan_results"}),
        (select(Revocation).where(Revocation.jti == "j"), {"pk_revocations"}),
        (select(Revocation).where(Revocation.user_id == "u0001"), {"ix_revocations_user_id"}),
        (
            delete(Revocation).where(Revocation.expires_at < func.now()),
            {"ix_revocations_expires_at"},
        ),
    ],
)
def test_the_index_is_there_and_serves(town: Engine, statement: Any, indexes: set[str]) -> None:
    """The plan uses the index it was made for, and needs neither a scan of the table nor a sort."""
    plan = explain(town, statement)
    assert {node["Index Name"] for node in plan if "Index Name" in node} == indexes
    assert {"Sort", "Seq Scan"}.isdisjoint(node["Node Type"] for node in plan)


def test_korean_words_make_trigrams(town: Engine) -> None:
    """In a database whose locale knows Hangul a Korean word is cut into trigrams like any other."""
    with Session(town) as session:
        assert session.scalar(select(func.cardinality(func.show_trgm("플라스틱")))) == 5
        found = session.scalars(select(Guide).where(word("플라스틱"))).all()
        assert len(found) == 10
