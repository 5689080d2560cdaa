"""The accounts of docs/operations.md, and the commands that it says they are enough for."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from sqlalchemy.orm import Session, sessionmaker

from examples.servers import PrivateRedis
from tests.fixtures.command_line import Command
from tests.support.docs.pages import blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
URL = "redis://localhost:6379"


@pytest.fixture
def accounts(private_redis: PrivateRedis) -> PrivateRedis:
    """A Redis with the page's accounts."""
    blocks = [block.text for block in blocks_of(PAGE) if "admin.acl_setuser(" in block.text]
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for text in blocks:
        exec(text.replace(URL, private_redis.url), names)
    admin = names["admin"]
    assert isinstance(admin, redis.Redis)
    admin.close()
    return private_redis


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ("cachedorm", ("warm", "--set", "guides")),
        ("cachedorm", ("invalidate", "User", "u0001")),
        ("cachedorm", ("invalidate", "--pattern", "user:*")),
        ("cachedorm", ("invalidate", "--region", "my")),
        ("cachedorm-looks", ("stats",)),
        ("cachedorm-looks", ("inspect", "user:profile:u0001")),
        ("cachedorm-looks", ("doctor",)),
    ],
)
def test_what_an_account_is_enough_for(
    town: sessionmaker[Session],
    accounts: PrivateRedis,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    account: str,
    words: tuple[str, ...],
) -> None:
    """Nothing is refused, not even what would be overlooked."""
    url = accounts.url.replace("//", f"//{account}:secret@")
    monkeypatch.setenv("WARM_REDIS", url)
    done = command(*words)

    assert done.status == 0, done.stderr + done.stdout
    with redis.Redis.from_url(accounts.url) as admin:
        assert [each["object"] for each in admin.acl_log()] == []
