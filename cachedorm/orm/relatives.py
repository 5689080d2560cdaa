"""Tables that share rows: a partition and its table, a child and its parent, a view of any."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from sqlalchemy import Table

from cachedorm.orm.catalog import Facts, Name
from cachedorm.orm.interest import Interests

Relatives = tuple[Table, ...]


class Kinship:
    """Which known tables' rows change when a table is written, by what the catalogue says."""

    __slots__ = ("_answers", "_interests")

    def __init__(self, interests: Interests) -> None:
        self._interests = interests
        self._answers: WeakKeyDictionary[Facts, dict[Name, Relatives]] = WeakKeyDictionary()

    def of(self, facts: Facts, table: Table) -> Relatives | None:
        """The tables that share rows with this one; None if any may (it is a view, or has rules).

        Mostly none, and then the answer costs two look-ups.
        """
        name = (table.schema, table.name)
        if name in facts.anything:
            return None
        if name not in facts.kin:
            return ()
        answers = self._answers.setdefault(facts, {})
        if name not in answers:
            found = (self._interests.tables(*each) for each in sorted(facts.kin[name]))
            answers[name] = tuple(each for tables in found for each in tables)
        return answers[name]
