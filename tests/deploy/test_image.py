"""What the Dockerfile puts into the image, laid out in a folder, and its commands run there.

There is no engine here: the base image and the build itself are not tried.
"""

from __future__ import annotations

import compileall
import fnmatch
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from models import Guide
from tests.fixtures.patience import PATIENCE
from tests.support.manifests import (
    DOCKERFILE,
    ROOT,
    Document,
    compose,
    environment,
    pods,
)

# Where pip puts the programs of this environment, as it does in the image.
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of the Dockerfile. stage: its number."""

    stage: int
    word: str
    rest: str


def steps() -> list[Step]:
    """The instructions, with continued lines joined."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    stage, found = -1, []
    for line in lines:
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        found.append(Step(stage, word, rest))
    return found


def copied(stage: int) -> list[tuple[str, str]]:
    """What a stage copies of the repository, and where to."""
    words = [each.rest.split() for each in steps() if (each.stage, each.word) == (stage, "COPY")]
    return [(source, target) for *sources, target in words for source in sources]


def container_commands() -> list[tuple[str, list[str]]]:
    """Every command that the image is given, and by whom."""
    found = [
        (f"kubernetes:{each.owner}:{container['name']}", container["command"])
        for each in pods()
        if each.is_ours
        for container in each.containers
    ]
    services: dict[str, Document] = compose()["services"]
    return found + [
        (f"compose:{name}", service["command"])
        for name, service in services.items()
        if service["image"] == "recycling"
    ]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder /app as the Dockerfile fills it, and nothing else of the repository."""
    app = tmp_path_factory.mktemp("image") / "app"
    for source, target in copied(1):
        place = app / target
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, place, ignore=ignored, dirs_exist_ok=True)
        else:
            place = place / Path(source).name if target.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)
    # The library comes from its wheel there: the same files (see test_the_wheel).
    shutil.copytree(ROOT / "cachedorm", app.parent / "site/cachedorm")
    compileall.compile_dir(app.parent, quiet=1)
    return app


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(image: Path) -> Run:
    """Runs a command in the image's folder; it is told nothing but what is given."""

    def call(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        program, *words = command
        given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{image}:{image.parent}/site",
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        }
        return subprocess.run(
            [str(PROGRAMS / program), *words],
            cwd=image,
            env=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return call


def test_what_is_copied_is_there() -> None:
    """And is let through to the build, which is told to ignore all else."""
    patterns = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in patterns if line.startswith("!")]
    sources = {source for stage in (0, 1) for source, _ in copied(stage)}
    assert sources == set(let_in)
    assert all((ROOT / source).exists() for source in sources)
    assert patterns[1] == "*"


def test_it_is_not_roots() -> None:
    """The user of the manifests, by number, so that `runAsNonRoot` can see it."""
    (user,) = (each.rest for each in steps() if each.word == "USER")
    used = {each.spec["securityContext"]["runAsUser"] for each in pods() if each.is_ours}
    assert {user} == {f"{number}:{number}" for number in used}


def test_the_wheel(tmp_path: Path) -> None:
    """It holds every file of the library: scripts for Redis and the marker of its types too."""
    source = tmp_path / "source"
    for name, _ in copied(0):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, source],
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("a wheel is built by hatchling, and no package index can be reached")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cachedorm").rglob("*.*")}
    assert held == {name for name in ours if not fnmatch.fnmatch(name, "*__pycache__*")}


@pytest.fixture(scope="module")
def helped(run: Run) -> Callable[..., str]:
    """Gives what a program says of itself, asked once."""

    @cache
    def ask(*words: str) -> str:
        done = run([*words, "--help"], COLUMNS="200")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ask


@pytest.mark.parametrize(("who", "command"), container_commands())
def test_every_option_of_a_command_exists(
    helped: Callable[..., str], who: str, command: list[str]
) -> None:
    """As the program's own help says."""
    program, *words = command
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    verbs = [word for word in words[:2] if word.isalpha()][:1]
    if program == "uvicorn":
        verbs = []
    elif program == "celery":  # which takes --app before its verb
        verbs, options = [words[0], words[1]], options[1:]
    said = helped(program, *verbs)
    assert [each for each in options if each not in said] == []


def test_the_commands_work(run: Run, database_url: str, redis_url: str) -> None:
    """Started on an old schema a pod waits; after the migration it goes on; the warmer warms."""
    known = {
        "recycling/database-url": database_url,
        "redis://k8s-redis:6379": redis_url,
        "redis://k8s-redis-durable:6379": redis_url,
    }

    def act(owner: str, name: str) -> subprocess.CompletedProcess[str]:
        (container,) = (
            container
            for each in pods()
            for container in each.containers
            if (each.owner, container["name"]) == (owner, name)
        )
        variables = {key: known.get(text, text) for key, text in environment(container).items()}
        return run(container["command"], **variables)

    old = act("app", "schema-is-new")
    assert old.returncode != 0
    assert "the schema is older than this code: it is at nothing" in old.stderr
    assert act("migrate", "migrate").returncode == 0
    assert act("worker", "schema-is-new").returncode == 0
    engine = create_engine(database_url)
    with engine.begin() as connection:  # as the next release leaves it
        connection.execute(text("update alembic_version set version_num = 'a_newer_one'"))
    assert act("app", "schema-is-new").returncode == 0
    with Session(engine) as session:
        session.add(Guide(category="paper", title="Paper", content="tie"))
        session.commit()
    engine.dispose()

    warmed = act("cache-warming", "cache-warmer")

    assert warmed.returncode == 0, warmed.stderr
    with redis.Redis.from_url(redis_url, db=5) as client:
        assert client.keys("info:guide:*") == [b"info:guide:paper"]


def test_the_workers_ping() -> None:
    """The same in both; tests/service/test_worker.py lets it ask a worker."""
    (worker,) = (each for each in pods() if each.owner == "worker")
    probe = worker.spec["containers"][0]["livenessProbe"]["exec"]["command"]
    health = compose()["services"]["worker"]["healthcheck"]["test"]
    assert probe[:2] == ["sh", "-c"]
    assert health == ["CMD-SHELL", probe[2].replace("$", "$$")]


def test_the_application_is_made(run: Run) -> None:
    """By the factory that uvicorn is told, with the variables of its container alone."""
    (container,) = (each for pod in pods() if pod.owner == "app" for each in pod.spec["containers"])
    module, _, factory = container["command"][2].partition(":")
    variables = environment(container) | {
        "RECYCLING_JWT_SECRET": "a secret of more than thirty-two bytes",
        "RECYCLING_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none",
    }
    made = run(["python", "-c", f"import {module} as m; m.{factory}()"], **variables)
    assert made.returncode == 0, made.stderr
