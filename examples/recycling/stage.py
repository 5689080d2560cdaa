"""Plays a scene: read, read again, write, read; each in a session of its own, each watched."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from examples.recycling.scenes import Scene
from examples.recycling.witness import Seen, Witness


@dataclass(frozen=True, slots=True)
class Answer:
    """What a read answered, and what was seen meanwhile."""

    text: str
    seen: Seen


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands at a key in Redis, as Redis itself says; nothing if size_bytes is 0.

    stamped: whether the stamp that it carries is there; without it no reader takes the entry.
    """

    size_bytes: int
    left_s: float
    stamped: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A scene that was played. kept, left: what stood in Redis before and after the write."""

    scene: Scene
    first: Answer
    second: Answer
    kept: Standing
    commit: Seen
    left: Standing
    after: Answer


@dataclass(frozen=True, slots=True)
class Stage:
    """Where scenes are played: one Redis, one witness."""

    redis_url: str
    witness: Witness

    def play(self, scene: Scene, sessions: sessionmaker[Session]) -> Shown:
        """Play the scene in plain sessions."""

        def read() -> Answer:
            with sessions() as session:
                given = scene.start(session)
                end = self.witness.begin()
                text = scene.read(given)
                return Answer(text, end())

        def commit() -> Seen:
            with sessions() as session:
                scene.write(session)
                end = self.witness.begin()
                session.commit()
                return end()

        first, second, kept = read(), read(), self.standing(scene)
        committed, left = commit(), self.standing(scene)
        return Shown(scene, first, second, kept, committed, left, read())

    async def play_async(
        self,
        scene: Scene,
        ask: Callable[[AsyncSession], Awaitable[str]],
        sessions: async_sessionmaker[AsyncSession],
    ) -> Shown:
        """Play the scene in async sessions; `ask` is its read, with `await`."""

        async def read() -> Answer:
            async with sessions() as session:
                end = self.witness.begin()
                text = await ask(session)
                return Answer(text, end())

        async def commit() -> Seen:
            async with sessions() as session:
                await session.run_sync(scene.write)
                end = self.witness.begin()
                await session.commit()
                return end()

        first, second, kept = await read(), await read(), self.standing(scene)
        committed, left = await commit(), self.standing(scene)
        return Shown(scene, first, second, kept, committed, left, await read())

    def standing(self, scene: Scene) -> Standing:
        """Ask Redis what it has at the scene's key."""
        stamp = f"~s:{scene.model.__table__}"
        with redis.Redis.from_url(self.redis_url, db=scene.region.db) as client:
            left_s = max(0, int(client.pttl(scene.key))) / 1000
            return Standing(int(client.strlen(scene.key)), left_s, bool(client.exists(stamp)))

    def clear(self, scenes: Iterable[Scene]) -> None:
        """Take the scenes' keys out of Redis, and nothing else."""
        for scene in scenes:
            with redis.Redis.from_url(self.redis_url, db=scene.region.db) as client:
                client.delete(scene.key)
