"""The character that grows with a user's recycling, and its missions."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from cachedorm import Cached, CachePolicy
from models.base import Base, Identifier, Moment, new_id, one_of
from models.my import User
from models.regions import CHARACTER


def calculate_exp_required(level: int) -> int:
    """Return the experience that lifts a character from `level` to the next.

    100 from level 1 to 2, and 50 more for each level: 100, 150, 200, ... `Character.exp` counts
    from the last level-up: 210 of 200 at level 3 become level 4 with 10 of 250.
    """
    if level < 1:
        raise ValueError(f"a character's level starts at 1, found {level}")
    return 100 + 50 * (level - 1)


class MissionStatus(StrEnum):
    """How far a mission has come."""

    ACTIVE = "active"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


class Character(Cached, Base):
    """One per user. Read as `character:state:{user_id}`: this row with its missions counted."""

    __tablename__ = "characters"
    __cache__ = CachePolicy(CHARACTER)

    # The user is the key: a second character for the same user has no place to stand.
    user_id: Mapped[Identifier] = mapped_column(
        ForeignKey(User.user_id, ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(64))
    exp: Mapped[int] = mapped_column(BigInteger, default=0)
    level: Mapped[int] = mapped_column(default=1)
    exp_required: Mapped[int] = mapped_column(BigInteger, default=calculate_exp_required(1))
    created_at: Mapped[Moment]

    user: Mapped[User] = relationship()

    __table_args__ = (
        CheckConstraint("exp >= 0", name="exp"),
        CheckConstraint("level >= 1", name="level"),
        CheckConstraint("exp_required > 0", name="exp_required"),
        {"schema": "character_db"},
    )


class Mission(Cached, Base):
    """One task given to a character. Read as `character:missions:{user_id}`: newest first."""

    __tablename__ = "missions"
    __cache__ = CachePolicy(CHARACTER)

    mission_id: Mapped[str] = mapped_column("id", String(64), primary_key=True, default=new_id)
    user_id: Mapped[Identifier] = mapped_column(ForeignKey(Character.user_id, ondelete="CASCADE"))
    title: Mapped[str]
    status: Mapped[MissionStatus] = mapped_column(
        one_of(MissionStatus, "status"), default=MissionStatus.ACTIVE
    )
    created_at: Mapped[Moment] = mapped_column()
    completed_at: Mapped[datetime | None]

    character: Mapped[Character] = relationship()

    __table_args__ = (
        Index("ix_missions_newest", user_id, created_at.desc(), mission_id),
        {"schema": "character_db"},
    )
