"""The command line ``cachedorm``, one command a file. Needs the extra ``cachedorm[cli]``."""

from __future__ import annotations

try:
    import rich  # noqa: F401
    import typer
except ImportError as missing:
    raise SystemExit(
        f"{missing}; the command line needs: pip install 'cachedorm[cli]'"
    ) from missing

from cachedorm.cli.doctor.command import doctor
from cachedorm.cli.errors import CommandGroup
from cachedorm.cli.inspect import inspect
from cachedorm.cli.invalidate import invalidate
from cachedorm.cli.regions import regions
from cachedorm.cli.stats import stats
from cachedorm.cli.warm import warm

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """The second-level cache for SQLAlchemy: warm, inspect, invalidate and examine it."""


for command in (warm, stats, inspect, invalidate, regions, doctor):
    app.command()(command)
