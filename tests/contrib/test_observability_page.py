"""docs/observability.md: its code runs, and it names what is exported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from cachedorm.contrib.prometheus import PrometheusObserver
from cachedorm.observe import _EVENTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text("utf-8")


def test_its_code_runs(tmp_path: Path) -> None:
    """All of it, one block after the other, as a reader would type it."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=ROOT, env=environment, check=True, timeout=60
    )


def test_every_metric_is_on_it() -> None:
    """With the names they are exported under, and no others."""
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    exported = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
    }
    named = set(re.findall(r"`((?:cachedorm|redis_cache)_[a-z_]+)`", PAGE))
    metrics = {name for name in named if not name.startswith(("cachedorm_event", "cachedorm_supp"))}
    assert metrics - {"redis_cache_hits", "cachedorm_region"} == exported


def test_every_event_is_on_it() -> None:
    """As observers override them."""
    for event in (*_EVENTS, "loading"):
        assert f"`{event}(" in PAGE
