"""``python -m examples.recycling.schema``: whether the database's schema will do for this code.

0 if it has all of this code's migrations, 1 with what to do if not. A newer one does too: pods of
the release before must be able to start while those of the next one come, and after a rollback, so
a migration may only make what both can live with.
"""

from __future__ import annotations

import os
import sys

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, pool
from sqlalchemy.exc import SQLAlchemyError

from examples.recycling.migrate import configuration


def main() -> int:
    """Look at CACHEDORM_DATABASE_URL, and say what is there."""
    url = os.environ.get("CACHEDORM_DATABASE_URL")
    if not url:
        print("no database given; set CACHEDORM_DATABASE_URL", file=sys.stderr)
        return 1
    try:
        with create_engine(url, poolclass=pool.NullPool).connect() as connection:
            missing = missing_from(connection)
    except SQLAlchemyError as error:
        print(f"the database cannot be asked: {error}", file=sys.stderr)
        return 1
    if missing:
        print(
            f"the schema is older than this code: {missing}; alembic upgrade head", file=sys.stderr
        )
        return 1
    print("the schema will do")
    return 0


def missing_from(connection: Connection) -> str | None:
    """What is there and what this code needs, if that is not enough."""
    script = ScriptDirectory.from_config(configuration(connection))
    found = set(MigrationContext.configure(connection).get_current_heads())
    needed = set(script.get_heads())
    if found >= needed or any(not _is_known(script, each) for each in found):
        return None
    return f"it is at {', '.join(sorted(found)) or 'nothing'}, not at {', '.join(sorted(needed))}"


def _is_known(script: ScriptDirectory, revision: str) -> bool:
    try:
        script.get_revision(revision)
    except CommandError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
