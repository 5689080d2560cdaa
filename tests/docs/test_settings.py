"""Every setting of the recycling application is on the pages that list them."""

from __future__ import annotations

import re

import pytest

from examples.recycling.settings import Settings, WorkerSettings
from tests.support.docs.pages import ROOT


@pytest.mark.parametrize("settings", [Settings, WorkerSettings])
def test_every_setting_is_documented(settings: type[Settings | WorkerSettings]) -> None:
    """By the variable that it is read from."""
    pages = [(ROOT / "docs" / name).read_text() for name in ("service.md", "deployment.md")]
    named = set(re.findall(r"\bRECYCLING_[A-Z_]+\b", "\n".join(pages)))
    missing = {f"RECYCLING_{name.upper()}" for name in settings.model_fields} - named
    assert not missing
