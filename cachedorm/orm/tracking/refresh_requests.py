"""The answers to fill again after a commit (``on_write="refresh"``), noted while writing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from cachedorm.declare.queries.query import CachedQuery
from cachedorm.orm.interest.tables import Refreshed

# A commit that affects more answers than this refreshes none: the next readers fill them.
REFRESHES_MAX = 10


class Refreshes:
    """The answers that the open transaction of one connection affects, to fill again."""

    __slots__ = ("_answers", "_too_many")

    def __init__(self) -> None:
        self._answers: dict[tuple[CachedQuery[Any], str | None, Any], None] = {}
        self._too_many = False

    def note_row(self, refreshed: Iterable[Refreshed], row: Mapping[str, Any]) -> None:
        """Note a written row: the parameters are read from its values.

        Values that are unknown or not hashable (a decorated list) are not refreshed.
        """
        for each in refreshed:
            if each.column is None:
                self._note(each.query, None, None)
            elif isinstance(value := row.get(each.column), Hashable) and value is not None:
                self._note(each.query, each.parameter, value)

    def note_table(self, refreshed: Iterable[Refreshed]) -> None:
        """Note that unknown rows were written: only queries without parameters refresh."""
        for each in refreshed:
            if each.column is None:
                self._note(each.query, None, None)

    def __iter__(self) -> Iterator[tuple[CachedQuery[Any], dict[str, Any]]]:
        for query, parameter, value in self._answers:
            yield query, {} if parameter is None else {parameter: value}

    def __len__(self) -> int:
        return len(self._answers)

    def _note(self, query: CachedQuery[Any], parameter: str | None, value: Any) -> None:
        if self._too_many:
            return
        self._answers[query, parameter, value] = None
        if len(self._answers) > REFRESHES_MAX:
            self._too_many = True
            self._answers.clear()
