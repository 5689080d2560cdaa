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
    """What stands at a key in Redis, as Redis itself says; nothing if size_bytes is 0."""

    size_bytes: int
    left_s: float


@dataclass(frozen=True, slots=True)
class Shown:
    """A scene that was played. kept: what stood in Redis before the write."""

    scene: Scene
    first: Answer
    second: Answer
    kept: Standing
    commit: Seen
    after: Answer


# What a connection says of itself, and the counting.
_UPKEEP = frozenset({"info", "select", "hello", "client|setinfo", "client|id", "pttl", "strlen"})


class Stage:
    """Where scenes are played: one Redis, one witness."""

    def __init__(self, redis_url: str, witness: Witness) -> None:
        self.witness = witness
        self._redis_url = redis_url
        self._counting = redis.Redis.from_url(redis_url)

    def close(self) -> None:
        """Let go of Redis."""
        self._counting.close()

    def watch(self) -> Callable[[], Seen]:
        """As the witness, with the commands that Redis ran meanwhile."""
        before = self._commands()
        end = self.witness.begin()

        def ended() -> Seen:
            seen = end()
            seen.commands = self._commands() - before
            return seen

        return ended

    def _commands(self) -> int:
        """How many commands Redis has run so far, whoever sent them."""
        stats: dict[str, dict[str, int]] = self._counting.info("commandstats")
        names = ((name.removeprefix("cmdstat_"), each["calls"]) for name, each in stats.items())
        return sum(calls for name, calls in names if name not in _UPKEEP)

    def play(self, scene: Scene, sessions: sessionmaker[Session]) -> Shown:
        """Play the scene in plain sessions."""

        def read() -> Answer:
            with sessions() as session:
                given = scene.start(session)
                end = self.watch()
                text = scene.read(given)
                return Answer(text, end())

        def commit() -> Seen:
            with sessions() as session:
                scene.write(session)
                end = self.watch()
                session.commit()
                return end()

        self.clear([scene])
        first, second, kept = read(), read(), self.standing(scene)
        return Shown(scene, first, second, kept, commit(), read())

    async def play_async(
        self,
        scene: Scene,
        ask: Callable[[AsyncSession], Awaitable[str]],
        sessions: async_sessionmaker[AsyncSession],
    ) -> Shown:
        """Play the scene in async sessions; `ask` is its read, with `await`."""

        async def read() -> Answer:
            async with sessions() as session:
                end = self.watch()
                text = await ask(session)
                return Answer(text, end())

        async def commit() -> Seen:
            async with sessions() as session:
                await session.run_sync(scene.write)
                end = self.watch()
                await session.commit()
                return end()

        self.clear([scene])
        first, second, kept = await read(), await read(), self.standing(scene)
        return Shown(scene, first, second, kept, await commit(), await read())

    def standing(self, scene: Scene) -> Standing:
        """Ask Redis what it has at the scene's key."""
        with redis.Redis.from_url(self._redis_url, db=scene.region.db) as client:
            for key in keys_of(scene, client):
                return Standing(int(client.strlen(key)), max(0, int(client.pttl(key))) / 1000)
            return Standing(0, 0.0)

    def clear(self, scenes: Iterable[Scene]) -> None:
        """Take the scenes' keys out of Redis, and nothing else."""
        for scene in scenes:
            with redis.Redis.from_url(self._redis_url, db=scene.region.db) as client:
                for key in keys_of(scene, client):
                    client.delete(key)


def keys_of(scene: Scene, client: redis.Redis) -> list[str | bytes]:
    """The scene's key; of one whose end nobody can say beforehand, those that stand there."""
    return list(client.scan_iter(scene.key)) if scene.key.endswith(":*") else [scene.key]
