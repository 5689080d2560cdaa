"""The blocks of docs/response-cache.md run as they stand there, one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from cachedorm.contrib.asgi.leading import PASSING
from cachedorm.contrib.asgi.stored import REFUSALS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "response-cache.md"


def test_every_block_runs(tmp_path: Path) -> None:
    """As one program, in a process of its own: what it declares is nobody else's."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks))
    run = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


def test_every_reason_is_in_the_table() -> None:
    """A word that Cache-Status says can be looked up."""
    table = PAGE.read_text()
    for word in {*PASSING, *REFUSALS}:
        assert f"`{word}`" in table
