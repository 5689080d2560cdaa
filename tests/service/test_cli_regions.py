"""`cachedorm regions`, and the names that a shell completes: no server is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import models
from cachedorm.cli import app
from tests.fixtures.command_line import Command

ROOT = Path(__file__).parents[2]
NAMES = {region.name: region.db for region in models.REGIONS}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that do not exist."""
    monkeypatch.setenv("WARM_DATABASE", "postgresql+psycopg://127.0.0.1:1/none")
    monkeypatch.setenv("WARM_REDIS", "redis://127.0.0.1:1")


def test_everything_declared(command: Command) -> None:
    """Databases, times, templates, policies, and what queries depend on."""
    told = command("regions", "--json").json
    regions = {each["name"]: each for each in told["regions"]}

    assert {name: regions[name]["db"] for name in NAMES} == NAMES
    assert regions["auth"]["negative_ttl_ms"] == 5000
    assert regions["my"]["evictable"] is True
    keys = {key["template"]: key for each in regions.values() for key in each["keys"]}
    assert keys["blacklist:{jti}"]["ttl_column"] == "expires_at"
    assert keys["blacklist:{jti}"]["on_write"] == "write_through"
    assert keys["user:profile:{user_id}"]["exclude"] == ["password_hash"]
    assert keys["scan:history:{user_id}"]["appended"] == ["limit"]
    assert keys["scan:history:{user_id}"]["depends_on"] == ["scan_db.scan_results.user_id=:user_id"]
    assert "Activity" in [each["model"] for each in regions["my"]["followed"]]
    assert told["taken"] == {"8": "rate limiting (limits)", "9": "Celery results"}
    assert told["reserved"] == [10, 11, 12, 13, 14, 15]


def test_for_people(command: Command) -> None:
    """Plain columns in a pipe."""
    said = command("regions").stdout

    assert "chat:history:{user_id}?limit={limit}" in said
    assert "database 9 is reserved for Celery results" in said
    assert "│" not in said


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_an_output_that_cannot_hold_it(words: tuple[str, ...]) -> None:
    """Letters beyond the output's are spelt out."""
    named = ["regions", "--app", "tests.support.service.cli_apps:in_korean", *words]
    done = CliRunner(charset="ascii").invoke(app, named)

    assert done.exit_code == 0
    assert "\\uc885\\uc774" in done.stdout


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("stats --app tests.support.service.warm_app:made --region a", ["api", "auth"]),
        ("invalidate --app tests.support.service.warm_app:made Us", ["User"]),
        ("stats --app nowhere.at_all:made --region a", []),
    ],
)
def test_a_shell_completes(typed: str, names: list[str]) -> None:
    """Names of what is declared, and nothing at all where that cannot be had."""
    words = ["cachedorm", *typed.split()]
    asked = {
        "_CACHEDORM_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "cachedorm.cli"],
        cwd=ROOT,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stdout.split() == names
    assert done.stderr == ""
