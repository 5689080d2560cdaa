"""The database refuses what the domain does not allow, whoever writes it."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from models import (
    Activity,
    Base,
    Character,
    Conversation,
    Guide,
    Mission,
    RecycleCenter,
    Revocation,
    ScanResult,
    User,
)

Make = Callable[[], Base]


def user(user_id: str = "u1", email: str = "u1@example.com") -> User:
    return User(user_id=user_id, email=email, nickname="김하늘", password_hash="x")


def center(lat: float = 37.5665, lon: float = 126.9780) -> RecycleCenter:
    return RecycleCenter(name="중구 재활용센터", address="서울특별시 중구", lat=lat, lon=lon)


def guide(category: str = "plastic") -> Guide:
    return Guide(category=category, title="플라스틱", content="헹굽니다.")


@pytest.mark.parametrize(
    ("make", "constraint"),
    [
        (lambda: user("u2", email="u1@example.com"), "uq_users_email"),
        (lambda: guide("glass"), "uq_recycle_guides_category"),
        (lambda: guide(""), "ck_recycle_guides_category"),
        (lambda: Character(user_id="u1", name="a"), "pk_characters"),
        (lambda: Character(user_id="nobody", name="a"), "fk_characters_user_id_users"),
        (lambda: Activity(user_id="u1", kind="scan", description="", points=-1), "points"),
        (lambda: Activity(user_id="nobody", kind="scan", description=""), "fk_activities_user"),
        (lambda: Mission(user_id="nobody", title="a"), "fk_missions_user_id_characters"),
        (lambda: Conversation(user_id="nobody", message="", response=""), "fk_conversations"),
        (lambda: ScanResult(task_id="t1", user_id="nobody"), "fk_scan_results_user_id_users"),
        (lambda: center(lat=90.1), "ck_recycle_centers_lat"),
        (lambda: center(lat=-90.1), "ck_recycle_centers_lat"),
        (lambda: center(lat=float("nan")), "ck_recycle_centers_lat"),
        (lambda: center(lon=180.1), "ck_recycle_centers_lon"),
        (lambda: center(lon=-180.1), "ck_recycle_centers_lon"),
        (lambda: center(lon=float("nan")), "ck_recycle_centers_lon"),
    ],
)
def test_bad_rows_are_refused(session: Session, make: Make, constraint: str) -> None:
    """Each rule has a name, and the name is in the error."""
    session.add_all([user(), guide("glass"), Character(user_id="u1", name="새싹이")])
    session.flush()
    session.expunge_all()
    session.add(make())
    with pytest.raises(IntegrityError, match=constraint):
        session.flush()


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE character_db.characters SET exp = -1", "ck_characters_exp"),
        ("UPDATE character_db.characters SET level = 0", "ck_characters_level"),
        ("UPDATE character_db.characters SET exp_required = 0", "ck_characters_exp_required"),
        ("UPDATE character_db.missions SET status = 'lost'", "ck_missions_status"),
        ("UPDATE scan_db.scan_results SET status = 'lost'", "ck_scan_results_status"),
        ("UPDATE info_db.recycle_guides SET category = NULL", "category"),
    ],
)
def test_sql_text_meets_the_same_rules(session: Session, statement: str, constraint: str) -> None:
    """What the models check, the database checks as well."""
    session.add_all([user(), guide()])
    session.flush()
    session.add(Character(user_id="u1", name="새싹이"))
    session.flush()
    session.add_all([Mission(user_id="u1", title="a"), ScanResult(task_id="t1", user_id="u1")])
    session.flush()
    with pytest.raises(IntegrityError, match=constraint):
        session.execute(text(statement))


def test_a_users_histories_go_with_the_user(session: Session) -> None:
    """One DELETE on users empties every history, missions through the character."""
    session.add(user())
    session.flush()
    session.add(Character(user_id="u1", name="새싹이"))
    session.flush()
    session.add_all(
        [
            Activity(user_id="u1", kind="scan", description="스캔"),
            Mission(user_id="u1", title="라벨 떼기"),
            Conversation(user_id="u1", message="질문", response="대답"),
            ScanResult(task_id="t1", user_id="u1"),
        ]
    )
    session.flush()
    session.execute(delete(User).where(User.user_id == "u1"))
    for history in (Character, Activity, Mission, Conversation, ScanResult):
        assert session.scalar(select(func.count()).select_from(history)) == 0


def test_a_revocation_outlives_its_user(session: Session) -> None:
    """Deleting an account must not make its stolen token valid again."""
    expires = datetime(2100, 1, 1, tzinfo=UTC)
    session.add_all([user(), Revocation(jti="j1", user_id="u1", expires_at=expires)])
    session.flush()
    session.execute(delete(User))
    assert session.get(Revocation, "j1") is not None


def test_the_point_follows_lat_and_lon(session: Session) -> None:
    """The geography is derived: moving a centre moves its point, and nobody sets it by hand."""
    moved = center()
    session.add(moved)
    session.flush()
    moved.lat, moved.lon = 33.4996, 126.5312
    session.flush()
    point = func.ST_AsText(RecycleCenter.location)
    assert session.scalar(select(point)) == "POINT(126.5312 33.4996)"
    with pytest.raises(DBAPIError, match="generated column"):
        session.execute(text("UPDATE location_db.recycle_centers SET location = NULL"))


def test_every_timestamp_knows_its_zone(session: Session) -> None:
    """No column anywhere holds a naive time."""
    naive = text(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema LIKE '%\\_db' AND data_type = 'timestamp without time zone'"
    )
    assert session.execute(naive).all() == []


def test_identifiers_are_made_where_none_is_given(session: Session) -> None:
    """Two activities without identifiers are two rows, with the database's time."""
    session.add(user())
    session.flush()
    both = [Activity(user_id="u1", kind="scan", description=str(n)) for n in range(2)]
    session.add_all(both)
    session.flush()
    assert both[0].activity_id != both[1].activity_id
    assert both[0].created_at.tzinfo is not None
    assert both[0].user.nickname == "김하늘"
