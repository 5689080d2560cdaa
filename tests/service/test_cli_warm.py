"""`cachedorm warm` in a process of its own, on the recycling models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from cachedorm import WarmSet
from cachedorm.declare.queries.warmset import declared_warm_sets
from cachedorm.errors import DeclarationError
from examples.recycling.migrate import migrate
from models import POPULAR_PLACES, Guide, RecycleCenter, search_guides
from tests.fixtures.command_line import Command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(
    engine: Engine, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The newest schema with thirty guides and three centres, and the variables that name it."""
    with engine.begin() as connection:
        migrate(connection)
    with Session(engine) as session:
        session.add_all(
            Guide(category=f"c{number}", title="t", content="words") for number in range(30)
        )
        session.add_all(
            RecycleCenter(name=name, address="a", lat=lat, lon=lon)
            for name, (lat, lon) in POPULAR_PLACES.items()
        )
        session.commit()
    monkeypatch.setenv("WARM_DATABASE", database_url)
    monkeypatch.setenv("WARM_REDIS", redis_url)
    return dict(os.environ)


def run(environment: dict[str, str], *words: str, app: str) -> Any:
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "cachedorm.cli", "warm"]
    return subprocess.run(
        [*command, "--app", f"tests.support.service.warm_app:{app}", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("app", ["made", "made_for_coroutines"])
def test_every_declared_set_is_warmed(
    environment: dict[str, str], redis_client: redis.Redis, app: str
) -> None:
    """Guides and popular places are in Redis afterwards, and a summary says so."""
    done = run(environment, "--json", app=app)

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    counts = {each["name"]: (each["seen"], each["stored"]) for each in summary["sets"]}
    assert counts == {"guides": (30, 30), "popular places": (3, 0)}
    assert summary["failed"] == 0
    redis_client.select(5)
    assert len(redis_client.keys("info:guide:*")) == 30
    redis_client.select(4)
    assert len(redis_client.keys("location:nearby:*")) >= 1


def test_one_set_and_a_table(environment: dict[str, str], command: Command) -> None:
    """One set by its name, shown for people; a second time all is there."""
    first = command("warm", "--set", "guides", "--batch", "7")
    again = command("warm", "--set", "guides")

    assert first.status == again.status == 0, first.stderr
    assert "guides" in first.stdout
    assert "done" in first.stdout
    assert "popular" not in first.stdout
    assert "30" in again.stdout


def test_it_goes_on_from_a_position(environment: dict[str, str], command: Command) -> None:
    """The position of one summary is where the next begins."""
    first = command("warm", "--set", "guides", "--json").json
    position = first["sets"][0]["position"]
    rest = command("warm", "--set", "guides", "--json", "--after", position)

    assert rest.json["sets"][0]["seen"] == 0


def test_a_failure_is_an_exit_code(
    environment: dict[str, str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Redis nothing is warm, and the job that runs this must notice."""
    monkeypatch.setenv("WARM_REDIS", "redis://127.0.0.1:1")
    done = command("warm", "--json")

    assert (done.status, done.json["failed"]) == (1, 2)
    assert "CacheUnavailable" in done.json["sets"][0]["error"]


def test_a_failing_database_is_one_too(
    environment: dict[str, str], engine: Engine, command: Command
) -> None:
    """One set fails, the other is warmed."""
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table info_db.recycle_guides")
    done = command("warm", "--json")

    assert done.status == 1
    errors = {each["name"]: each["error"] for each in done.json["sets"]}
    assert "recycle_guides" in errors["guides"]
    assert errors["popular places"] is None


def test_parameters_that_cannot_be_made(environment: dict[str, str], command: Command) -> None:
    """Whatever the application's function raises: one set fails, the other is warmed."""

    def popular() -> list[dict[str, str]]:
        raise KeyError("no such file")

    failing = WarmSet("failing", search_guides, popular)
    done = command("warm", "--json", "--set", failing.name, "--set", "guides")

    assert (done.status, done.json["failed"]) == (1, 1)
    assert [each["error"] for each in done.json["sets"]] == ["KeyError: 'no such file'", None]


@pytest.mark.parametrize(
    ("app", "words", "says"),
    [
        ("nothing", (), "has no attribute"),
        ("not_a_cache", (), "expected a Cache"),
        ("made", ("--set", "gides"), "declared: guides, popular places"),
        ("made", ("--after", "x"), "exactly one --set"),
        ("made", ("--after", "x", "--set", "guides"), "not a position of a warming"),
        ("made", ("--set", ""), "no warm set is named ''"),
    ],
)
def test_wrong_words(
    environment: dict[str, str], command: Command, app: str, words: tuple[str, ...], says: str
) -> None:
    """What was asked for and is not there is said, with an exit code of its own."""
    done = command("warm", *words, app=f"tests.support.service.warm_app:{app}")

    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


def test_two_sets_of_one_name() -> None:
    """A name says which set is meant."""
    one, other = WarmSet("twins", Guide), WarmSet("twins", Guide)
    with pytest.raises(DeclarationError, match="declared twice"):
        declared_warm_sets()
    del one, other
