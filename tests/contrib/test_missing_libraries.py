"""What a module says whose library is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
sys.modules[{library!r}] = None  # as if it were not installed
import cachedorm
try:
    import cachedorm.contrib.{module}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("prometheus", "prometheus_client"),
        ("opentelemetry", "opentelemetry"),
        ("fastapi", "starlette"),
    ],
)
def test_the_extra_is_named(module: str, library: str) -> None:
    """And the library itself needs none of them."""
    script = SCRIPT.format(library=library, module=module)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"pip install 'cachedorm[{module}]'" in done.stdout
