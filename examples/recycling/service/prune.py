"""``python -m examples.recycling.service.prune``: forget revocations of expired tokens."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from examples.recycling.caching import open_cache
from examples.recycling.prune import prune_revocations
from examples.recycling.settings import Servers

# Clocks differ; an expired token is refused by its own word, so nothing is urgent.
GRACE_S = 3600


def main(arguments: Sequence[str] | None = None) -> int:
    """Prune the database that the environment names, and say how many rows went."""
    asked = parser().parse_args(arguments)
    servers = Servers()
    engine = create_engine(servers.database_url)
    sessions = sessionmaker(engine)
    before = datetime.now(UTC) - timedelta(seconds=asked.grace)
    with open_cache(servers) as cache:
        cache.attach(sessions)
        pruned = prune_revocations(sessions, before, asked.batch)
        cache.detach(sessions)
    engine.dispose()
    print(f"{pruned} revocations pruned that expired before {before:%Y-%m-%d %H:%M:%S}Z")
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(prog="python -m examples.recycling.service.prune")
    made.add_argument("--grace", type=_at_least(0), default=GRACE_S, help="seconds; %(default)s")
    made.add_argument("--batch", type=_at_least(1), default=1000, help="rows; %(default)s")
    return made


class _at_least:  # noqa: N801
    """A whole number with a lower limit, for argparse."""

    def __init__(self, least: int) -> None:
        self.least = least

    def __call__(self, text: str) -> int:
        number = int(text)
        if number < self.least:
            raise argparse.ArgumentTypeError(f"{number}; give {self.least} or more")
        return number

    def __repr__(self) -> str:
        return "whole number"  # argparse names the type by it


if __name__ == "__main__":
    raise SystemExit(main())
