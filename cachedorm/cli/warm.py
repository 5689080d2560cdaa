"""``cachedorm warm``: fill the declared warm sets, with a progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import func, select

from cachedorm.cache import Cache
from cachedorm.cli.application import AppOption, AsJson, with_cache
from cachedorm.cli.completion import complete_warm_set
from cachedorm.cli.errors import CommandError, one_line
from cachedorm.cli.terminal import console, print_json, put, row, table
from cachedorm.declare.queries.warmset import WarmSet, declared_warm_sets
from cachedorm.errors import CachedormError
from cachedorm.orm.database.factories import sessions_of
from cachedorm.orm.warming.pages import Position
from cachedorm.orm.warming.warmer import Warmed


def warm(
    app: AppOption = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="The name of a warm set; all by default.",
            autocompletion=complete_warm_set,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows in one batch.")] = 500,
    after: Annotated[
        str | None, typer.Option(help="The position to continue from; needs one --set.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fill the declared warm sets. Exits with 1 if one of them failed."""

    def act(cache: Cache) -> list[dict[str, Any]]:
        chosen = _chosen(names or [])
        if after is not None:
            _check_position(after, chosen)
        return [_one(cache, each, batch, after, as_json) for each in chosen]

    results = with_cache(app, act)
    _print(results, as_json)
    if any(result["error"] for result in results):
        raise typer.Exit(1)


def _check_position(after: str, chosen: Sequence[WarmSet]) -> None:
    if len(chosen) != 1:
        raise CommandError("--after needs exactly one --set")
    try:
        Position.read(after, chosen[0].name)
    except CachedormError as error:
        raise CommandError(str(error)) from error


def _chosen(names: Sequence[str]) -> list[WarmSet]:
    try:
        declared = {each.name: each for each in declared_warm_sets()}
    except CachedormError as error:
        raise CommandError(str(error)) from error
    unknown = [name for name in names if name not in declared]
    if not declared:
        raise CommandError(
            "no warm set is declared; declare a WarmSet in a module that --app imports"
        )
    if unknown:
        named = ", ".join(map(repr, unknown))
        raise CommandError(f"no warm set is named {named}; declared: {', '.join(declared)}")
    return [declared[name] for name in names] or list(declared.values())


def _one(
    cache: Cache, chosen: WarmSet, batch: int, after: str | None, quiet: bool
) -> dict[str, Any]:
    """Warm one set. Return its summary, with an error instead of raising: others follow."""
    last = Warmed(chosen.name, position=after)
    began = time.monotonic()
    error = None
    try:
        with _progress(cache, chosen, quiet) as notify:

            def progress(warmed: Warmed) -> None:
                nonlocal last
                last = warmed
                notify(warmed)

            last = cache.warm(chosen, batch=batch, after=after, progress=progress)
    # The application's function that gives the parameters may raise anything.
    except Exception as failure:  # noqa: BLE001
        error = f"{type(failure).__name__}: {one_line(str(failure))}"
    last = replace(last, seconds=round(time.monotonic() - began, 3))
    return {**asdict(last), "error": error}


@contextmanager
def _progress(cache: Cache, chosen: WarmSet, quiet: bool) -> Iterator[Callable[[Warmed], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # On the error stream, so that a pipe gets only the summary.
    bar = Progress(*columns, TimeElapsedColumn(), console=console(stderr=True), disable=quiet)
    with bar:
        task = bar.add_task(chosen.name, total=None if quiet else _total(cache, chosen))
        yield lambda warmed: bar.update(task, completed=warmed.seen)


def _total(cache: Cache, chosen: WarmSet) -> int | None:
    """The number of entries to warm, if it is known beforehand."""
    if not isinstance(chosen.what, type):
        given = chosen.each()
        return len(given) if isinstance(given, Sized) else None
    with sessions_of(cache.source)() as session:
        return session.scalar(select(func.count()).select_from(chosen.what))


def _print(results: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        failed = sum(result["error"] is not None for result in results)
        print_json({"sets": results, "failed": failed})
        return
    listed = table("set", "seen", "stored", "already cached", "skipped", "seconds", "")
    for each in results:
        numbers = [each[name] for name in ("seen", "stored", "fresh", "passed", "seconds")]
        state = each["error"] or "done"
        if each["error"] and each["position"]:
            state += f"; continue: --set {each['name']!r} --after {each['position']!r}"
        row(listed, each["name"], *numbers, state)
    put(listed)
