"""Where this machine keeps the programs that private servers run."""

import re
import shutil
from pathlib import Path

from examples.servers.errors import NoBinary

# Where distributions keep the binaries that they do not put on PATH.
PLACES: tuple[str, ...] = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")


def redis_binary() -> str:
    """The path of redis-server (or of its twin valkey-server)."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise NoBinary("no redis-server on PATH")
    return found


def postgres_binary(name: str) -> str:
    """The path of one of PostgreSQL's programs: PATH's, else the newest version's."""
    on_path = shutil.which(name)
    if on_path:
        return on_path
    places = [place for pattern in PLACES for place in Path("/").glob(pattern)]
    for place in sorted(places, key=_version_in, reverse=True):
        if (place / name).is_file():
            return str(place / name)
    raise NoBinary(f"no {name} on PATH or in /usr/lib/postgresql/*/bin")


def _version_in(place: Path) -> int:
    digits = re.search(r"\d+", place.parent.name)
    return int(digits[0]) if digits else 0
