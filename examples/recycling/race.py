"""Writers and readers in several processes, on a few hot rows: who is ever told an old value?

Each profile carries a version in its nickname; a write counts it up under a row lock. Processes
stamp their reads and writes with the machine's one monotonic clock, `verdict.py` compares
them afterwards. Both sides get the same load from the same seed, in the same processes.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.pool import Pool
from random import Random
from threading import Barrier
from typing import Protocol

import redis
from sqlalchemy import create_engine, delete, insert, select
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from cachedorm import Cache, Observer
from examples.recycling.handwritten import HandwrittenProfiles
from examples.recycling.verdict import Event, Run, Verdict, judge
from models import MY, User

# For processes that start, and for a side that is late, on a machine busy with other things.
PATIENCE_S = 120


class Profiles(Protocol):
    """A way to read and write profiles."""

    @property
    def hits(self) -> int:
        """How many reads Redis answered."""

    def version(self, user_id: str) -> int:
        """Return the version that the profile shows."""

    def advance(self, user_id: str) -> int:
        """Write the next version and return it."""

    def close(self) -> None:
        """Give the connections back."""


class Hits(Observer):
    """Counts the reads that were answered from the cache."""

    def __init__(self) -> None:
        self.count = 0

    def hit(self, region: str, key: str) -> None:
        self.count += 1


class CachedormProfiles:
    """Profiles through cachedorm: plain sessions, and not a word about the cache."""

    def __init__(self, sessions: sessionmaker[Session], redis_url: str) -> None:
        self.sessions = sessions
        self._seen = Hits()
        self._cache = Cache(redis_url, observers=[self._seen])
        self._cache.attach(sessions)

    @property
    def hits(self) -> int:
        return self._seen.count

    def version(self, user_id: str) -> int:
        with self.sessions() as session:
            return int(session.get_one(User, user_id).nickname)

    def advance(self, user_id: str) -> int:
        with self.sessions() as session:
            user = session.get_one(User, user_id, with_for_update=True)
            version = int(user.nickname) + 1
            user.nickname = str(version)
            session.commit()
        return version

    def close(self) -> None:
        self._cache.detach(self.sessions)
        self._cache.close()


BY_HAND = "cache-aside by hand"
SIDES: dict[str, Callable[[sessionmaker[Session], str], Profiles]] = {
    BY_HAND: HandwrittenProfiles,
    "cachedorm": CachedormProfiles,
}


@dataclass(frozen=True, slots=True)
class Course:
    """The load: the same seed asks for the same rows, in the same order, at the same times."""

    database_url: str
    redis_url: str
    seed: int = 2026
    seconds: float = 4.0
    rows: int = 3
    writers: int = 2
    readers: int = 4
    writes_per_second: int = 100
    reads_per_second: int = 300

    @property
    def user_ids(self) -> tuple[str, ...]:
        """The hot rows; they belong to the race alone."""
        return tuple(f"race-{number}" for number in range(1, self.rows + 1))

    @property
    def processes(self) -> int:
        return self.writers + self.readers


@dataclass(frozen=True, slots=True)
class Lane:
    """One process's part in one side's race; the first lanes write, the others read."""

    course: Course
    side: str
    number: int

    @property
    def writes(self) -> bool:
        return self.number < self.course.writers

    @property
    def per_second(self) -> int:
        return self.course.writes_per_second if self.writes else self.course.reads_per_second

    def user_ids(self) -> list[str]:
        """The rows to ask for, in order."""
        random = Random(f"{self.course.seed}:{self.number}")
        return random.choices(self.course.user_ids, k=round(self.per_second * self.course.seconds))


def race(course: Course) -> list[Verdict]:
    """Run the course once for each side and return how each did."""
    # Spawned, not forked: a forked child would share this process's sockets.
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(course.processes, timeout=PATIENCE_S)
    with context.Pool(course.processes, initializer=_line_up, initargs=(start,)) as pool:
        verdicts = [_race_side(pool, course, side) for side in SIDES]
        pool.close()
        pool.join()
    return verdicts


def _race_side(pool: Pool, course: Course, side: str) -> Verdict:
    """Race from fresh rows and an empty cache; when all is quiet, look at what is left."""
    with _HotRows(course) as sessions:
        lanes = [Lane(course, side, number) for number in range(course.processes)]
        # One lane a process: none ends before all have met at the barrier.
        pending = pool.map_async(_run, lanes, chunksize=1)
        runs = pending.get(timeout=course.seconds + 2 * PATIENCE_S)
        return judge(side, runs, _left_stale(course, side, sessions))


class _HotRows:
    """The race's rows in the database, and nothing of them in Redis, for a `with` block."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.engine = create_engine(course.database_url, poolclass=NullPool)

    def __enter__(self) -> sessionmaker[Session]:
        self.clear()
        rows = [
            {"user_id": user_id, "email": user_id, "nickname": "0", "password_hash": "none"}
            for user_id in self.course.user_ids
        ]
        sessions = sessionmaker(self.engine)
        with sessions.begin() as session:
            session.execute(insert(User), rows)
        return sessions

    def __exit__(self, *_: object) -> None:
        self.clear()
        self.engine.dispose()

    def clear(self) -> None:
        """Forget the rows on both sides."""
        with self.engine.begin() as connection:
            connection.execute(delete(User).where(User.user_id.in_(self.course.user_ids)))
        with redis.Redis.from_url(self.course.redis_url, db=MY.db) as client:
            client.delete(*(f"user:profile:{user_id}" for user_id in self.course.user_ids))


def _left_stale(course: Course, side: str, sessions: sessionmaker[Session]) -> int:
    """Count the rows that the side still answers wrongly, with nobody writing any more."""
    with sessions() as session:
        statement = select(User.user_id, User.nickname).where(User.user_id.in_(course.user_ids))
        truth = {user_id: int(nickname) for user_id, nickname in session.execute(statement)}
    engine = create_engine(course.database_url, poolclass=NullPool)
    profiles = SIDES[side](sessionmaker(engine), course.redis_url)
    try:
        return sum(profiles.version(user_id) != version for user_id, version in truth.items())
    finally:
        profiles.close()


_start: Barrier


def _line_up(start: Barrier) -> None:
    """Give this process the barrier at which all meet."""
    global _start  # noqa: PLW0603 - a barrier reaches a pool's processes only when they are made
    _start = start


def _run(lane: Lane) -> Run:
    """Run one lane in this process, at its own pace, from the moment all are ready."""
    engine = create_engine(lane.course.database_url, pool_size=1)
    profiles = SIDES[lane.side](sessionmaker(engine), lane.course.redis_url)
    try:
        # Connections are opened before the start.
        profiles.version(lane.course.user_ids[0])
        hits_before = profiles.hits
        _start.wait()
        act = profiles.advance if lane.writes else profiles.version
        events = tuple(_paced(lane, act))
        return Run(lane.writes, events, profiles.hits - hits_before)
    finally:
        profiles.close()
        engine.dispose()


def _paced(lane: Lane, act: Callable[[str], int]) -> list[Event]:
    """Act on each row when its time has come; who is late does not wait."""
    events = []
    began = time.monotonic()
    for number, user_id in enumerate(lane.user_ids()):
        due = began + number / lane.per_second
        time.sleep(max(0.0, due - time.monotonic()))
        before = time.monotonic_ns()
        version = act(user_id)
        events.append(Event(user_id, version, before, time.monotonic_ns()))
    return events
