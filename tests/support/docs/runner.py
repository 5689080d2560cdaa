"""Runs the blocks of pages, as their reader would: in order, in one namespace, a process a page.

Started as ``python -m tests.support.docs.runner``. Each line of its standard input is one page: a
JSON object with ``blocks`` (place and text of each) and ``folder``, where the page's files go. The
line that answers has ``failed``, what the page said if it failed. A page runs in a fork of this
process, which has imported what every page imports.

A block that begins with ``# name.py`` is that file: it is written, and then imported as that
module, so that other programs find it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import linecache
import os
import re
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_FILE = re.compile(r"^# (?P<name>\w+)\.py\n")
_SECONDS_MAX = 300
_SAID = "said.txt"


def main() -> None:
    """Answers each line with a line."""
    import psycopg  # noqa: F401
    import redis  # noqa: F401
    import sqlalchemy.ext.asyncio  # noqa: F401

    import cachedorm.testing
    from tests.fixtures.patience import patient_cache

    # A page shows the defaults; the machine that runs it may be busy.
    defaults: dict[str, Any] = cachedorm.Cache.__init__.__kwdefaults__ or {}
    defaults.update(patient_cache.keywords)
    for line in sys.stdin:
        job = json.loads(line)
        failed = _in_a_fork(Path(job["folder"]), job["blocks"])
        sys.stdout.write(json.dumps({"failed": failed}) + "\n")
        sys.stdout.flush()


def _in_a_fork(folder: Path, blocks: Sequence[tuple[str, str]]) -> str | None:
    child = os.fork()
    if child == 0:
        # A page that hangs dies by itself.
        signal.alarm(_SECONDS_MAX)
        os.setpgid(0, 0)
        os._exit(_as_its_own_program(folder, blocks))
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        # A page that failed half-way may have left a worker of its own.
        os.killpg(child, signal.SIGKILL)
    return None if status == 0 else (folder / _SAID).read_text() or f"died with status {status}"


def _as_its_own_program(folder: Path, blocks: Sequence[tuple[str, str]]) -> int:
    os.chdir(folder)
    said = os.open(_SAID, os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    try:
        return _run_page(blocks)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _run_page(blocks: Sequence[tuple[str, str]]) -> int:
    """0, or 1 with the traceback of the block that failed."""
    warnings.simplefilter("error")
    page = sys.modules["page"] = types.ModuleType("page")
    sys.path.insert(0, str(Path.cwd()))
    with asyncio.Runner() as runner:
        for place, text in blocks:
            try:
                _run(runner, page.__dict__, place, text)
            except BaseException:  # whatever a block does, its place is what helps
                traceback.print_exc()
                sys.stderr.write(f"\nin the block at {place}\n")
                return 1
    return 0


def _run(runner: asyncio.Runner, names: dict[str, Any], place: str, text: str) -> None:
    # Tracebacks show the page's lines; dataclasses and mappers look up the module by its name.
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    file = _FILE.match(text)
    if file:
        Path(f"{file['name']}.py").write_text(text)
        names.update(vars(__import__(file["name"])))
        return
    names["__name__"] = "page"
    code = compile(text, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, names)
    if inspect.iscoroutine(result):
        runner.run(result)


if __name__ == "__main__":
    main()
