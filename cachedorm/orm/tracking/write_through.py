"""The new rows that a write-through puts in place, read just before their COMMIT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import tuple_
from sqlalchemy.engine import Connection

from cachedorm.errors import DeclarationError
from cachedorm.orm.database.commit_outcome import is_aborted
from cachedorm.orm.database.profile import INTERNAL_OPTIONS
from cachedorm.orm.interest.tables import KeyInterest
from cachedorm.orm.mapping.entity_plan import EntityPlan, Row
from cachedorm.orm.tracking.ledger import Ledger
from cachedorm.store.protocol.changes import Offer


class WriteThroughRows:
    """Reads them into the ledger. ``plan`` says how they are stored; None: they are not."""

    __slots__ = ("_failed", "_plan")

    def __init__(
        self,
        plan: Callable[[KeyInterest], EntityPlan | None],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._plan = plan
        self._failed = failed

    def read(self, connection: Connection, ledger: Ledger) -> None:
        """Read what the transaction wrote, as it will stand once committed.

        Our own writes lock them, so no other transaction changes them before we commit. An error
        of the database is raised: it has ended the transaction, and COMMIT would not say so.
        """
        through, ledger.through = ledger.through, {}
        if is_aborted(connection.connection):
            return
        for interest, keys in through.items():
            plan = self._plan_of(interest)
            if plan is None or plan.polymorphic:
                continue  # a subclass has columns that this SELECT does not read
            for row in self._rows(connection, interest, list(keys.values()), plan):
                self._offer(ledger, interest, plan, row)

    def _plan_of(self, interest: KeyInterest) -> EntityPlan | None:
        try:
            return self._plan(interest)
        except DeclarationError as error:
            # Another Cache's model over the same table: no reason to fail this commit.
            self._failed("write-through", error)
            return None

    def _rows(
        self,
        connection: Connection,
        interest: KeyInterest,
        keys: list[tuple[Any, ...]],
        plan: EntityPlan,
    ) -> Iterator[Row]:
        columns = interest.columns
        found = (
            columns[0].in_([key[0] for key in keys])
            if len(columns) == 1
            else tuple_(*columns).in_(keys)
        )
        statement = plan.root.statement.where(found)
        for values in connection.execute(statement, execution_options=INTERNAL_OPTIONS).all():
            yield plan.root, tuple(values)

    def _offer(self, ledger: Ledger, interest: KeyInterest, plan: EntityPlan, row: Row) -> None:
        try:
            key = plan.key([plan.root.value(row[1], field) for field in plan.fields])
            ttl_ms = plan.ttl_of(row)
        except Exception as error:  # noqa: BLE001 - what cannot be offered is removed instead
            self._failed("write-through", error)
            return
        ledger.values[Offer(interest.db, key)] = (row, ttl_ms)
