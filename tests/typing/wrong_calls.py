"""Calls that a type checker refuses, each under a comment that names the errors to expect."""

# What follows from an error is left out: the type of an attribute that does not exist is unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

from datetime import time

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from cachedorm import Cache, CachedQuery, CachePolicy, Observer, Region, WarmSet, cached, tag
from tests.typing.right_calls import MY, User, named

# error: mypy=arg-type pyright=reportArgumentType
Region("a", "2", 60)
# error: mypy=arg-type pyright=reportArgumentType
Region("a", db=2, ttl="1h")
# error: mypy=call-arg pyright=reportCallIssue
Region("a", db=2)
# error: mypy=arg-type pyright=reportArgumentType
Region("a", db=2, ttl=time(1))
# error: mypy=call-arg pyright=reportCallIssue
Region("a", db=2, ttl=60, negativ_ttl=5)
# error: mypy=misc pyright=reportAttributeAccessIssue
MY.ttl = 5

# error: mypy=arg-type pyright=reportArgumentType
CachePolicy("my")
# error: mypy=arg-type pyright=reportArgumentType
CachePolicy(MY, ttl="exp")
# error: mypy=arg-type pyright=reportArgumentType
CachePolicy(MY, on_write="refresh")
# error: mypy=arg-type pyright=reportArgumentType
CachePolicy(MY, expires_at=User.nickname)
# error: mypy=call-arg pyright=reportCallIssue
CachePolicy(MY, follow="users")

# error: mypy=call-arg pyright=reportCallIssue
CachedQuery(MY, statement=select(User))
# error: mypy=arg-type pyright=reportArgumentType
CachedQuery("my", "all", select(User))
# error: mypy=type-var pyright=reportArgumentType
CachedQuery(MY, "all", "SELECT 1")
# error: mypy=arg-type pyright=reportArgumentType
CachedQuery(MY, "all", select(User), on_write="write_through")
# error: mypy=list-item pyright=reportArgumentType
CachedQuery(MY, "all", select(User), depends_on=["users"])
# error: mypy=arg-type pyright=reportArgumentType
select(User).options(cached("my"))
# error: mypy=arg-type pyright=reportArgumentType
WarmSet("all", "User")
# error: mypy=arg-type pyright=reportArgumentType
tag("nickname", "ann")
# error: mypy=call-arg pyright=reportCallIssue
tag(User.nickname)


class Printer(Observer):
    # error: mypy=override pyright=reportIncompatibleMethodOverride
    def hit(self, region: str) -> None:
        print(region)


def make() -> None:
    # error: mypy=arg-type pyright=reportArgumentType
    Cache(6379)
    # error: mypy=arg-type pyright=reportArgumentType
    Cache("redis://localhost", regions=[MY])
    # error: mypy=arg-type pyright=reportArgumentType
    Cache("redis://localhost", operation_timeout="1s")
    # error: mypy=arg-type pyright=reportArgumentType
    Cache("redis://localhost", observers=Printer())


def attach(cache: Cache, session: Session) -> None:
    # error: mypy=arg-type pyright=reportArgumentType
    cache.attach(session)
    # error: mypy=arg-type pyright=reportArgumentType
    cache.attach("postgresql://localhost")
    # error: mypy=arg-type pyright=reportArgumentType
    cache.attach(Session)
    # error: mypy=arg-type pyright=reportArgumentType
    cache.detach(None)


def read(cache: Cache, session: Session) -> None:
    # error: mypy=call-arg pyright=reportCallIssue
    User.by("42")
    # error: mypy=call-arg pyright=reportCallIssue
    named("ann")
    # error: mypy=assignment pyright=reportAssignmentType
    name: int = session.scalars(named(nickname="ann")).one()
    # error: mypy=union-attr pyright=reportOptionalMemberAccess
    print(session.get(User, "42").nickname, name)
    # error: mypy=attr-defined pyright=reportAttributeAccessIssue
    print(session.scalars(User.by(user_id="42")).one().nick)
    # error: mypy=call-arg pyright=reportCallIssue
    cache.get_many(session, User)
    # error: mypy=arg-type pyright=reportArgumentType
    cache.get_many(session, named, ["42"])
    # error: mypy=union-attr pyright=reportOptionalMemberAccess
    print(cache.get_many(session, User, ["42"])[0].nickname)


async def aread(cache: Cache, session: AsyncSession, plain: Session) -> None:
    # error: mypy=arg-type pyright=reportArgumentType
    cache.get_many(session, User, ["42"])
    # error: mypy=arg-type pyright=reportArgumentType
    await cache.aget_many(plain, User, ["42"])
    # error: mypy=misc pyright=reportGeneralTypeIssues
    await cache.get_many(plain, User, ["42"])


def invalidate(cache: Cache, user: User) -> None:
    # error: mypy=call-overload pyright=reportCallIssue
    cache.invalidate()
    # error: mypy=call-overload pyright=reportArgumentType
    cache.invalidate(user, "42")
    # error: mypy=call-overload pyright=reportArgumentType
    cache.invalidate(MY, "42")
    # error: mypy=call-overload pyright=reportArgumentType
    cache.invalidate(tag(User.nickname, "ann"), "42")
    # error: mypy=call-overload pyright=reportCallIssue
    cache.invalidate(User, user_id="42")
    # error: mypy=call-arg pyright=reportCallIssue
    cache.invalidate_where("user_id", "42")
    # error: mypy=arg-type pyright=reportArgumentType
    cache.invalidate_matching(MY)


async def ainvalidate(cache: Cache, user: User) -> None:
    # error: mypy=misc pyright=reportGeneralTypeIssues
    await cache.invalidate(user)
    # error: mypy=call-overload pyright=reportArgumentType
    await cache.ainvalidate(user, "42")


def look(cache: Cache) -> None:
    # error: mypy=attr-defined pyright=reportAttributeAccessIssue
    print(cache.stats.hits)
    # error: mypy=operator pyright=reportOptionalOperand
    print(cache.stats().hit_ratio + 1)
    # error: mypy=assignment,misc pyright=reportAttributeAccessIssue
    cache.stats().hits = 5
    # error: mypy=arg-type pyright=reportArgumentType
    cache.region(2)
    # error: mypy=arg-type pyright=reportArgumentType
    cache.warm("User")
