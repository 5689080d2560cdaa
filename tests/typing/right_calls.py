"""Calls that a type checker accepts, and the types that it finds. The file is read, not run."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, assert_type

from sqlalchemy import Engine, ForeignKey, Select, bindparam, select
from sqlalchemy.engine import Result
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from cachedorm import (
    Cache,
    Cached,
    CachedQuery,
    CachePolicy,
    Observer,
    Region,
    Regions,
    WarmSet,
    cached,
    tag,
)
from cachedorm.observe import CacheStats, RegionStats

MY = Region("my", db=2, ttl=timedelta(hours=1), negative_ttl=5, refresh_ahead=timedelta(minutes=1))
SECONDS = Region("seconds", db=3, ttl=0.5)


class Base(DeclarativeBase):
    __cache_regions__ = Regions(MY, SECONDS, taken={0: "celery"}, reserved=range(10, 16))


class User(Cached, Base):
    __tablename__ = "users"
    __cache__ = CachePolicy(MY, key="user:profile:{user_id}", ttl=timedelta(minutes=5))
    user_id: Mapped[str] = mapped_column(primary_key=True)
    nickname: Mapped[str]


class Token(Cached, Base):
    __tablename__ = "tokens"
    __cache__ = CachePolicy(SECONDS, expires_at="exp", on_write="write_through", exclude=("note",))
    jti: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(User.user_id))
    exp: Mapped[datetime]
    note: Mapped[str | None]


named = CachedQuery(
    MY,
    key="user:named:{nickname}",
    statement=select(User).where(User.nickname == bindparam("nickname")),
    depends_on=(User, Token.__table__),
    on_write="refresh",
    ttl=30,
)
tokens = CachedQuery(
    MY,
    "user:tokens:{user_id}",
    select(User, Token).join(Token).where(User.user_id == bindparam("user_id")),
)
everybody = WarmSet("everybody", User)
some = WarmSet("some", named, [{"nickname": "ann"}])


def make(settings: dict[str, Any], observer: Observer) -> None:
    assert_type(Cache(), Cache)
    Cache("redis://localhost:6379", regions=Regions(MY), observers=[observer])
    Cache({"host": "localhost", "port": 6379, "password": None}, database="users")
    Cache(settings, connect_timeout=1, operation_timeout=0.1, commit_timeout=2)
    with Cache() as cache:
        assert_type(cache, Cache)


def attach(
    cache: Cache,
    factory: sessionmaker[Session],
    async_factory: async_sessionmaker[AsyncSession],
    engine: Engine,
    async_engine: AsyncEngine,
) -> None:
    for target in (factory, scoped_session(factory), async_factory, engine, async_engine):
        cache.attach(target)
        cache.detach(target)
    cache.attach(engine, publish=False)
    cache.attach(sessionmaker(engine))
    cache.attach(async_sessionmaker(async_engine))


def read(cache: Cache, session: Session) -> None:
    assert_type(session.get(User, "42"), User | None)
    assert_type(User.by(user_id="42"), Select[User])
    assert_type(session.scalars(User.by(user_id="42")).one(), User)
    assert_type(session.scalar(User.by(user_id="42")), User | None)
    assert_type(named(nickname="ann"), Select[User])
    assert_type(session.scalars(named(nickname="ann")).all(), Sequence[User])
    assert_type(session.execute(tokens(user_id="42")), Result[User, Token])
    user, token = session.execute(tokens(user_id="42")).one()
    assert_type(user, User)
    assert_type(token, Token)
    assert_type(cache.get_many(session, User, ["1", "2"]), list[User | None])
    assert_type(session.scalars(select(User).options(cached(MY, ttl=5))).first(), User | None)
    with cache.bypass():
        cache.enabled = False


async def aread(cache: Cache, session: AsyncSession) -> None:
    assert_type(await session.get(User, "42"), User | None)
    assert_type((await session.scalars(User.by(user_id="42"))).one(), User)
    assert_type((await session.scalars(named(nickname="ann"))).first(), User | None)
    assert_type(await cache.aget_many(session, User, ("1", "2")), list[User | None])
    async with Cache() as made:
        assert_type(made, Cache)


def invalidate(cache: Cache, user: User) -> None:
    cache.invalidate(user)
    cache.invalidate(User, "42")
    cache.invalidate(tag(User.nickname, "ann"))
    cache.invalidate(tag(User.__table__.c.nickname, "ann"))
    cache.invalidate(MY)
    cache.invalidate_where(user_id="42")
    assert_type(cache.invalidate_matching("user:*"), int)
    assert_type(cache.invalidate_matching("user:*", MY), int)


async def ainvalidate(cache: Cache, user: User) -> None:
    await cache.ainvalidate(user)
    await cache.ainvalidate(User, "42")
    await cache.ainvalidate(tag(User.nickname, "ann"))
    await cache.ainvalidate(MY)
    await cache.ainvalidate_where(user_id="42")
    assert_type(await cache.ainvalidate_matching("user:*", "my"), int)


def warm(cache: Cache) -> None:
    assert_type(cache.warm(User).stored, int)
    cache.warm(everybody, batch=100, after=None)
    cache.warm(named, [{"nickname": "ann"}])
    cache.warm(named, lambda: [{"nickname": "ann"}])


def look(cache: Cache) -> None:
    assert_type(cache.stats(), CacheStats)
    assert_type(cache.stats().hits, Counter[str])
    assert_type(cache.stats().hit_ratio, float | None)
    assert_type(cache.stats().region("my"), RegionStats)
    assert_type(cache.stats().region("my").misses["empty"], int)
    assert_type(cache.region("my").get_or_create("user:1", lambda: 1), Any)
