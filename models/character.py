"""The character that grows with a user's recycling, and its missions."""

from datetime import datetime
from enum import StrEnum
from math import isqrt

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    bindparam,
    case,
    func,
    select,
)
from sqlalchemy.orm import Mapped, mapped_column, object_session, relationship

from cachedorm import Cached, CachedQuery, CachePolicy
from models.base import Base, Identifier, Moment, new_id, one_of
from models.my import User
from models.regions import CHARACTER

# What the columns hold.
EXP_MAX = 2**63 - 1
LEVEL_MAX = 2**31 - 1

_FIRST_STEP = 100
_STEP_GROWTH = 50


def calculate_exp_required(level: int) -> int:
    """Return the experience that lifts a character from `level` to the next.

    100 from level 1 to 2, and 50 more for each level: 100, 150, 200, ... `Character.exp` counts
    from the last level-up: 210 of 200 at level 3 become level 4 with 10 of 250.
    """
    if level < 1:
        raise ValueError(f"a character's level starts at 1, found {level}")
    return _FIRST_STEP + _STEP_GROWTH * (level - 1)


def level_up(level: int, exp: int) -> tuple[int, int]:
    """Return the level that a character of `level` reaches with `exp`, and what is left of it.

    Solved, not counted level by level: a gain may be as large as the column holds.
    """
    step = calculate_exp_required(level)
    # n levels take n * step + growth * n * (n - 1) / 2; this n may be one too many, never too few.
    linear = 2 * step - _STEP_GROWTH
    levels = (isqrt(linear * linear + 8 * _STEP_GROWTH * exp) - linear) // (2 * _STEP_GROWTH) + 1
    while (taken := levels * step + _STEP_GROWTH * levels * (levels - 1) // 2) > exp:
        levels -= 1
    return level + levels, exp - taken


class MissionStatus(StrEnum):
    """How far a mission has come."""

    ACTIVE = "active"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


class Character(Cached, Base):
    """One per user. Read as `character:state:{user_id}`: this row with its missions counted."""

    __tablename__ = "characters"
    __cache__ = CachePolicy(CHARACTER, follow_only=True)

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

    def gain_exp(self, exp: int) -> int:
        """Add experience and rise as many levels as it gives; return how many. Commit afterwards.

        The row in the database is the truth: it is locked and read again until the transaction
        ends, so of two that gain at once neither is lost. Async code calls it in `run_sync`.
        Raises ValueError for less than 1 and for more than the column holds, TypeError for what
        is no whole number.
        """
        if type(exp) is not int:
            raise TypeError(f"experience is a whole number, found {exp!r}")
        if exp < 1:
            raise ValueError(f"a character gains 1 or more, found {exp}; experience is never taken")
        session = object_session(self)
        if session is None:
            raise ValueError("this character is in no session; gain_exp needs its row's lock")
        session.flush()  # what this session changed before would be read over
        session.refresh(self, with_for_update=True)
        if self.exp + exp > EXP_MAX:
            raise ValueError(f"{self.exp} + {exp} is more experience than {EXP_MAX}")
        before = self.level
        level, rest = level_up(before, self.exp + exp)
        if level > LEVEL_MAX:
            raise ValueError(f"{exp} more experience leads beyond level {LEVEL_MAX}")
        self.level, self.exp, self.exp_required = level, rest, calculate_exp_required(level)
        return level - before

    __table_args__ = (
        CheckConstraint("exp >= 0", name="exp"),
        CheckConstraint("level >= 1", name="level"),
        CheckConstraint("exp_required > 0", name="exp_required"),
        {"schema": "character_db"},
    )


class Mission(Cached, Base):
    """One task given to a character. Read as `character:missions:{user_id}`: newest first."""

    __tablename__ = "missions"
    __cache__ = CachePolicy(CHARACTER, follow_only=True)

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


character_state = CachedQuery(
    CHARACTER,
    key="character:state:{user_id}",
    on_write="refresh",
    statement=select(
        Character,
        func.count(Mission.mission_id).label("total_missions"),
        func.sum(case((Mission.status == MissionStatus.COMPLETED, 1), else_=0)).label(
            "completed_missions"
        ),
    )
    .outerjoin(Mission, Mission.user_id == Character.user_id)
    .where(Character.user_id == bindparam("user_id"))
    .group_by(Character.user_id),
)
"""A user's character, its missions counted and how many of them are completed; 0 and 0 without.

Whoever commits a change of either fills it anew, so that the next reader finds it.
"""

missions_of = CachedQuery(
    CHARACTER,
    key="character:missions:{user_id}",
    statement=select(Mission)
    .where(Mission.user_id == bindparam("user_id"))
    .order_by(Mission.created_at.desc(), Mission.mission_id),
)
"""A user's missions, newest first."""
