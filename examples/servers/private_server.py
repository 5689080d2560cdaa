"""A server of one's own: started from a local binary, ended without a trace, hurt on request."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from examples.servers.errors import WayClosed
from examples.servers.warden import signal_tree, warden

# Below the range the kernel takes for outgoing connections, so that a client cannot sit on the port
# of a server that is down for the moment and wants it back.
_PORTS = range(15_000, 32_000)
_START_TIMEOUT = 120.0


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    for _ in range(200):
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise WayClosed("no free port on 127.0.0.1 between 15000 and 32000")


class PrivateServer(ABC):
    """One server process, its directory and its port; both stay the same over a restart.

    `stop` and `kill` leave the directory, `close` (and the end of a `with`) removes it. Should this
    process die first, a warden process does both.
    """

    kind: str

    def __init__(self, *, port: int | None = None) -> None:
        self.port = port or 0
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    # -- what each kind of server says --

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The program and its arguments."""

    @abstractmethod
    def _ready(self) -> bool:
        """Does it answer?"""

    @abstractmethod
    def _find_programs(self) -> None:
        """Make sure that the programs are there; NoBinary if they cannot be."""

    def _prepare(self) -> None:  # noqa: B027 (nothing to do is the usual case)
        """Fill the new directory."""

    @property
    def _account(self) -> str | None:
        """The account that must own the process, where it may not be ours."""
        return None

    @property
    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    # -- its life --

    def start(self) -> Self:
        """The running server; it has answered when this returns."""
        if self.running:
            return self
        self._find_programs()
        try:
            self._make_directory()
            self._launch()
        except BaseException:
            self.close()
            raise
        return self

    def stop(self) -> None:
        """End it in its own good way; nothing happens if it is not running."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, with all it started."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """The same server again, on the same port and directory."""
        self.stop()
        self._launch()
        return self

    def pause(self) -> None:
        """Stop it in mid-step: connections stay open and nothing answers (SIGSTOP)."""
        signal_tree(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        signal_tree(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its directory."""
        if os.getpid() != self._owner:
            return  # a forked child got a copy of this object, not the server
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            warden().release(f"directory {self._directory}")
            self._directory = None

    @property
    def pid(self) -> int:
        """The process; RuntimeError if it is not running."""
        if self._process is None:
            raise RuntimeError(f"{self!r} has no process: start() it first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Is its process there? (A paused one is.)"""
        return self._process is not None and self._process.poll() is None

    @property
    def directory(self) -> Path:
        """Where it keeps its data and its log; RuntimeError before the first start."""
        if self._directory is None:
            raise RuntimeError(f"{self!r} has no directory: start() it first")
        return self._directory

    @property
    def log(self) -> str:
        """What it has printed."""
        with contextlib.suppress(OSError, RuntimeError):
            return (self.directory / "server.log").read_text(errors="replace")
        return ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self.running else "down"
        return f"<{type(self).__name__} on port {self.port or '?'}, {state}>"

    # -- how --

    def _make_directory(self) -> None:
        if self._directory is not None:
            return
        directory = Path(tempfile.mkdtemp(prefix=f"cachedorm-{self.kind}-"))
        self._directory = directory
        warden().watch(f"directory {directory}", directory=directory)
        if self._account:
            shutil.chown(directory, self._account)
        self._prepare()

    def _launch(self) -> None:
        attempts = 1 if self.port else 5
        for attempt in range(1, attempts + 1):
            if attempts > 1:
                self.port = free_port()
            try:
                self._launch_once()
                break
            except WayClosed:
                # Another process may have taken the port between our look and our start.
                if attempt == attempts:
                    raise

    def _launch_once(self) -> None:
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,  # a Ctrl-C is ours to handle, not the server's
                **self._identity(),
            )
        warden().watch(f"server {self._process.pid}", pid=self._process.pid)
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._ready():
            if not self.running or time.monotonic() > deadline:
                tail = self.log[-800:].strip()
                self.kill()
                raise WayClosed(f"{self._command()[0]} did not come up: {tail}")
            time.sleep(0.005)

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None or os.getpid() != self._owner:
            return
        if process.poll() is None:
            if how is not signal.SIGKILL:
                signal_tree(process.pid, signal.SIGCONT)  # a paused one hears no other signal
                process.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=30)
            if process.poll() is None:
                signal_tree(process.pid, signal.SIGKILL)
        process.wait()
        warden().release(f"server {process.pid}")
        self._process = None

    def _identity(self) -> dict[str, Any]:
        """Arguments of Popen that drop root, where the server refuses it."""
        account = self._account
        return {"user": account, "group": _group_of(account), "extra_groups": []} if account else {}


def _group_of(account: str) -> int:
    import pwd

    return pwd.getpwnam(account).pw_gid
