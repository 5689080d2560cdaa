"""Authentication: the tokens that must no longer be accepted."""

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from cachedorm import Cached, CachePolicy
from models.base import Base, Identifier, Moment
from models.regions import AUTH


class Revocation(Cached, Base):
    """One revoked token; the table is the truth, Redis only answers faster.

    A token is revoked if its row is here. A lost entry costs a query and never lets a token in.
    """

    __tablename__ = "revocations"
    # Nearly every request hears "not revoked", so absence is remembered too, but only for 5 s: that
    # is how long a token is let in if the process that revokes it cannot reach Redis.
    __cache__ = CachePolicy(
        AUTH,
        key="blacklist:{jti}",
        expires_at="expires_at",
        on_write="write_through",
        negative_ttl=5,
    )

    jti: Mapped[str] = mapped_column(String(64), primary_key=True)
    # Not a foreign key: deleting the user must not make a stolen token valid again.
    user_id: Mapped[Identifier] = mapped_column(index=True)
    reason: Mapped[str] = mapped_column(Text, server_default="")
    revoked_at: Mapped[Moment]
    expires_at: Mapped[datetime]

    # Pruning deletes what has expired, oldest first.
    __table_args__ = (Index(None, "expires_at"), {"schema": "auth_db"})
