"""How to recycle what: one guide per category."""

from sqlalchemy import CheckConstraint, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from cachedorm import Cached, CachePolicy
from models.base import Base, new_id
from models.regions import INFO


class Guide(Cached, Base):
    """The guide of one category, read by it: `session.scalar(Guide.by(category="plastic"))`.

    Also read as `info:categories:all` and `info:search:{keyword}`, a word in title or content.
    """

    __tablename__ = "recycle_guides"
    __cache__ = CachePolicy(INFO, key="info:guide:{category}")

    guide_id: Mapped[str] = mapped_column("id", String(64), primary_key=True, default=new_id)
    category: Mapped[str] = mapped_column(String(64), unique=True)
    title: Mapped[str] = mapped_column(String(200))
    content: Mapped[str] = mapped_column()

    __table_args__ = (
        CheckConstraint("category <> ''", name="category"),
        # Trigrams find a word inside Korean text, where there is no blank to cut words at.
        # It takes three letters to make one: a shorter word is looked for in every row.
        Index(
            "ix_recycle_guides_title_trgm",
            func.lower(title).label("title"),
            postgresql_using="gin",
            postgresql_ops={"title": "gin_trgm_ops"},
        ),
        Index(
            "ix_recycle_guides_content_trgm",
            func.lower(content).label("content"),
            postgresql_using="gin",
            postgresql_ops={"content": "gin_trgm_ops"},
        ),
        {"schema": "info_db"},
    )
