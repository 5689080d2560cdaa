"""Server binaries from Debian's or Ubuntu's packages, where we may install them."""

import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from examples.servers.binaries import postgres_binary, redis_binary
from examples.servers.errors import NoBinary, WayClosed
from examples.servers.ways import chosen_ways

# Read by Debian's package scripts: 101 says "do not start services". We start our own.
_POLICY = Path("/usr/sbin/policy-rc.d")


def install_postgres(*, reason: NoBinary) -> None:
    """Install PostgreSQL with PostGIS, of the newest version the distribution has."""
    _install(_newest_postgis, partial(postgres_binary, "initdb"), reason)


def add_postgis() -> None:
    """Install PostgreSQL with PostGIS beside one that has none."""
    missing = NoBinary("the PostgreSQL here has no PostGIS")

    def find() -> str:
        raise missing

    _install(_newest_postgis, find, missing)


def install_redis(*, reason: NoBinary) -> None:
    """Install redis-server."""
    _install(lambda: "redis-server", redis_binary, reason)


def _install(package: Callable[[], str], find: Callable[[], str], reason: NoBinary) -> None:
    """Install, or raise NoBinary with the reason why it was wanted and why it cannot be."""
    try:
        _allowed()
        with _alone():
            # The other test worker may have installed it while we waited.
            with contextlib.suppress(NoBinary):
                find()
                return
            _run("apt-get", "update", "-q")
            _install_package(package())
    except WayClosed as forbidden:
        raise NoBinary(f"{reason}; apt: {forbidden}") from None


def _install_package(name: str) -> None:
    note = f"servers: about to install {name} with apt-get (CACHEDORM_NO_INSTALL=1 forbids it)"
    # To the terminal itself where there is one: pytest would keep it for the end.
    print(note, file=sys.__stderr__, flush=True)
    with _services_stay_down():
        _run("apt-get", "install", "-y", "-q", "--no-install-recommends", name)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process of this machine at a time; apt would refuse the second."""
    with (Path(tempfile.gettempdir()) / "cachedorm-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _allowed() -> None:
    if "apt" not in chosen_ways():
        raise WayClosed("CACHEDORM_SERVERS leaves it out")
    if os.environ.get("CACHEDORM_NO_INSTALL", "") not in {"", "0"}:
        raise WayClosed("CACHEDORM_NO_INSTALL forbids it")
    if shutil.which("apt-get") is None or not _debian():
        raise WayClosed("not a Debian or Ubuntu")
    if os.geteuid() != 0:
        raise WayClosed(
            "only root can: apt-get install --no-install-recommends redis-server postgresql-postgis"
        )


def _debian() -> bool:
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        return bool({"debian", "ubuntu"} & {release["ID"], *release.get("ID_LIKE", "").split()})
    return False


def _newest_postgis() -> str:
    listed = _run("apt-cache", "search", "--names-only", r"^postgresql-[0-9]+-postgis-3$")
    versions = [int(v) for v in re.findall(r"^postgresql-(\d+)-postgis-3 ", listed, re.MULTILINE)]
    if not versions:
        raise WayClosed("apt knows no postgresql-*-postgis-3")
    return f"postgresql-{max(versions)}-postgis-3"


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _run(*command: str) -> str:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-600:]
        raise WayClosed(f"{' '.join(command)} failed: {said}")
    return done.stdout
