"""``python -m examples.recycling.serve``: the service on real servers, with the town in it.

Starts or finds PostgreSQL and Redis, makes a database of its own, and serves until Ctrl-C. Leaves
nothing running and nothing behind in the database.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import uvicorn
from pydantic import SecretStr
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from examples.recycling.data import generate, load
from examples.recycling.migrate import migrate
from examples.recycling.service.app import create_app
from examples.recycling.service.tokens import Tokens
from examples.recycling.settings import Settings
from examples.servers import Found, ServersNotFound, scratch_database, servers
from models import ScanResult

SEED = 2026
USER = "u0001"
TOKEN_LIFE = timedelta(hours=12)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; 2 if there are no servers."""
    asked = parser().parse_args(arguments)
    try:
        with servers() as found, prepared(found) as settings:
            say(settings, asked.host, asked.port)
            serve(settings, asked.host, asked.port)
    except ServersNotFound as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass  # the server has ended in its own good way, and says so by this
    print("nothing left running")
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(prog="python -m examples.recycling.serve")
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=8000)
    return made


@contextmanager
def prepared(found: Found) -> Iterator[Settings]:
    """A migrated database with the town in it, and the settings that name it."""
    with scratch_database(found.database_url, postgis=True) as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            migrate(connection)
            load(connection, generate(SEED, datetime.now(UTC)))
        engine.dispose()
        yield Settings(
            database_url=url,
            redis_url=found.redis_url,
            # One Redis will do for a demonstration; where it evicts, the limits need their own.
            durable_redis_url=found.redis_url,
            jwt_secret=SecretStr(secrets.token_urlsafe(32)),
        )


def say(settings: Settings, host: str, port: int) -> None:
    """How to call the service, as lines to paste."""
    tokens = Tokens(settings.jwt_secret.get_secret_value(), settings.jwt_issuer)
    base = f"http://{host}:{port}"
    public = ["centers/nearby?lat=37.5665&lon=126.978&radius=5", "centers/c00001"]
    public += ["guides/plastic", "search?keyword=plastic"]
    own = [f"profile/{USER}", f"character/{USER}", f"chat/history/{USER}?limit=2"]
    own += [f"scan/history/{USER}?limit=2", f"scan/{a_scan(settings.database_url)}"]
    lines = [
        f"TOKEN={tokens.issue(USER, TOKEN_LIFE)}",
        *(f"curl '{base}/{path}'" for path in public),
        *(f"curl -H \"Authorization: Bearer $TOKEN\" '{base}/{path}'" for path in own),
        f"curl -X PUT -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json'"
        f" -d '{{\"nickname\": \"새싹\"}}' '{base}/profile/{USER}'",
        f"curl -X POST -H \"Authorization: Bearer $TOKEN\" '{base}/character/{USER}/exp?exp=250'",
        f"curl -X POST -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json'"
        f' -d "{{\\"token\\": \\"$TOKEN\\"}}" \'{base}/auth/revoke\'',
    ]
    print(
        "\n".join(["", *lines, "", f"every operation: {base}/docs", "end: Ctrl-C", ""]), flush=True
    )


def a_scan(database_url: str) -> str:
    """The task of one of the user's scans."""
    engine = create_engine(database_url)
    with Session(engine) as session:
        task_id = session.scalars(
            select(ScanResult.task_id).where(ScanResult.user_id == USER).limit(1)
        ).one()
    engine.dispose()
    return task_id


def serve(settings: Settings, host: str, port: int) -> None:
    """Answer requests until Ctrl-C or SIGTERM, then finish those that are under way."""
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        proxy_headers=False,  # whom to believe is a setting of the application's
        timeout_graceful_shutdown=round(settings.request_timeout) + 1,
        log_level="warning",
    )


if __name__ == "__main__":
    sys.exit(main())
