"""Scenes whose answers are made of many rows: lists, counts, searches, what is near."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from examples.recycling.cast import Cast
from examples.recycling.scenes import Scene
from models import (
    CHARACTER,
    CHAT,
    INFO,
    LOCATION,
    MY,
    SCAN,
    Activity,
    Base,
    Character,
    Conversation,
    Guide,
    Mission,
    RecycleCenter,
    ScanResult,
    all_categories,
    character_state,
    chat_history,
    missions_of,
    nearby_centers,
    recent_activities,
    scan_history,
    search_guides,
)

RADIUS_M = 2000


def many_rows(cast: Cast) -> list[Scene]:
    """Return the scenes that read lists and counts."""
    user_id = cast.users[0]
    korean, latin = cast.words
    return [
        activities(user_id),
        state(user_id),
        missions(user_id),
        nearby(cast),
        categories(cast.jti),
        search(korean, f"{cast.jti}-ko"),
        search(latin, f"{cast.jti}-en"),
        talks(user_id, 10),
        talks(user_id, 3),
        scans(user_id, 5),
    ]


def adding(made: Callable[[], Base]) -> Callable[[Session], None]:
    """A write that inserts the row that is made then."""
    return lambda session: session.add(made())


def newest(rows: Sequence[Any], name: str, noun: str) -> str:
    """How many rows, and what the first of them says."""
    return f"{len(rows)} {noun}, newest: {getattr(rows[0], name)}" if rows else f"no {noun}"


def activities(user_id: str) -> Scene:
    """What a user did last."""

    def read(session: Session) -> str:
        rows = session.scalars(recent_activities(user_id=user_id)).all()
        return newest(rows, "description", "activities")

    def made() -> Activity:
        return Activity(user_id=user_id, kind="scan", description="캔 3개 분리배출", points=15)

    return Scene(
        "my",
        MY,
        f"user:activity:{user_id}",
        "recent_activities(user_id=)",
        read,
        "add an activity",
        adding(made),
    )


def state(user_id: str) -> Scene:
    """A character and its missions, counted; whoever commits a gain fills the entry anew."""

    def read(session: Session) -> str:
        found, total, done = session.execute(character_state(user_id=user_id)).one()
        exp = f"{found.exp} of {found.exp_required} exp"
        return f"level {found.level}, {exp}, {done} of {total} missions"

    def write(session: Session) -> None:
        session.get_one(Character, user_id).gain_exp(500)

    return Scene(
        "character",
        CHARACTER,
        f"character:state:{user_id}",
        "character_state(user_id=)",
        read,
        "gain_exp(500)",
        write,
    )


def missions(user_id: str) -> Scene:
    """A user's missions."""

    def read(session: Session) -> str:
        return newest(session.scalars(missions_of(user_id=user_id)).all(), "title", "missions")

    return Scene(
        "character",
        CHARACTER,
        f"character:missions:{user_id}",
        "missions_of(user_id=)",
        read,
        "give a mission",
        adding(lambda: Mission(user_id=user_id, title="빈 병 10개 모으기")),
    )


def nearby(cast: Cast) -> Scene:
    """The nearest centres around a point; what is kept are the candidates of its cell."""
    lat, lon = cast.point

    def read(session: Session) -> str:
        rows = session.execute(nearby_centers(lat=lat, lon=lon, radius_m=RADIUS_M, k=20)).all()
        nearest = rows[0]
        return f"{len(rows)}, first: {nearest.RecycleCenter.name}, {nearest.distance_m:.1f} m"

    def write(session: Session) -> None:
        moved = session.get_one(RecycleCenter, cast.comer)
        moved.lat, moved.lon = lat, lon

    return Scene(
        "location",
        LOCATION,
        f"location:nearby:{cast.cell}:{RADIUS_M // 1000}?k=20",
        "nearby_centers(lat=, lon=, ...)",
        read,
        "a centre moves there",
        write,
    )


def categories(category: str) -> Scene:
    """Every category that has a guide."""

    def read(session: Session) -> str:
        return f"{len(session.scalars(all_categories()).all())} categories"

    return Scene(
        "info",
        INFO,
        "info:categories:all",
        "all_categories()",
        read,
        "add a category",
        adding(lambda: Guide(category=category, title="새 분류", content="…")),
    )


def search(word: str, category: str) -> Scene:
    """The guides with a word, in any case and in any script."""

    def read(session: Session) -> str:
        rows = session.scalars(search_guides(keyword=word)).all()
        return f"{len(rows)} guides, first: {rows[0].category}" if rows else "no guide"

    def made() -> Guide:
        return Guide(category=f"a-{category}", title=f"{word}: 자주 묻는 질문", content="…")

    return Scene(
        "info",
        INFO,
        f"info:search:{word.lower()}",
        f"search_guides(keyword={word!r})",
        read,
        "add a guide with it",
        adding(made),
    )


def talks(user_id: str, limit: int) -> Scene:
    """A user's last conversations; the limit is part of the key."""

    def read(session: Session) -> str:
        rows = session.scalars(chat_history(user_id=user_id, limit=limit)).all()
        return newest(rows, "message", "talks")

    def made() -> Conversation:
        return Conversation(user_id=user_id, message=f"비닐 {limit}장은요?", response="비닐류로요.")

    return Scene(
        "chat",
        CHAT,
        f"chat:history:{user_id}?limit={limit}",
        f"chat_history(user_id=, limit={limit})",
        read,
        "add a conversation",
        adding(made),
    )


def scans(user_id: str, limit: int) -> Scene:
    """A user's last scans."""

    def read(session: Session) -> str:
        rows = session.scalars(scan_history(user_id=user_id, limit=limit)).all()
        return newest(rows, "task_id", "scans")

    return Scene(
        "scan",
        SCAN,
        f"scan:history:{user_id}?limit={limit}",
        f"scan_history(user_id=, limit={limit})",
        read,
        "begin a scan",
        adding(lambda: ScanResult(task_id=f"task-demo-{user_id}", user_id=user_id)),
    )
