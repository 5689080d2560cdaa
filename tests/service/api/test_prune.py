"""`python -m examples.recycling.service.prune` forgets what has expired, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sqlalchemy import Engine, text

from examples.recycling.service.prune import main
from tests.support.service.process import ROOT


def prune(database_url: str, redis_url: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "RECYCLING_DATABASE_URL": database_url,
        "RECYCLING_REDIS_URL": redis_url,
    }
    # Signs nothing, so it must not need what signs.
    environment.pop("RECYCLING_JWT_SECRET", None)
    return subprocess.run(
        [sys.executable, "-m", "examples.recycling.service.prune", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_what_has_expired_is_forgotten(town: Engine, town_url: str, town_redis: str) -> None:
    """In batches; an hour of grace by default, because clocks differ."""
    with town.begin() as connection:
        connection.execute(
            text(
                "insert into auth_db.revocations (jti, user_id, expires_at)"
                " select 'old' || n, 'u0001', now() - interval '2 hours'"
                " from generate_series(1, 7) n"
            )
        )
        connection.execute(
            text(
                "insert into auth_db.revocations (jti, user_id, expires_at) values"
                " ('just', 'u0001', now() - interval '1 minute'),"
                " ('later', 'u0001', now() + interval '1 day')"
            )
        )
    done = prune(town_url, town_redis, "--batch", "3")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("7 revocations pruned")
    with town.connect() as connection:
        left = connection.scalars(text("select jti from auth_db.revocations")).all()
    assert {"just", "later"} <= set(left)
    assert not [jti for jti in left if jti.startswith("old")]


def test_words_that_mean_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Said, with an exit code of its own, before anything is opened."""
    with pytest.raises(SystemExit, match="2"):
        main(["--batch", "0"])
    assert "give 1 or more" in capsys.readouterr().err
