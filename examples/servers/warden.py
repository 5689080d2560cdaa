"""A process that ends what this process started, should this process die before it could.

A `with` block cleans up after exceptions and Ctrl-C, not after SIGKILL. The warden holds the
reading end of a pipe; when its owner dies, however that happens, the pipe ends and the warden does
what is left to do. Run as a script it is the warden itself, so it imports nothing but the standard
library.
"""

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any


class Warden:
    """The owner's end: what is watched is ended with the owner, what is released is forgotten."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            # A Ctrl-C goes to the whole foreground group; the warden must outlive it.
            start_new_session=True,
        )

    def watch(
        self,
        name: str,
        *,
        pid: int | None = None,
        directory: Path | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """If the owner dies: kill the process, run the command, remove the directory."""
        where = None if directory is None else str(directory)
        self._tell({"watch": name, "pid": pid, "directory": where, "command": command})

    def release(self, name: str) -> None:
        """The owner has done it by itself."""
        self._tell({"release": name})

    def close(self) -> None:
        """End the warden, which does what is still watched."""
        if os.getpid() != self._owner:
            return  # a forked child holds a copy of the pipe, not the duty
        pipe = self._pipe
        with contextlib.suppress(OSError):
            pipe.close()
        self._process.wait(timeout=30)

    @property
    def _pipe(self) -> IO[str]:
        pipe = self._process.stdin
        assert pipe is not None
        return pipe

    def _tell(self, message: dict[str, Any]) -> None:
        # A warden that was killed cannot be told; the owner still cleans up in its own way.
        with contextlib.suppress(OSError, ValueError):
            self._pipe.write(json.dumps(message) + "\n")
            self._pipe.flush()

    def __repr__(self) -> str:
        return f"<Warden of {self._owner}, pid {self._process.pid}>"


def warden() -> Warden:
    """The warden of this process, begun at the first call."""
    # A forked child needs one of its own: the copied pipe would not end with it.
    pid = os.getpid()
    if pid not in _WARDENS:
        _WARDENS[pid] = Warden()
        atexit.register(_WARDENS[pid].close)
    return _WARDENS[pid]


_WARDENS: dict[int, Warden] = {}


def children_of(pid: int) -> list[int]:
    """The processes that this one started, as far as the system tells."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if Path("/proc/self/task").exists():
        with contextlib.suppress(OSError):
            return [int(word) for word in listed.read_text().split()]
        return []
    table = subprocess.run(
        ["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False
    ).stdout
    rows = (line.split() for line in table.splitlines())
    return [int(row[0]) for row in rows if len(row) == 2 and int(row[1]) == pid]


def signal_tree(pid: int, what: signal.Signals) -> None:
    """Send a signal to a process and to those it started; PostgreSQL's backends leave its group."""
    # The parent first: a stopped postmaster starts no more children while they are listed.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP if what is signal.SIGKILL else what)
    for child in children_of(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, what)
    if what is signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


def _keep_watch(lines: IO[str]) -> dict[str, dict[str, Any]]:
    """Read until the owner is gone; return what it had not released."""
    watched: dict[str, dict[str, Any]] = {}
    for line in lines:
        message = json.loads(line)
        if "watch" in message:
            watched[message["watch"]] = message
        else:
            watched.pop(message["release"], None)
    return watched


def _end(message: dict[str, Any]) -> None:
    if message["pid"]:
        signal_tree(message["pid"], signal.SIGKILL)
    if message["command"]:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(message["command"], check=False, timeout=30)
    if message["directory"]:
        shutil.rmtree(message["directory"], ignore_errors=True)


if __name__ == "__main__":
    for left in _keep_watch(sys.stdin).values():
        _end(left)
