"""The ways to a server, in the order in which they are tried."""

import os
from collections.abc import Sequence

from examples.servers.errors import ServersNotFound

EVERY = ("environment", "containers", "local", "apt")


def chosen_ways() -> Sequence[str]:
    """The names of the ways to try, in order; CACHEDORM_SERVERS narrows them."""
    wanted = os.environ.get("CACHEDORM_SERVERS", "").replace(",", " ").split()
    unknown = set(wanted) - set(EVERY)
    if unknown:
        raise ServersNotFound(
            f"CACHEDORM_SERVERS names {', '.join(sorted(unknown))}; the ways are {', '.join(EVERY)}"
        )
    return [way for way in EVERY if way in wanted] if wanted else EVERY
