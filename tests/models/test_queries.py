"""The domain's queries: what they answer, under which keys, and that writes are followed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, text, update
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache, CachedQuery
from models import (
    REGIONS,
    Activity,
    Character,
    Conversation,
    Guide,
    Mission,
    MissionStatus,
    ScanResult,
    User,
    all_categories,
    calculate_exp_required,
    character_state,
    chat_history,
    missions_of,
    recent_activities,
    scan_history,
    search_guides,
)
from models.character import EXP_MAX, level_up
from tests.fixtures.logs import RedisLog, SqlLog
from tests.fixtures.patience import PATIENCE, patient_cache

GUIDES: Any = Guide.__table__
MISSIONS: Any = Mission.__table__
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
Factory = sessionmaker[Session]


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    """A Cache on the test's Redis, with the domain's regions."""
    with patient_cache(redis_url, regions=REGIONS) as made:
        yield made


@pytest.fixture
def sessions(migrated: Engine, cache: Cache) -> Iterator[Factory]:
    """Sessions that the cache serves, on a schema with two users."""
    factory = sessionmaker(migrated)
    cache.attach(factory)
    with factory() as session:
        for name in ("kim", "lee"):
            session.add(
                User(user_id=name, email=f"{name}@x.kr", nickname=name, password_hash="x" * 8)
            )
        session.commit()
    yield factory
    cache.detach(factory)
    cache.detach(migrated)


def add(sessions: Factory, *rows: object) -> None:
    """Commit new rows."""
    with sessions() as session:
        session.add_all(rows)
        session.commit()


def later(minutes: int) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("query", "key", "seconds"),
    [
        (recent_activities, "user:activity:{user_id}", 300),
        (character_state, "character:state:{user_id}", 600),
        (missions_of, "character:missions:{user_id}", 600),
        (all_categories, "info:categories:all", 7 * 86400),
        (search_guides, "info:search:{keyword}", 3600),
        (chat_history, "chat:history:{user_id}", 1800),
        (scan_history, "scan:history:{user_id}", 3600),
    ],
)
def test_keys_and_lifetimes_are_the_documents(
    query: CachedQuery[Any], key: str, seconds: int
) -> None:
    """As dashboards and whoever types at redis-cli expect them."""
    assert query.template.text == key
    assert query.ttl_ms == seconds * 1000


def test_dependencies_are_shown() -> None:
    """``repr`` says what ends an answer."""
    assert repr(character_state) == (
        "<CachedQuery character:state:{user_id} in character; depends on"
        " character_db.characters.user_id=:user_id, character_db.missions.user_id=:user_id>"
    )
    assert repr(search_guides).endswith("depends on info_db.recycle_guides.*>")


def test_the_last_hundred_activities(sessions: Factory) -> None:
    """Newest first; of one moment, in the order of their identifiers."""
    many = [
        Activity(user_id="kim", kind="scan", description=str(n), created_at=later(n))
        for n in range(101)
    ]
    add(sessions, *many)
    with sessions() as session:
        found = session.scalars(recent_activities(user_id="kim")).all()
    assert [each.description for each in found] == [str(n) for n in range(100, 0, -1)]
    add(sessions, Activity(user_id="kim", kind="scan", description="new", created_at=later(200)))
    with sessions() as session:
        assert session.scalars(recent_activities(user_id="kim")).all()[0].description == "new"


def state(sessions: Factory, user_id: str) -> tuple[str, int, int, int] | None:
    """Name, level, missions in all and completed."""
    with sessions() as session:
        row = session.execute(character_state(user_id=user_id)).one_or_none()
        if row is None:
            return None
        return row.Character.name, row.Character.level, row.total_missions, row.completed_missions


def test_a_characters_state(sessions: Factory, sql_log: SqlLog) -> None:
    """Missions are counted; none is 0 and 0, no character is no row; every write is followed."""
    assert state(sessions, "kim") is None
    add(sessions, Character(user_id="kim", name="Sprout"), Character(user_id="lee", name="Leaf"))
    assert state(sessions, "kim") == ("Sprout", 1, 0, 0)
    mission = Mission(mission_id="m1", user_id="kim", title="Sort", created_at=NOON)
    add(sessions, mission, Mission(mission_id="m2", user_id="lee", title="Sort", created_at=NOON))
    assert state(sessions, "kim") == ("Sprout", 1, 1, 0)
    with sessions() as session:
        session.get_one(Mission, "m1").status = MissionStatus.COMPLETED
        session.commit()
    assert state(sessions, "kim") == ("Sprout", 1, 1, 1)
    with sessions() as session:
        session.get_one(Mission, "m1").user_id = "lee"
        session.commit()
    assert state(sessions, "kim") == ("Sprout", 1, 0, 0)
    assert state(sessions, "lee") == ("Leaf", 1, 2, 1)
    with sessions() as session:
        session.execute(delete(User).where(User.user_id == "lee"))
        session.commit()
    assert state(sessions, "lee") is None


def test_missions_newest_first(sessions: Factory) -> None:
    """All of one user's."""
    add(sessions, Character(user_id="kim", name="Sprout"))
    for number, title in enumerate(["a", "b"]):
        add(sessions, Mission(user_id="kim", title=title, created_at=later(number)))
        with sessions() as session:
            found = session.scalars(missions_of(user_id="kim")).all()
            assert found[0].title == title
    assert len(found) == 2


