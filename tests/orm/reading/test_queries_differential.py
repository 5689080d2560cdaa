"""The domain's queries against the database: after any write the two answers are one.

Each example is a random sequence of transactions over a small town, so that rows keep moving into
and out of every answer. After each, every query is asked of a session that the cache serves and of
a plain one on another engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from examples.recycling.migrate import migrate
from examples.servers import Found, scratch_database
from models import (
    REGIONS,
    Activity,
    Base,
    Character,
    Conversation,
    Guide,
    Mission,
    MissionStatus,
    ScanResult,
    ScanStatus,
    User,
    all_categories,
    character_state,
    chat_history,
    missions_of,
    recent_activities,
    scan_history,
    search_guides,
)
from tests.fixtures.patience import patient_cache

USERS = ("a", "b", "c")
CATEGORIES = ("can", "glass", "종이")
WORDS = ("Flat", "rinse 50%", "접어서")
TABLES = (
    "my_db.users, my_db.activities, character_db.characters, character_db.missions,"
    " chat_db.conversations, scan_db.scan_results, info_db.recycle_guides"
)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)

ids = st.sampled_from(["1", "2", "3", "4"])
users = st.sampled_from(USERS)
categories = st.sampled_from(CATEGORIES)
words = st.sampled_from(WORDS)
moments = st.integers(0, 5).map(lambda minutes: NOON + timedelta(minutes=minutes))
statuses = st.sampled_from(list(MissionStatus))


@dataclass(frozen=True)
class Act:
    """One write: what it is called, and how it is done. Its repr is what a failure shows."""

    name: str
    do: Callable[[Session], object]

    def __repr__(self) -> str:
        return self.name


def acts(
    name: str, do: Callable[..., object], *arguments: st.SearchStrategy[Any]
) -> st.SearchStrategy[Act]:
    """Acts of this name with drawn arguments."""
    return st.tuples(*arguments).map(
        lambda drawn: Act(f"{name}{drawn!r}", lambda session: do(session, *drawn))
    )


def user(name: str) -> User:
    """A user of this name."""
    return User(user_id=name, email=f"{name}@x.kr", nickname=name, password_hash="x")


def owned(model: Any, key: str, owner: str, at: datetime) -> Any:
    """A row of a user's."""
    fields: dict[Any, dict[str, Any]] = {
        Activity: {"activity_id": key, "kind": "scan", "description": key},
        Mission: {"mission_id": key, "title": key},
        Conversation: {"conversation_id": key, "message": key, "response": ""},
        ScanResult: {"task_id": key},
    }
    return model(user_id=owner, created_at=at, **fields[model])


def change(session: Session, model: Any, key: str, **values: Any) -> None:
    """Change a row, if it is there, through the session."""
    found = session.get(model, key)
    if found is not None:
        for name, value in values.items():
            setattr(found, name, value)


def remove(session: Session, model: Any, key: str) -> None:
    """Delete a row, if it is there, through the session."""
    found = session.get(model, key)
    if found is not None:
        session.delete(found)


def settle(session: Session, key: str, status: MissionStatus) -> None:
    """Change a mission's status by its key, in Core."""
    missions: Any = Mission.__table__
    session.execute(update(missions).where(missions.c.id == key).values(status=status))


def copy_missions(session: Session, source: str, target: str) -> None:
    """INSERT ... SELECT: the rows are anybody's guess."""
    missions: Any = Mission.__table__
    chosen = select(
        missions.c.id + "+", missions.c.title, missions.c.status, missions.c.created_at
    ).where(missions.c.user_id == source)
    columns = ["id", "title", "status", "created_at", "user_id"]
    session.execute(insert(missions).from_select(columns, chosen.add_columns(text(f"'{target}'"))))


def many(session: Session, owner: str, at: datetime) -> None:
    """Thirty rows in one statement, beyond every usual limit."""
    table: Any
    for table, key in ((Conversation.__table__, "id"), (ScanResult.__table__, "task_id")):
        extra: dict[str, Any] = {"status": ScanStatus.PENDING}
        if key == "id":
            extra = {"message": "", "response": ""}
        rows = [
            {key: f"{owner}{n}", "user_id": owner, "created_at": at + timedelta(hours=n), **extra}
            for n in range(30)
        ]
        session.execute(insert(table), rows)


