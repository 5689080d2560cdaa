"""What the demo does in each domain: reads, each three times over, and one write in between.

The reads here are of single rows; those of lists, counts, searches and places are in `lists.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from cachedorm import Region
from examples.recycling.cast import Cast
from models import (
    AUTH,
    INFO,
    LOCATION,
    MY,
    SCAN,
    Character,
    Conversation,
    Guide,
    RecycleCenter,
    Revocation,
    ScanResult,
    ScanStatus,
    User,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One read and one write of a domain. start: what the session has before the read begins."""

    domain: str
    region: Region
    key: str
    asks: str
    read: Callable[[Any], str]
    writes: str
    write: Callable[[Session], None]
    start: Callable[[Session], Any] = lambda session: session


def single_rows(session: Session, cast: Cast) -> list[Scene]:
    """Return the scenes that read one row."""
    first, second, third = cast.users
    talk = Conversation(user_id=third, message="유리병은 어떻게 버리나요?", response="헹궈서요.")
    session.add(talk)
    session.flush()
    waiting = select(ScanResult.task_id).where(ScanResult.status == ScanStatus.PENDING)
    task_id = session.scalars(waiting.order_by(ScanResult.task_id).offset(cast.task)).first()
    return [
        revocation(cast.jti),
        profile(first),
        character(second),
        center(cast.center),
        guide(cast.category),
        conversation(talk.conversation_id, third),
        scan(str(task_id)),
    ]


def revocation(jti: str) -> Scene:
    """A token that is nobody's business, until it is revoked: absence is remembered too."""

    def read(session: Session) -> str:
        row = session.get(Revocation, jti)
        return "not revoked" if row is None else f"revoked: {row.reason}"

    def write(session: Session) -> None:
        expires = datetime.now(UTC) + timedelta(days=7)
        session.add(Revocation(jti=jti, user_id="u0001", reason="기기 분실", expires_at=expires))

    return Scene("auth", AUTH, f"blacklist:{jti}", "get(Revocation)", read, "revoke it", write)


def profile(user_id: str) -> Scene:
    """A user's profile."""

    def write(session: Session) -> None:
        session.get_one(User, user_id).nickname = "푸른고래"

    return Scene(
        "my",
        MY,
        f"user:profile:{user_id}",
        "get(User)",
        lambda session: session.get_one(User, user_id).nickname,
        "nickname = 푸른고래",
        write,
    )


async def nickname(user_id: str, session: AsyncSession) -> str:
    """The same read in an async session: the same words and `await`."""
    return (await session.get_one(User, user_id)).nickname


def character(user_id: str) -> Scene:
    """A character knows its user: following the relationship is a cached read."""

    def write(session: Session) -> None:
        session.get_one(User, user_id).nickname = "별지기"

    return Scene(
        "character",
        MY,
        f"user:profile:{user_id}",
        "character.user",
        lambda found: found.user.nickname,
        "nickname = 별지기",
        write,
        start=lambda session: session.get_one(Character, user_id),
    )


def center(center_id: str) -> Scene:
    """A recycling centre, with its PostGIS point."""

    def read(session: Session) -> str:
        found = session.get_one(RecycleCenter, center_id)
        return f"{found.lat:.4f}, {found.lon:.4f}"

    def write(session: Session) -> None:
        found = session.get_one(RecycleCenter, center_id)
        found.lat, found.lon = 37.5511, 126.9882

    return Scene(
        "location",
        LOCATION,
        f"location:center:{center_id}",
        "get(RecycleCenter)",
        read,
        "move it to Hongik",
        write,
    )


def guide(category: str) -> Scene:
    """A guide, by its category and not by its primary key."""

    def write(session: Session) -> None:
        session.scalars(select(Guide).filter_by(category=category)).one().title = "새 분리배출 안내"

    return Scene(
        "info",
        INFO,
        f"info:guide:{category}",
        "Guide.by(category=)",
        lambda session: session.scalars(Guide.by(category=category)).one().title,
        "edit the title",
        write,
    )


def conversation(conversation_id: str, user_id: str) -> Scene:
    """A conversation knows its user; this one is renamed by an UPDATE that loads nothing."""

    def write(session: Session) -> None:
        named = update(User).where(User.user_id == user_id).values(nickname="대화왕")
        session.execute(named, execution_options={"synchronize_session": False})

    return Scene(
        "chat",
        MY,
        f"user:profile:{user_id}",
        "conversation.user",
        lambda found: found.user.nickname,
        "bulk UPDATE of users",
        write,
        start=lambda session: session.get_one(Conversation, conversation_id),
    )


def scan(task_id: str) -> Scene:
    """A scan task that finishes."""

    def read(session: Session) -> str:
        found = session.get_one(ScanResult, task_id)
        return f"{found.status.value}: {(found.result or {}).get('category')}"

    def write(session: Session) -> None:
        found = session.get_one(ScanResult, task_id)
        found.status, found.result = ScanStatus.COMPLETED, {"category": "glass"}
        found.finished_at = datetime.now(UTC)

    return Scene(
        "scan",
        SCAN,
        f"scan:result:{task_id}",
        "get(ScanResult)",
        read,
        "the task ends",
        write,
    )
