"""The command line: ``cachedorm warm --app module:cache``. Needs the extra ``cachedorm[cli]``."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.cache import Cache
from cachedorm.declare.warmset import WarmSet, declared_warm_sets
from cachedorm.errors import CachedormError
from cachedorm.orm.factories import is_async, sessions_of
from cachedorm.orm.warming import Warmed

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
except ImportError as missing:
    raise SystemExit(
        f"{missing}; the command line needs: pip install 'cachedorm[cli]'"
    ) from missing

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

App = Annotated[str, typer.Option("--app", help="Where the Cache is, as in shop.cache:cache.")]


@app.callback()
def main() -> None:
    """The second-level cache for SQLAlchemy."""


@app.command()
def warm(
    where: App,
    names: Annotated[
        list[str] | None, typer.Option("--set", help="A warm set's name; by default all of them.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows of one batch.")] = 500,
    after: Annotated[
        str | None, typer.Option(help="A position to go on from; with one --set.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Fill the declared warm sets. Exits with 1 if one of them failed."""
    cache = _cache(where)
    chosen = _chosen(names or [])
    if after is not None and len(chosen) != 1:
        raise typer.BadParameter("--after needs exactly one --set")
    results = _run(cache, lambda: [_one(cache, each, batch, after, as_json) for each in chosen])
    _print(results, as_json)
    if any(result["error"] for result in results):
        raise typer.Exit(1)


def _cache(where: str) -> Cache:
    """The Cache that ``module:name`` is, or gives when called."""
    module, _, name = where.partition(":")
    if not module or not name:
        raise typer.BadParameter(f"--app {where}: give module:name, as in shop.cache:cache")
    # As python -m does: the application lies where one stands.
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(f"--app {where}: {error}") from error
    if not isinstance(found, Cache) and callable(found):
        found = found()
    if not isinstance(found, Cache):
        raise typer.BadParameter(f"--app {where}: that is {found!r}, not a Cache")
    return found


def _chosen(names: Sequence[str]) -> list[WarmSet]:
    declared = {each.name: each for each in declared_warm_sets()}
    unknown = [name for name in names if name not in declared]
    if unknown or not declared:
        known = ", ".join(declared) or "none; declare a WarmSet in a module that --app imports"
        raise typer.BadParameter(f"no warm set is named {', '.join(unknown)}; declared: {known}")
    return [declared[name] for name in names] or list(declared.values())


def _run(cache: Cache, act: Callable[[], T]) -> T:
    """In a greenlet where the application's sessions are for coroutines."""

    async def in_greenlet() -> T:
        try:
            done: T = await greenlet_spawn(act)
            return done
        finally:
            await cache.aclose()

    if is_async(cache.source):
        return asyncio.run(in_greenlet())
    with cache:
        return act()


def _one(
    cache: Cache, chosen: WarmSet, batch: int, after: str | None, quiet: bool
) -> dict[str, Any]:
    """The summary of one set; an error in it, not raised: the others shall be warmed too."""
    last = Warmed(chosen.name, position=after)
    began = time.monotonic()
    error = None
    try:
        with _progress(cache, chosen, quiet) as told:

            def progress(warmed: Warmed) -> None:
                nonlocal last
                last = warmed
                told(warmed)

            last = cache.warm(chosen, batch=batch, after=after, progress=progress)
    except (CachedormError, SQLAlchemyError) as failure:
        error = f"{type(failure).__name__}: {failure}".splitlines()[0]
    last = replace(last, seconds=round(time.monotonic() - began, 3))
    return {**asdict(last), "error": error}


@contextmanager
def _progress(cache: Cache, chosen: WarmSet, quiet: bool) -> Iterator[Callable[[Warmed], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # On the error stream, so that what is piped on is the summary alone.
    bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), disable=quiet)
    with bar:
        task = bar.add_task(chosen.name, total=None if quiet else _total(cache, chosen))
        yield lambda warmed: bar.update(task, completed=warmed.seen)


def _total(cache: Cache, chosen: WarmSet) -> int | None:
    """How many entries there are to look at, where that can be told beforehand."""
    if not isinstance(chosen.what, type):
        given = chosen.each()
        return len(given) if isinstance(given, Sized) else None
    with sessions_of(cache.source)() as session:
        return session.scalar(select(func.count()).select_from(chosen.what))


def _print(results: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        failed = sum(result["error"] is not None for result in results)
        sys.stdout.write(json.dumps({"sets": results, "failed": failed}, indent=2) + "\n")
        return
    table = Table("set", "seen", "stored", "there already", "passed over", "seconds", "")
    for each in results:
        numbers = [str(each[name]) for name in ("seen", "stored", "fresh", "passed", "seconds")]
        state = each["error"] or "done"
        if each["error"] and each["position"]:
            state += f"\ngo on: --set {each['name']} --after {each['position']}"
        table.add_row(each["name"], *numbers, state)
    Console().print(table)


if __name__ == "__main__":
    app()
