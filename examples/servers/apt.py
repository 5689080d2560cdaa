"""Server binaries from Debian's or Ubuntu's packages, where we may install them."""

import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from examples.servers.errors import WayClosed

Say = Callable[[str], None]

# Read by Debian's package scripts: 101 says "do not start services". We start our own.
_POLICY = Path("/usr/sbin/policy-rc.d")


def install_postgres(say: Say) -> None:
    """Install PostgreSQL with PostGIS, of the newest version the distribution has."""
    _install(say, _newest_postgis)


def install_redis(say: Say) -> None:
    """Install redis-server."""
    _install(say, lambda: "redis-server")


def _install(say: Say, package: Callable[[], str]) -> None:
    _allowed()
    # Two test workers may come here together; apt would refuse the second.
    with (Path(tempfile.gettempdir()) / "cachedorm-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _run("apt-get", "update", "-q")
        name = package()
        say(f"servers: about to install {name} with apt-get (CACHEDORM_NO_INSTALL=1 forbids it)")
        with _services_stay_down():
            _run("apt-get", "install", "-y", "-q", "--no-install-recommends", name)


def _allowed() -> None:
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
        raise WayClosed(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
