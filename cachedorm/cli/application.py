"""The Cache that a command works on: from ``--app module:cache`` or pyproject.toml."""

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
from cachedorm.cli.errors import CommandError, one_line
from cachedorm.errors import ConfigurationError
from cachedorm.orm.database.factories import is_async

T = TypeVar("T")

AppOption = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="MODULE:CACHE",
        help="The Cache, or a function that makes it, such as shop.cache:cache. Default:"
        " [tool.cachedorm] app in the pyproject.toml of this or a parent folder.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class CacheLocation:
    """Where the Cache is: ``module:name``, the folder to import from, and who gave it."""

    where: str
    folder: Path
    given_by: str

    def module(self) -> Any:
        """Import the module; CommandError if that fails."""
        name, colon, attribute = self.where.partition(":")
        if not name or not colon or not attribute:
            raise CommandError(f"{self.given_by}: give module:name, as in shop.cache:cache")
        # Like python -m: import from the current folder, or from that of pyproject.toml.
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        try:
            with redirect_stdout(sys.stderr):
                return importlib.import_module(name)
        # The application's own code runs on import and may raise anything.
        except (Exception, SystemExit) as error:
            raise CommandError(
                f"{self.given_by}: importing {name} failed: {one_line(error)}"
            ) from error


def location_of(app: str | None) -> CacheLocation:
    """The location of the application's Cache; CommandError if none is given."""
    here = Path.cwd()
    if app is not None:
        return CacheLocation(app, here, f"--app {app}")
    for folder in (here, *here.parents):
        found = _setting_in(folder / "pyproject.toml")
        if found is not None:
            source = f"{folder / 'pyproject.toml'}, [tool.cachedorm] app"
            if not isinstance(found, str):
                raise CommandError(f"{source}: {found!r} is not a string; give module:name")
            return CacheLocation(found, folder, f"{source} = {found!r}")
    raise CommandError(
        "no application given; use --app module:cache, or write to pyproject.toml:"
        ' [tool.cachedorm] app = "module:cache"'
    )


def _setting_in(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError) as error:
        raise CommandError(f"{file} cannot be read: {one_line(error)}") from error
    ours = tool.get("cachedorm", {}) if isinstance(tool, dict) else {}
    return ours.get("app") if isinstance(ours, dict) else None


def cache_of(app: str | None) -> Cache:
    """The Cache at this location, or the one that the function there returns."""
    place = location_of(app)
    found = place.module()
    try:
        for part in place.where.partition(":")[2].split("."):
            found = getattr(found, part)
    # A property or the module's __getattr__ may raise anything.
    except (Exception, SystemExit) as error:
        raise CommandError(f"{place.given_by}: {_text_of(error)}") from error
    if not isinstance(found, Cache) and callable(found):
        try:
            with redirect_stdout(sys.stderr):
                found = found()
        except (Exception, SystemExit) as error:
            raise CommandError(f"{place.given_by}: calling it failed: {one_line(error)}") from error
    if not isinstance(found, Cache):
        raise CommandError(f"{place.given_by}: expected a Cache, got {_kind(found)}")
    return found


def _text_of(error: BaseException) -> str:
    return one_line(str(error) if isinstance(error, AttributeError) else error)


def _kind(found: object) -> str:
    # Not its repr, which is the application's and may contain anything.
    if hasattr(found, "__await__"):
        found.close() if hasattr(found, "close") else None
        return "a coroutine (the function must not be async)"
    return f"a {type(found).__qualname__}"


def with_cache(app: str | None, act: Callable[[Cache], T]) -> T:
    """Call ``act`` with the application's Cache, and close the Cache afterwards."""
    # The commands report failures themselves; log lines would mix into their output.
    logging.getLogger("cachedorm").addHandler(logging.NullHandler())
    cache = cache_of(app)
    return _run(cache, lambda: act(cache))


def _run(cache: Cache, act: Callable[[], T]) -> T:
    """Run ``act``, in a greenlet if the application's sessions are asynchronous."""

    def acted() -> T:
        try:
            return act()
        finally:
            for tracker in cache.insight.trackers:
                tracker.engine.dispose()

    async def in_greenlet() -> T:
        async with cache:
            done: T = await greenlet_spawn(acted)
            return done

    if _is_async(cache):
        return asyncio.run(in_greenlet())
    with cache:
        return acted()


def _is_async(cache: Cache) -> bool:
    if any(tracker.engine.dialect.is_async for tracker in cache.insight.trackers):
        return True
    try:
        return is_async(cache.source)
    except ConfigurationError:
        return False  # nothing is attached; Redis can still be inspected
