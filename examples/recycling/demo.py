"""`python -m examples.recycling.demo`: the recycling app on real servers, read through the cache.

Starts or finds PostgreSQL and Redis, makes a database of its own, loads the town, shows for each
domain where its reads come from before and after a write, and the same of a response of the
service; then races against cache-aside written by hand. Leaves nothing running and nothing behind.
"""

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter

import redis
from rich.console import Console
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from cachedorm.errors import CachedormError
from examples.recycling.cast import REHEARSAL, SHOW, Cast
from examples.recycling.data import generate, load
from examples.recycling.lists import many_rows
from examples.recycling.migrate import migrate
from examples.recycling.race import BY_HAND, Course, race
from examples.recycling.scenes import Scene, guide, nickname, profile, single_rows
from examples.recycling.stage import Shown, Stage
from examples.recycling.tables import conclusion, race_table, show
from examples.recycling.witness import Witness
from examples.servers import ServersNotFound, scratch_database, servers

SEED = 2026


def main() -> int:
    """Run the demo; 0 if no read through the cache was stale."""
    # Piped into a file there is no terminal whose width would matter.
    console = Console() if sys.stdout.isatty() else Console(width=100)
    began = perf_counter()
    try:
        with servers() as found, scratch_database(found.database_url, postgis=True) as url:
            prepare(url, console)
            ready = perf_counter()
            show_domains(url, found.redis_url, console)
            stale = show_race(Course(url, found.redis_url, seed=SEED), console)
            ended = perf_counter()
    except (ServersNotFound, CachedormError) as error:
        console.print(str(error), markup=False)
        return 2
    except redis.ConnectionError as error:
        # Sessions go on without it; what stands in it cannot be shown, and no race be run.
        console.print(f"Redis went away during the demo ({error}); run it again", markup=False)
        return 2
    console.print(f"set-up {ready - began:.1f} s, demo {ended - ready:.1f} s; nothing left running")
    return 1 if stale else 0


def prepare(url: str, console: Console) -> None:
    """Migrate the new database and load the town."""
    engine = create_engine(url)
    began = perf_counter()
    with engine.begin() as connection:
        migrate(connection)
        migrated = perf_counter()
        rows = load(connection, generate(SEED, datetime.now(UTC)))
    engine.dispose()
    loaded = perf_counter()
    console.print(
        f"database {engine.url.database}: migrated in {migrated - began:.1f} s,"
        f" {rows:,} rows loaded in {loaded - migrated:.1f} s"
    )


def show_domains(url: str, redis_url: str, console: Console) -> None:
    """Play each domain's scene, in plain sessions and in async ones, on one cache."""
    stage = Stage(redis_url, Witness())
    with Cache(redis_url, observers=[stage.witness]) as cache:
        shown = play(url, stage, cache)
        shown.append(asyncio.run(play_async(url, stage, cache)))
        shown.append(asyncio.run(play_response(url, redis_url, stage)))
        show(shown, console)
        stage.close()
        console.print(f"\ncache.stats(): {cache.stats()!r}\n", markup=False)


def scenes(session: Session, cast: Cast) -> list[Scene]:
    """Return every scene, domain by domain."""
    every = [*single_rows(session, cast), *many_rows(cast)]
    domains = list(dict.fromkeys(scene.domain for scene in every))
    return sorted(every, key=lambda scene: domains.index(scene.domain))


def play(url: str, stage: Stage, cache: Cache) -> list[Shown]:
    """Play every scene in sessions that know nothing of the cache."""
    engine = create_engine(url)
    stage.witness.follow(engine)
    sessions = sessionmaker(engine)
    cache.attach(sessions)
    # What is shown is not the first of its kind: connections are open, statements are compiled.
    for cast in (REHEARSAL, SHOW):
        with sessions.begin() as session:
            every = scenes(session, cast)
        shown = [stage.play(scene, sessions) for scene in every]
        stage.clear(every)
    cache.detach(sessions)
    cache.detach(engine)
    engine.dispose()
    return shown


async def play_async(url: str, stage: Stage, cache: Cache) -> Shown:
    """Play the profile's scene with `await`: same words, same keys, same cache."""
    engine = create_async_engine(url)
    stage.witness.follow(engine.sync_engine)
    sessions = async_sessionmaker(engine)
    cache.attach(sessions)
    for user_id in ("u0014", "u0004"):
        scene = replace(profile(user_id), domain="my, async", asks="await get(User)")
        shown = await stage.play_async(scene, partial(nickname, user_id), sessions)
        stage.clear([scene])
    cache.detach(sessions)
    cache.detach(engine)
    await engine.dispose()
    return shown


async def play_response(url: str, redis_url: str, stage: Stage) -> Shown:
    """Play the scene of a whole response, asked of the service, which has a cache of its own."""
    # Here, for the race's processes import this module as well, and have no use for the service.
    from examples.recycling.response import response, service, title

    async with service(url, redis_url) as (client, resources):
        stage.witness.follow(resources.engine.sync_engine)
        with resources.cache.observed(stage.witness):
            for category in ("wood", "paper"):
                scene = response(category)
                ask = partial(title, client, category)
                shown = await stage.play_async(scene, ask, resources.sessions)
                stage.clear([scene, guide(category)])
    return shown


def show_race(course: Course, console: Console) -> int:
    """Race both sides; return how many stale reads the cache served."""
    console.print(
        f"{course.writers} processes write and {course.readers} read {course.rows} hot profiles for"
        f" {course.seconds:.0f} s. A read is stale if it is older than a commit that had returned"
        " before the read began."
    )
    verdicts = race(course)
    console.print(race_table(verdicts))
    console.print(conclusion(verdicts))
    return sum(each.stale + each.left_stale for each in verdicts if each.side != BY_HAND)


if __name__ == "__main__":
    sys.exit(main())
