"""A user's own page: the profile and what the user did."""

from datetime import timedelta

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, bindparam, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from cachedorm import Cached, CachedQuery, CachePolicy
from models.base import Base, Identifier, Moment, new_id
from models.regions import MY


class User(Cached, Base):
    """One account. The password hash never leaves the database: it loads when it is touched."""

    __tablename__ = "users"
    __cache__ = CachePolicy(MY, key="user:profile:{user_id}", exclude=("password_hash",))

    user_id: Mapped[str] = mapped_column("id", String(64), primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    nickname: Mapped[str] = mapped_column(String(64))
    password_hash: Mapped[str] = mapped_column(String(255))
    district: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[Moment]

    __table_args__ = ({"schema": "my_db"},)


class Activity(Cached, Base):
    """One thing a user did. Read as `user:activity:{user_id}`: the last 100, newest first."""

    __tablename__ = "activities"
    __cache__ = CachePolicy(MY, follow_only=True)

    activity_id: Mapped[str] = mapped_column("id", String(64), primary_key=True, default=new_id)
    user_id: Mapped[Identifier] = mapped_column(ForeignKey(User.user_id, ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(32))
    description: Mapped[str]
    points: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[Moment] = mapped_column()

    user: Mapped[User] = relationship()

    __table_args__ = (
        # Two rows of one transaction share their time, so the order ends with the identifier.
        Index("ix_activities_newest", user_id, created_at.desc(), activity_id),
        CheckConstraint("points >= 0", name="points"),
        {"schema": "my_db"},
    )


recent_activities = CachedQuery(
    MY,
    key="user:activity:{user_id}",
    ttl=timedelta(minutes=5),
    statement=select(Activity)
    .where(Activity.user_id == bindparam("user_id"))
    .order_by(Activity.created_at.desc(), Activity.activity_id)
    .limit(100),
)
"""What a user did last: 100 activities, newest first."""
