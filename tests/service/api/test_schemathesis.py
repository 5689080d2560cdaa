"""schemathesis, as anybody would run it: its default checks, none left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.service.process import Application, bearer


def test_the_openapi_document_is_kept(application: Application, tmp_path: Path) -> None:
    """Examples, boundary values, random cases and sequences of them, for every operation."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
    command += [f"{application.url}/openapi.json", "--seed", "2026", "--max-examples", "3"]
    command += ["--header", f"Authorization: {bearer('u0001')['Authorization']}", "--no-color"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "15 selected / 15 total" in done.stdout
    assert "Tested: 15" in done.stdout