OWNED = st.sampled_from([Activity, Mission, Conversation, ScanResult])
# Acts on one row, whose old and new values are known.
PRECISE = st.one_of(
    acts("add", lambda s, *a: s.add(owned(*a)), OWNED, ids, users, moments),
    acts("move", lambda s, m, k, u: change(s, m, k, user_id=u), OWNED, ids, users),
    acts("redate", lambda s, m, k, t: change(s, m, k, created_at=t), OWNED, ids, moments),
    acts("remove", remove, OWNED, ids),
    acts("status", lambda s, k, v: change(s, Mission, k, status=v), ids, statuses),
    acts("core status", settle, ids, statuses),
    acts(
        "gain",
        lambda s, u, n: (found := s.get(Character, u)) and found.gain_exp(n),
        users,
        st.integers(1, 400),
    ),
    acts(
        "guide",
        lambda s, c, w: s.add(Guide(guide_id=c, category=c, title=w, content="x")),
        categories,
        words,
    ),
    acts("edit", lambda s, c, w: change(s, Guide, c, content=w), categories, words),
    acts("recategorize", lambda s, c, to: change(s, Guide, c, category=to), categories, categories),
)
# Acts on many rows, or on nobody knows which.
BROAD = st.one_of(
    acts(
        "all missions to",
        lambda s, a, b: s.execute(update(Mission).where(Mission.user_id == a).values(user_id=b)),
        users,
        users,
    ),
    acts(
        "bulk delete",
        lambda s, m, u: s.execute(delete(m).where(m.user_id == u)),
        OWNED,
        users,
    ),
    acts(
        "bulk status",
        lambda s, v, t: s.execute(update(Mission).where(Mission.created_at > t).values(status=v)),
        statuses,
        moments,
    ),
    acts("copy missions", copy_missions, users, users),
    acts("many", many, users, moments),
    acts("character", lambda s, u: s.add(Character(user_id=u, name=u)), users),
    acts("no character", lambda s, u: remove(s, Character, u), users),
    acts("user", lambda s, u: s.add(user(u)), users),
    acts("delete user", lambda s, u: s.execute(delete(User).where(User.user_id == u)), users),
    acts("no guide", lambda s, c: remove(s, Guide, c), categories),
    acts(
        "text",
        lambda s, sql: s.execute(text(sql)),
        st.sampled_from(
            [
                "update character_db.missions set status = 'completed'",
                "delete from my_db.activities where user_id = 'a'",
                "update info_db.recycle_guides set title = 'FLAT ' || category",
                "delete from my_db.users where id in ('b', 'c')",
                "truncate chat_db.conversations",
                "truncate character_db.characters cascade",
                "with gone as (delete from scan_db.scan_results returning task_id) select 1",
            ]
        ),
    ),
)
ACTS = st.integers(0, 4).flatmap(lambda n: PRECISE if n else BROAD)
ENDS = st.sampled_from(["commit", "commit", "commit", "rollback", "savepoint", "read and commit"])
TRANSACTIONS = st.tuples(ENDS, st.lists(ACTS, min_size=1, max_size=2))

QUESTIONS: list[tuple[Any, dict[str, Any]]] = [
    (all_categories, {}),
    *((search_guides, {"keyword": word}) for word in ("flat", "50%", "어", "none")),
    *(
        (query, {"user_id": name})
        for query in (recent_activities, character_state, missions_of, chat_history, scan_history)
        for name in USERS
    ),
    (chat_history, {"user_id": "a", "limit": 2}),
    (scan_history, {"user_id": "b", "limit": 50}),
]


@dataclass(frozen=True)
class Town:
    """The served sessions, the plain engine, and how to begin anew."""

    sessions: sessionmaker[Session]
    plain: Engine
    cache: Cache
    redis: Any

    def reset(self) -> None:
        """Three users with characters, a few rows of everything; nothing cached."""
        with self.plain.begin() as connection:
            connection.execute(text(f"truncate {TABLES}"))
        with Session(self.plain) as session:
            session.add_all([user(name) for name in USERS])
            session.add_all([Character(user_id=name, name=name) for name in USERS])
            session.flush()
            for model in (Activity, Mission, Conversation, ScanResult):
                for key, owner in zip("123", "aab", strict=True):
                    session.add(owned(model, key, owner, NOON))
            for each, word in zip(CATEGORIES[:2], WORDS, strict=False):
                session.add(Guide(guide_id=each, category=each, title=word, content="x"))
            session.commit()
        self.redis.flushall()

    def run(self, end: str, chosen: list[Act]) -> None:
        """One transaction. What the database refuses is rolled back."""
        with self.sessions() as session:
            try:
                if end == "savepoint":
                    with session.begin_nested() as inner:
                        chosen[0].do(session)
                        session.flush()
                        inner.rollback()
                    chosen = chosen[1:]
                for act in chosen:
                    act.do(session)
                    session.flush()
                    if end == "read and commit":
                        answers(session)
                session.rollback() if end == "rollback" else session.commit()
            except IntegrityError:
                session.rollback()


@pytest.fixture(scope="module")
def town(servers: Found, template_database: str) -> Iterator[Town]:
    """The domain's schema, served by a cache and read past it."""
    with scratch_database(servers.database_url, template=template_database) as url:
        engine, plain = create_engine(url), create_engine(url)
        with plain.begin() as connection:
            migrate(connection)
        factory = sessionmaker(engine)
        with patient_cache(servers.redis_url, regions=REGIONS) as cache:
            cache.attach(factory)
            with redis.Redis.from_url(servers.redis_url) as client:
                yield Town(factory, plain, cache, client)
            cache.detach(factory)
            cache.detach(engine)
        engine.dispose()
        plain.dispose()


def shown(value: Any) -> Any:
    """Of an object its columns."""
    if isinstance(value, Base):
        return {each.key: getattr(value, each.key) for each in value.__mapper__.column_attrs}
    return value


def answers(session: Session) -> list[Any]:
    """What this session answers to every question."""
    return [
        [tuple(map(shown, row)) for row in session.execute(query(**values))]
        for query, values in QUESTIONS
    ]


@settings(
    max_examples=30,
    # A failure is shown as it was found: looking for a shorter one takes minutes.
    phases=[Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(history=st.lists(TRANSACTIONS, min_size=4, max_size=8))
def test_the_cache_answers_as_the_database(
    town: Town, history: list[tuple[str, list[Act]]]
) -> None:
    """After each transaction, and again from what that answer left in Redis."""
    town.reset()
    with town.sessions() as session:
        answers(session)
    for end, chosen in history:
        note(f"{end}: {chosen}")
        town.run(end, chosen)
        with Session(town.plain) as session:
            expected = answers(session)
        for _ in range(2):
            with town.sessions() as session:
                found = answers(session)
            for question, one, other in zip(QUESTIONS, found, expected, strict=True):
                assert one == other, question


def test_answers_come_from_redis(town: Town) -> None:
    """Or the test above would compare the database with itself."""
    town.reset()
    before = sum(town.cache.stats().hits.values())
    for _ in range(2):
        with town.sessions() as session:
            answers(session)
    assert sum(town.cache.stats().hits.values()) - before >= len(QUESTIONS)