def test_limits_are_told_apart(sessions: Factory, redis_client: Any) -> None:
    """Asking for 10, then for 50, gives 10 and 50; 10 and 20 are what nobody asks for."""
    add(
        sessions,
        *(
            Conversation(user_id="kim", message=str(n), response="", created_at=later(n))
            for n in range(60)
        ),
        *(ScanResult(task_id=str(n), user_id="kim", created_at=later(n)) for n in range(60)),
    )
    for query, usual in ((chat_history, 10), (scan_history, 20)):
        for _ in range(2):
            with sessions() as session:
                assert len(session.scalars(query(user_id="kim")).all()) == usual
                assert len(session.scalars(query(user_id="kim", limit=50)).all()) == 50
                assert len(session.scalars(query(user_id="kim", limit=usual)).all()) == usual
    redis_client.select(6)
    keys = {key.decode() for key in redis_client.keys("chat:*")}
    assert keys == {"chat:history:kim?limit=10", "chat:history:kim?limit=50"}
    add(sessions, ScanResult(task_id="new", user_id="kim", created_at=later(99)))
    with sessions() as session:
        assert session.scalars(scan_history(user_id="kim", limit=50)).all()[0].task_id == "new"


CONTENTS = {
    "plastic": ("Plastic bottles", "Rinse 100% clean, remove the label"),
    "종이": ("종이와 상자", "테이프를 떼고 접어서 배출"),
    "glass": ("Glass_jars", "Take the LID off \\ rinse"),
    "can": ("Cans", "Press flat"),
}


@pytest.fixture
def guides(sessions: Factory) -> Factory:
    """Four guides."""
    add(
        sessions,
        *(
            Guide(category=each, title=title, content=content)
            for each, (title, content) in CONTENTS.items()
        ),
    )
    return sessions


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("plastic", ["plastic"]),
        ("PLASTIC", ["plastic"]),
        ("lid", ["glass"]),
        ("rinse", ["glass", "plastic"]),
        ("종이", ["종이"]),
        ("접어서", ["종이"]),
        ("\u110c\u1169\u11bc\u110b\u1175", ["종이"]),  # the same two syllables, letter by letter
        (" label ", ["plastic"]),
        ("%", ["plastic"]),
        ("100%", ["plastic"]),
        ("_", ["glass"]),
        ("s_j", ["glass"]),
        ("\\", ["glass"]),
        ("%%__", []),
        ("", []),
        ("  ", []),
        ("x" * 10_000, []),
        ("Ж", []),
        ("' or 1=1 --", []),
    ],
)
def test_a_word_is_found_as_it_is(guides: Factory, word: str, found: list[str]) -> None:
    """In title and content, in any case, its wildcards taken literally, in any script."""
    for _ in range(2):
        with guides() as session:
            answer = session.scalars(search_guides(keyword=word)).all()
            assert sorted(guide.category for guide in answer) == sorted(found)


def test_a_search_is_one_entry_in_any_case(guides: Factory, sql_log: SqlLog) -> None:
    """The key is made of the word that is looked for."""
    with guides() as session:
        session.scalars(search_guides(keyword="Plastic")).all()
    sql_log.clear()
    with guides() as session:
        assert len(session.scalars(search_guides(keyword=" plastic")).all()) == 1
    assert sql_log == []


def test_no_more_than_fifty(sessions: Factory) -> None:
    """In the order of their categories."""
    add(sessions, *(Guide(category=f"{n:03}", title="x", content="same") for n in range(60)))
    with sessions() as session:
        found = session.scalars(search_guides(keyword="same")).all()
    assert [guide.category for guide in found] == [f"{n:03}" for n in range(50)]


def test_categories_and_searches_follow_every_guide(guides: Factory) -> None:
    """New ones, renamed ones, and those that Core writes."""

    def read() -> tuple[list[str], list[str]]:
        with guides() as session:
            searched = session.scalars(search_guides(keyword="flat")).all()
            return list(session.scalars(all_categories())), [each.category for each in searched]

    assert read() == (["can", "glass", "plastic", "종이"], ["can"])
    add(guides, Guide(category="box", title="Boxes", content="Fold FLAT"))
    assert read() == (["box", "can", "glass", "plastic", "종이"], ["box", "can"])
    with guides() as session:
        session.execute(update(Guide).where(Guide.category == "can").values(category="tin"))
        session.execute(delete(GUIDES).where(GUIDES.c.category == "glass"))
        session.commit()
    assert read() == (["box", "plastic", "tin", "종이"], ["box", "tin"])
    with guides() as session:
        session.execute(text("update info_db.recycle_guides set content = 'x'"))
        session.commit()
    assert read()[1] == []


