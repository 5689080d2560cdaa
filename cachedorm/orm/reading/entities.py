"""Reading a row by its key through the cache: a hit, or a leased fill, or past the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper, Session

from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.orm.database.catalog import REFUSALS
from cachedorm.orm.database.profile import INTERNAL_OPTIONS
from cachedorm.orm.mapping.entity_plan import EntityPlan, Row, UnknownRow
from cachedorm.orm.mapping.hydration import fill, hydrate
from cachedorm.orm.reading.read_path import BYPASSED, Bypassed, ReadPath, holds_connection
from cachedorm.store.codec import UndecodableError
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.entry import ABSENT, Absent
from cachedorm.store.protocol.keys import EntryKey

# Stop after this many reads if the discriminator keeps changing.
_READS_MAX = 6


class Reader:
    """Reads rows by key for the sessions of one Cache."""

    __slots__ = ("_path", "_plan_of", "_reported")

    def __init__(
        self,
        plan_of: Callable[[Mapper[Any]], EntityPlan | None],
        path: ReadPath,
    ) -> None:
        self._plan_of = plan_of
        self._path = path
        # The plans whose refused tables were reported already.
        self._reported: set[EntityPlan] = set()

    def get(self, session: Session, mapper: Mapper[Any], identity: tuple[Any, ...]) -> Any:
        """The object with this primary key, None if there is no such row, or BYPASSED.

        The object is not in the session yet; the caller has looked.
        """
        plan = self._plan_of(mapper)
        if plan is None:
            return BYPASSED
        if not plan.by_primary_key:
            return self._past(plan, "key is not the primary key")
        values = identity if plan.in_key_order is None else plan.in_key_order(identity)
        row = self._row(session, plan, values)
        if row is None or row is BYPASSED:
            return row
        return self._object(session, mapper, row)

    def by(self, session: Session, mapper: Mapper[Any], values: Sequence[Any]) -> Any:
        """The object whose key columns have these values, None, or BYPASSED."""
        plan = self._plan_of(mapper)
        if plan is None:
            return BYPASSED
        row = self._row(session, plan, values)
        if row is None or row is BYPASSED:
            return row
        return self._object(session, mapper, row)

    def refresh(self, session: Session, mapper: Mapper[Any], state: Any, names: Any) -> bool:
        """Fill expired attributes of an object from the cache; False if the database must."""
        plan = self._plan_of(mapper)
        if plan is None or not plan.by_primary_key or state.key is None or state.key[2] is not None:
            return False
        concrete = plan.rows.get(mapper)
        if concrete is None or not concrete.refills(names):
            return False
        values = state.key[1] if plan.in_key_order is None else plan.in_key_order(state.key[1])
        row = self._row(session, plan, values)
        if row is None or isinstance(row, Bypassed):
            return False  # if the row is gone, SQLAlchemy's own loader says so
        row_plan, values = row
        if row_plan is not concrete:
            return False
        try:
            values = row_plan.live(values)
        except UndecodableError:
            return False
        fill(row_plan, state, values, names)
        return True

    def _past(self, plan: EntityPlan, reason: str) -> Bypassed:
        self._path.count_bypass(plan.region_name, reason)
        if reason in REFUSALS and plan not in self._reported:
            self._reported.add(plan)
            names = ", ".join(str(table) for table in plan.tables)
            text = (
                f"{plan.mapper.class_.__name__}.__cache__: {names}: {REFUSALS[reason]};"
                " it is never served: take the key out of the policy"
            )
            self._path.observer.error("declaration", DeclarationError(text))
        return BYPASSED

    def _row(
        self, session: Session, plan: EntityPlan, values: Sequence[Any]
    ) -> Row | Bypassed | None:
        reason = self._path.why_bypass(session, plan) or plan.why_never
        if reason is not None:
            return self._past(plan, reason)
        try:
            key = plan.key_of(values)
        except ArgumentError:
            return self._past(plan, "key of another type")
        try:
            found: Row | Absent | Any = plan.region.fetch(
                key,
                lambda: self._load(session, plan, values, key),
                lambda: holds_connection(session),
            )
        except UnknownRow:
            return self._past(plan, "unknown discriminator")
        return None if found is ABSENT else found

    def _load(
        self, session: Session, plan: EntityPlan, values: Sequence[Any], key: EntryKey
    ) -> Loaded:
        """Read the row from the database, just as it stands there."""
        connection = session.connection(bind_arguments={"mapper": plan.mapper})
        parameters = {f"key_{number}": value for number, value in enumerate(values)}
        row = self._select(connection, plan, parameters)
        publish = self._path.publishes(connection, plan)
        if row is None:
            return Loaded(ABSENT, plan.negative_ttl_ms, publish)
        # A column whose equality is wider than was declared must not give one row two keys.
        return Loaded(row, plan.ttl_of(row), publish and plan.key_of_row(row) == key)

    def _select(
        self,
        connection: Connection,
        plan: EntityPlan,
        parameters: dict[str, Any],
    ) -> Row | None:
        """Read the row, and then the rest that its class has of it.

        The lease was taken before both reads: a write between them takes it away. One that makes
        the row another class's leaves the second read empty, though the row is there throughout.
        """
        row_plan = plan.root
        for _ in range(_READS_MAX):
            statement = plan.statements[row_plan]
            found = connection.execute(
                statement, parameters, execution_options=INTERNAL_OPTIONS
            ).first()
            if found is None and row_plan is plan.root:
                return None
            concrete = plan.root
            if found is not None:
                values = tuple(found)
                concrete = plan.concrete(row_plan, values) if plan.polymorphic else row_plan
                if concrete is row_plan:
                    return row_plan, values
            row_plan = concrete
        raise UnknownRow("its class changes all the time")

    def _object(self, session: Session, mapper: Mapper[Any], row: Any) -> Any:
        row_plan, values = row
        try:
            values = row_plan.live(values)
        except UndecodableError:
            return BYPASSED  # SQLAlchemy's own load raises what the column's type raises
        found = hydrate(session, row_plan, values)
        return found if isinstance(found, mapper.class_) else None
