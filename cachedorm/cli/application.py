"""Which Cache a command works on: by ``--app module:cache``, or as pyproject.toml says."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.cache import Cache
from cachedorm.cli.errors import Refused, one_line
from cachedorm.errors import ConfigurationError
from cachedorm.orm.database.factories import is_async

T = TypeVar("T")

App = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="MODULE:CACHE",
        help="Where the Cache is, or a function that makes it, as in shop.cache:cache;"
        " by default what [tool.cachedorm] app says in pyproject.toml, here or further up.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the Cache is: ``module:name``, from where it is imported, and who says so."""

    where: str
    folder: Path
    said_by: str

    def module(self) -> Any:
        """The module, imported; Refused for one that cannot be."""
        name, colon, attribute = self.where.partition(":")
        if not name or not colon or not attribute:
            raise Refused(f"{self.said_by}: give module:name, as in shop.cache:cache")
        # As python -m does: the application lies where one stands, or where its pyproject.toml is.
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        try:
            with redirect_stdout(sys.stderr):
                return importlib.import_module(name)
        # Whatever an application does when it is imported, it is no fault of ours.
        except (Exception, SystemExit) as error:
            raise Refused(f"{self.said_by}: importing {name}: {one_line(error)}") from error


def place_of(app: str | None) -> Place:
    """Where the Cache of this application is; Refused if nothing says so."""
    here = Path.cwd()
    if app is not None:
        return Place(app, here, f"--app {app}")
    for folder in (here, *here.parents):
        found = _said_in(folder / "pyproject.toml")
        if found is not None:
            said = f"{folder / 'pyproject.toml'}, [tool.cachedorm] app"
            if not isinstance(found, str):
                raise Refused(f"{said}: {found!r} is no text; give module:name")
            return Place(found, folder, f"{said} = {found!r}")
    raise Refused(
        "which application? Give --app module:cache, or write it into pyproject.toml:"
        ' [tool.cachedorm] app = "module:cache"'
    )


def _said_in(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError) as error:
        raise Refused(f"{file} cannot be read: {one_line(error)}") from error
    ours = tool.get("cachedorm", {}) if isinstance(tool, dict) else {}
    return ours.get("app") if isinstance(ours, dict) else None


def cache_of(app: str | None) -> Cache:
    """The Cache that is named, or that the function named gives; Refused if there is none."""
    place = place_of(app)
    found = place.module()
    try:
        for part in place.where.partition(":")[2].split("."):
            found = getattr(found, part)
    # A property, or the module's own __getattr__, may raise anything.
    except (Exception, SystemExit) as error:
        raise Refused(f"{place.said_by}: {_said(error)}") from error
    if not isinstance(found, Cache) and callable(found):
        try:
            with redirect_stdout(sys.stderr):
                found = found()
        except (Exception, SystemExit) as error:
            raise Refused(f"{place.said_by}: calling it: {one_line(error)}") from error
    if not isinstance(found, Cache):
        raise Refused(f"{place.said_by}: that is {_kind(found)}, not a Cache")
    return found


def _said(error: BaseException) -> str:
    return one_line(str(error) if isinstance(error, AttributeError) else error)


def _kind(found: object) -> str:
    # Not its repr, which is the application's own and may say anything.
    if hasattr(found, "__await__"):
        found.close() if hasattr(found, "close") else None
        return "a coroutine (a function that makes a Cache is a plain one)"
    return f"a {type(found).__qualname__}"


def working_on(app: str | None, act: Callable[[Cache], T]) -> T:
    """What ``act`` gives for the application's Cache, which is closed afterwards."""
    # What fails is said by the commands themselves, not by a line of a log in between.
    logging.getLogger("cachedorm").addHandler(logging.NullHandler())
    cache = cache_of(app)
    return _run(cache, lambda: act(cache))


def _run(cache: Cache, act: Callable[[], T]) -> T:
    """In a greenlet where the application's sessions are for coroutines."""

    def acted() -> T:
        try:
            return act()
        finally:
            for follower in cache.insight.followers:
                follower.engine.dispose()

    async def in_greenlet() -> T:
        async with cache:
            done: T = await greenlet_spawn(acted)
            return done

    if _is_for_coroutines(cache):
        return asyncio.run(in_greenlet())
    with cache:
        return acted()


def _is_for_coroutines(cache: Cache) -> bool:
    if any(follower.engine.dialect.is_async for follower in cache.insight.followers):
        return True
    try:
        return is_async(cache.source)
    except ConfigurationError:
        return False  # nothing is attached: there is Redis to look at all the same
