"""docs/service.md: what the service is told, and what it answers, is all on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from examples.recycling.service.app import create_app
from examples.recycling.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text("utf-8")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_on_it(name: str) -> None:
    """Under the name that the environment has for it."""
    assert f"`RECYCLING_{name.upper()}`" in PAGE


def test_every_operation_is_on_it() -> None:
    """By its method and path."""
    paths = create_app(Settings(jwt_secret=SecretStr("s" * 32))).openapi()["paths"]
    asked = {f"`{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert len(asked) == 15
    assert [each for each in sorted(asked) if each not in PAGE] == []
