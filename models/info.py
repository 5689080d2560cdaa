"""How to recycle what: one guide per category, found by it or by a word."""

from datetime import timedelta
from typing import Any
from unicodedata import normalize

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Index,
    String,
    Text,
    bindparam,
    func,
    or_,
    select,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from cachedorm import Cached, CachedQuery, CachePolicy
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


all_categories = CachedQuery(
    INFO,
    key="info:categories:all",
    statement=select(Guide.category).distinct().order_by(Guide.category),
)
"""Every category that has a guide, in order."""


class SearchWord(TypeDecorator[str]):
    """A word as it is looked for: without blanks around it, in lower case, composed.

    The key of a search is made of the same word, so that "Plastic" and "plastic" are one entry.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Return the word; some systems send Korean letter by letter, rows hold syllables."""
        if not isinstance(value, str):
            raise TypeError(f"a search word is a str, found {type(value).__name__}")
        return normalize("NFC", value).strip().lower()


def _pattern(word: ColumnElement[str]) -> ColumnElement[str]:
    """Return the LIKE pattern that finds the word itself, its wildcards taken literally."""
    escaped: ColumnElement[str] = func.lower(word, type_=Text)
    for special in ("\\", "%", "_"):
        escaped = func.replace(escaped, special, "\\" + special, type_=Text)
    return "%" + escaped + "%"


_word = bindparam("keyword", type_=SearchWord)
search_guides = CachedQuery(
    INFO,
    key="info:search:{keyword}",
    ttl=timedelta(hours=1),
    statement=select(Guide)
    .where(
        _word != "",
        or_(
            func.lower(Guide.title).like(_pattern(_word), escape="\\"),
            func.lower(Guide.content).like(_pattern(_word), escape="\\"),
        ),
    )
    .order_by(Guide.category)
    .limit(50),
)
"""Up to 50 guides with this word in title or content, in any case; no word finds none."""
