"""A town to play with: users, centres, guides and their histories, the same for the same seed.

`load(connection, generate(seed, now))` fills an empty, migrated database in a few seconds.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection

from examples.recycling import korea
from models import Base, calculate_exp_required

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows to make."""

    users: int = 2_000
    centers: int = 5_000
    guides: int = 200
    revocations: int = 100
    # Each user has up to this many; the first has all of them, so that every limit can be seen.
    activities: int = 120
    missions: int = 12
    conversations: int = 24
    scans: int = 24


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of one table, in the order of its columns."""

    table: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


class Town:
    """Makes the rows; each table draws from a generator of its own, so none disturbs another."""

    def __init__(self, seed: int, now: datetime, sizes: Sizes) -> None:
        if now.tzinfo is None:
            raise ValueError(
                f"now={now} has no zone; give an aware time, such as datetime.now(UTC)"
            )
        if sizes.guides > len(korea.MATERIALS) * len(korea.FORMS):
            raise ValueError(
                f"{sizes.guides} guides asked for, but there are names for"
                f" {len(korea.MATERIALS) * len(korea.FORMS)}"
            )
        self.seed = seed
        self.now = now
        self.sizes = sizes

    def random(self, table: str) -> Random:
        return Random(f"{self.seed}:{table}")

    def past(self, random: Random, days: int = 180) -> datetime:
        return self.now - timedelta(microseconds=random.randrange(days * 86_400_000_000))

    def user_ids(self) -> Iterator[str]:
        return (f"u{number:04}" for number in range(1, self.sizes.users + 1))

    def owners(self, random: Random, most: int) -> Iterator[str]:
        """Repeat each user as often as it has rows in a history: most have few, the first all."""
        for number, user_id in enumerate(self.user_ids()):
            count = most if number == 0 else round(most * random.random() ** 6)
            yield from (user_id for _ in range(count))

    def users(self) -> Iterator[Row]:
        random = self.random("users")
        for user_id in self.user_ids():
            nickname = random.choice(korea.FAMILY_NAMES) + random.choice(korea.GIVEN_NAMES)
            secret = f"scrypt$16384$8$1${random.randbytes(24).hex()}"
            district = random.choice(korea.PLACES).name
            email = f"{user_id}@example.com"
            yield user_id, email, nickname, secret, district, self.past(random, 720)

    def activities(self) -> Iterator[Row]:
        random = self.random("activities")
        kinds = list(korea.ACTIVITIES.items())
        for number, user_id in enumerate(self.owners(random, self.sizes.activities), 1):
            kind, phrase = random.choice(kinds)
            points = random.randrange(0, 50, 5)
            yield f"a{number:06}", user_id, kind, say(random, phrase), points, self.past(random)

    def characters(self) -> Iterator[Row]:
        random = self.random("characters")
        for user_id in self.user_ids():
            level = 1 + int(random.expovariate(0.25))
            required = calculate_exp_required(level)
            name = random.choice(korea.CHARACTER_NAMES)
            # Below what lifts it: a character that stands at its level has not been lifted yet.
            yield user_id, name, random.randrange(required), level, required, self.past(random)

    def missions(self) -> Iterator[Row]:
        random = self.random("missions")
        for number, user_id in enumerate(self.owners(random, self.sizes.missions), 1):
            status = random.choice(("active", "completed", "completed", "abandoned"))
            created = self.past(random)
            done = created + (self.now - created) * random.random()
            title = say(random, random.choice(korea.MISSIONS))
            completed = done if status == "completed" else None
            yield f"m{number:06}", user_id, title, status, created, completed

    def centers(self) -> Iterator[Row]:
        random = self.random("recycle_centers")
        weights = [place.weight for place in korea.PLACES]
        chosen = random.choices(korea.PLACES, weights, k=self.sizes.centers)
        for number, place in enumerate(chosen, 1):
            kind = random.choice(korea.CENTER_KINDS)
            name = f"{place.name.split()[-1]} {kind} {number}호점"
            address = f"{place.name} {random.choice(korea.ROADS)} {random.randint(1, 300)}"
            lat, lon = random.gauss(place.lat, 0.02), random.gauss(place.lon, 0.025)
            created = self.past(random, 1800)
            yield f"c{number:05}", name, address, round(lat, 6), round(lon, 6), created

    def guides(self) -> Iterator[Row]:
        random = self.random("recycle_guides")
        names = [
            (material + form, f"{in_korean} {form_in_korean}".strip())
            for form, form_in_korean in korea.FORMS.items()
            for material, in_korean in korea.MATERIALS.items()
        ]
        for number, (category, name) in enumerate(names[: self.sizes.guides], 1):
            steps = " ".join(random.sample(korea.STEPS, 3))
            title = f"{name} 분리배출 방법"
            yield f"g{number:03}", category, title, f"{name} 버리는 법({category.upper()}): {steps}"

    def conversations(self) -> Iterator[Row]:
        random = self.random("conversations")
        for number, user_id in enumerate(self.owners(random, self.sizes.conversations), 1):
            words = draw(random)
            question = random.choice(korea.QUESTIONS).format(**words)
            answer = random.choice(korea.ANSWERS).format(**words)
            yield f"v{number:06}", user_id, question, answer, self.past(random)

    def scans(self) -> Iterator[Row]:
        random = self.random("scan_results")
        materials = list(korea.MATERIALS)
        for user_id in self.owners(random, self.sizes.scans):
            task_id = f"task-{random.randbytes(6).hex()}"
            status = random.choice(("completed", "completed", "completed", "failed", "pending"))
            created = self.past(random)
            found = {"category": random.choice(materials), "confidence": round(random.random(), 3)}
            result = json.dumps(found) if status == "completed" else None
            finished = created + timedelta(seconds=random.randint(1, 20))
            yield (
                task_id, user_id, status, result, created, None if status == "pending" else finished
            )  # fmt: skip

    def revocations(self) -> Iterator[Row]:
        random = self.random("revocations")
        users = list(self.user_ids())
        for _ in range(self.sizes.revocations):
            jti = random.randbytes(16).hex()
            revoked = self.past(random, 2)
            # A token lives a week, so these stay revoked for at least five more days.
            expires = revoked + timedelta(days=7)
            yield (
                jti,
                random.choice(users),
                random.choice(korea.REVOCATION_REASONS),
                revoked,
                expires,
            )


def draw(random: Random) -> dict[str, object]:
    """Draw the words that a phrase may ask for."""
    return {
        "material": random.choice(list(korea.MATERIALS.values())),
        "place": random.choice(korea.PLACES).name,
        "count": random.randint(1, 20),
    }


def say(random: Random, phrase: str) -> str:
    """Fill in a phrase with words drawn for it."""
    return phrase.format(**draw(random))


def generate(seed: int, now: datetime, sizes: Sizes | None = None) -> list[TableRows]:
    """Return every table's rows, owners before what belongs to them; equal for equal arguments.

    `now` is the newest moment in the histories; revocations last some days beyond it.
    """
    town = Town(seed, now, sizes or Sizes())
    makers: dict[str, Callable[[], Iterator[Row]]] = {
        "my_db.users": town.users,
        "my_db.activities": town.activities,
        "character_db.characters": town.characters,
        "character_db.missions": town.missions,
        "location_db.recycle_centers": town.centers,
        "info_db.recycle_guides": town.guides,
        "chat_db.conversations": town.conversations,
        "scan_db.scan_results": town.scans,
        "auth_db.revocations": town.revocations,
    }
    return [TableRows(table, columns_of(table), tuple(make())) for table, make in makers.items()]


def columns_of(table: str) -> tuple[str, ...]:
    """The columns of a table that are written, in its own order."""
    columns = Base.metadata.tables[table].columns
    return tuple(column.name for column in columns if column.computed is None)


def load(connection: Connection, tables: list[TableRows]) -> int:
    """COPY the rows into their empty tables and return how many there were.

    The caller commits. COPY goes past every session, so no cache hears of it: load first, or clear
    the regions afterwards.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"loading uses COPY and needs psycopg, found {driver!r}")
    with driver.cursor() as cursor:
        for each in tables:
            copy_rows(cursor, each)
        cursor.execute("ANALYZE")
    return sum(len(each.rows) for each in tables)


def copy_rows(cursor: psycopg.Cursor[Any], target: TableRows) -> None:
    """COPY one table's rows."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*target.table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, target.columns)),
    )
    with cursor.copy(statement) as copy:
        for row in target.rows:
            copy.write_row(row)
