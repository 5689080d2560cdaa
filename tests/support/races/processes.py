"""A process that a test talks to: a request a line, an answer a line, both JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fixtures.patience import PATIENCE

ROOT = Path(__file__).parents[3]


class Process:
    """A running module, which says "ready" first and then answers each request.

    Several start side by side: it is waited for when it is first asked.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._ready = False

    def ask(self, *request: Any) -> Any:
        """The process's answer to a request."""
        assert self._process.stdin is not None
        self.wait()
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def wait(self) -> None:
        """Wait until it is ready."""
        if not self._ready:
            self._ready = True
            assert self.answer() == "ready"

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


def answer(value: Any) -> None:
    """Say this to whoever started the process."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def serve(program: object) -> None:
    """Answer each request, the name of a method and its arguments, until there are no more."""
    answer("ready")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answer(getattr(program, name)(*arguments))


def wait() -> None:
    """In the middle of a request: say "paused", and go on when told to."""
    answer("paused")
    assert json.loads(sys.stdin.readline()) == ["go"]