def gained(sessions: Factory, exp: int) -> int:
    """Gain in a transaction of its own; how many levels."""
    with sessions() as session:
        levels = session.get_one(Character, "kim").gain_exp(exp)
        session.commit()
        return levels


def test_as_many_levels_as_the_experience_gives(sessions: Factory, migrated: Engine) -> None:
    """The row has them when the commit returns, and so has the cached state."""
    add(sessions, Character(user_id="kim", name="Sprout"))
    assert gained(sessions, 99) == 0
    assert gained(sessions, 1) == 1
    assert gained(sessions, 150 + 200 + 7) == 2
    with Session(migrated) as plain:
        kim = plain.get_one(Character, "kim")
        assert (kim.level, kim.exp, kim.exp_required) == (4, 7, 250)
    assert state(sessions, "kim") == ("Sprout", 4, 0, 0)


def test_levels_are_solved_as_they_would_be_counted() -> None:
    """Also for as much as the column holds."""
    for level in (1, 2, 7, 300):
        for exp in (*range(0, 1200, 7), 99, 100, 249, 250, 10**5):
            counted, rest = level, exp
            while rest >= calculate_exp_required(counted):
                rest -= calculate_exp_required(counted)
                counted += 1
            assert level_up(level, exp) == (counted, rest)
    level, rest = level_up(1, EXP_MAX)
    assert 0 <= rest < calculate_exp_required(level)


@pytest.mark.parametrize(
    ("exp", "error", "message"),
    [
        (0, ValueError, "gains 1 or more, found 0"),
        (-5, ValueError, "gains 1 or more, found -5"),
        (2**63, ValueError, f"is more experience than {EXP_MAX}"),
        (1.5, TypeError, "a whole number, found 1.5"),
        ("9", TypeError, "a whole number, found '9'"),
        (True, TypeError, "a whole number, found True"),
    ],
)
def test_what_is_no_gain_is_refused(
    sessions: Factory, exp: Any, error: type[Exception], message: str
) -> None:
    """Nothing is changed."""
    add(sessions, Character(user_id="kim", name="Sprout"))
    with sessions() as session:
        kim = session.get_one(Character, "kim")
        with pytest.raises(error, match=message):
            kim.gain_exp(exp)
        assert not session.dirty
    with pytest.raises(ValueError, match="in no session"):
        Character(user_id="lee", name="Leaf").gain_exp(5)


def test_gains_of_one_session_add_up(sessions: Factory) -> None:
    """Also where it does not flush by itself."""
    add(sessions, Character(user_id="kim", name="Sprout"))
    with sessions(autoflush=False) as session:
        kim = session.get_one(Character, "kim")
        assert [kim.gain_exp(60), kim.gain_exp(60)] == [0, 1]
        session.commit()
    assert state(sessions, "kim") == ("Sprout", 2, 0, 0)


_GAINER = """
import sys
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from tests.fixtures.patience import PATIENCE, patient_cache
from models import REGIONS, Character, character_state
cache = patient_cache(sys.argv[2], regions=REGIONS)
sessions = sessionmaker(create_engine(sys.argv[1]))
cache.attach(sessions)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    with sessions() as session:
        session.execute(character_state(user_id="kim")).one()
        session.get_one(Character, "kim").gain_exp(7)
        session.commit()
"""


def test_two_processes_gaining_at_once_lose_nothing(
    sessions: Factory, database_url: str, redis_url: str
) -> None:
    """Each reads the cached state and gains a hundred times; the last state read is the sum."""
    add(sessions, Character(user_id="kim", name="Sprout"))
    command = [sys.executable, "-c", _GAINER, database_url, redis_url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(PATIENCE) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    level, rest = level_up(1, 2 * 100 * 7)
    with sessions() as session:
        found = session.execute(character_state(user_id="kim")).one().Character
        assert (found.level, found.exp) == (level, rest)
        found = session.get_one(Character, "kim", populate_existing=True)
        assert (found.level, found.exp) == (level, rest)


def test_the_state_is_written_through(
    sessions: Factory, sql_log: SqlLog, redis_log: RedisLog
) -> None:
    """After the commit the next reader finds it in Redis; the histories are read anew."""
    add(sessions, Character(user_id="kim", name="Sprout"))
    gained(sessions, 120)
    sql_log.clear()
    redis_log.clear()
    assert state(sessions, "kim") == ("Sprout", 2, 0, 0)
    assert sql_log == []
    assert redis_log == ["mget"]
    with sessions() as session:
        session.execute(
            insert(MISSIONS).values(
                id="m", user_id="kim", title="x", status=MissionStatus.COMPLETED, created_at=NOON
            )
        )
        session.commit()
    sql_log.clear()
    assert state(sessions, "kim") == ("Sprout", 2, 1, 1)
    assert sql_log == []
