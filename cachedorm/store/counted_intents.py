"""The intents in this process's memory: which writers are about to commit, key by key."""

from __future__ import annotations

from collections.abc import Callable

# A key of one Redis database.
Place = tuple[int, str]


class CountedIntents:
    """Counted, never replaced: writers of one key overlap, and the first to settle must not uncover
    what the second is still about to change. Its owner holds a lock around every call."""

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[Place, dict[bytes, float]] = {}

    def others(self, place: Place) -> int:
        """How many intents live there; the expired ones are dropped."""
        intents = self._until.get(place)
        if not intents:
            return 0
        now = self._clock()
        for token in [token for token, until in intents.items() if until <= now]:
            del intents[token]
        if not intents:
            del self._until[place]
        return len(intents)

    def place(self, place: Place, token: bytes, intent_ms: int) -> int:
        """Adds this writer's; how many others live there."""
        others = self.withdraw(place, token)
        self._until.setdefault(place, {})[token] = self._clock() + intent_ms / 1000
        return others

    def withdraw(self, place: Place, token: bytes) -> int:
        """Takes this writer's away; how many others live there."""
        intents = self._until.get(place)
        if intents is not None:
            intents.pop(token, None)
        return self.others(place)

    def clear(self) -> None:
        """Forgets them all."""
        self._until.clear()
