"""What the README leaves to its reader: the imports, a base, an engine, and a user."""

from datetime import timedelta  # noqa: F401

from sqlalchemy import bindparam, create_engine, select, text  # noqa: F401
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker  # noqa: F401

from cachedorm import Cache, Cached, CachedQuery, CachePolicy, Region  # noqa: F401


class Base(DeclarativeBase):
    pass


engine = create_engine("postgresql+psycopg://localhost/app")
with engine.begin() as connection:
    connection.execute(text("create table users (user_id text primary key, nickname text)"))
    connection.execute(text("insert into users values ('42', 'old')"))
