"""What users asked the assistant, and what it answered."""

from sqlalchemy import ForeignKey, Index, String, bindparam, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from cachedorm import Cached, CachedQuery, CachePolicy
from models.base import Base, Identifier, Moment, new_id
from models.my import User
from models.regions import CHAT


class Conversation(Cached, Base):
    """One question and its answer. Read as `chat:history:{user_id}`: the last few, newest first."""

    __tablename__ = "conversations"
    __cache__ = CachePolicy(CHAT, follow_only=True)

    conversation_id: Mapped[str] = mapped_column("id", String(64), primary_key=True, default=new_id)
    user_id: Mapped[Identifier] = mapped_column(ForeignKey(User.user_id, ondelete="CASCADE"))
    message: Mapped[str]
    response: Mapped[str]
    created_at: Mapped[Moment] = mapped_column()

    user: Mapped[User] = relationship()

    __table_args__ = (
        Index("ix_conversations_newest", user_id, created_at.desc(), conversation_id),
        {"schema": "chat_db"},
    )


chat_history = CachedQuery(
    CHAT,
    key="chat:history:{user_id}",
    statement=select(Conversation)
    .where(Conversation.user_id == bindparam("user_id"))
    .order_by(Conversation.created_at.desc(), Conversation.conversation_id)
    .limit(bindparam("limit", 10)),
)
"""A user's last conversations, newest first: 10, or `limit`, which is part of the key."""
