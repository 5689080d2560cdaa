"""The state of the in-process store besides entries: intents and registered interests."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cachedorm.store.protocol.entry import new_token
from cachedorm.store.protocol.interest_registry import (
    GRACE_MS,
    RIPE_MS,
    Interest,
    Registered,
    Registry,
    RegistryReply,
)

# A key of one Redis database.
SlotKey = tuple[int, str]


class CountedIntents:
    """The intents on each key, counted. The owner holds a lock around every call.

    Writers of one key overlap: the first to settle must not uncover what the second is still about
    to change.
    """

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[SlotKey, dict[bytes, float]] = {}

    def others(self, place: SlotKey) -> int:
        """Drop expired intents: return how many others the key has."""
        intents = self._until.get(place)
        if not intents:
            return 0
        now = self._clock()
        for token in [token for token, until in intents.items() if until <= now]:
            del intents[token]
        if not intents:
            del self._until[place]
        return len(intents)

    def place(self, place: SlotKey, token: bytes, intent_ms: int) -> int:
        """Add this writer's intent: return how many others the key has."""
        others = self.withdraw(place, token)
        self._until.setdefault(place, {})[token] = self._clock() + intent_ms / 1000
        return others

    def withdraw(self, place: SlotKey, token: bytes) -> int:
        """Remove this writer's intent: return how many others the key has."""
        intents = self._until.get(place)
        if intents is not None:
            intents.pop(token, None)
        return self.others(place)

    def clear(self) -> None:
        """Forget all intents."""
        self._until.clear()


class MemoryInterests:
    """The registry of interests in memory, so that late imports are followed as in Redis.

    The owner holds a lock around every call.
    """

    __slots__ = ("_born", "_clock", "_kept", "_version")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._born = clock()
        self._version = new_token()
        # Interest -> since, until (seconds).
        self._kept: dict[str, tuple[float, float]] = {}

    def register(self, registry: Registry) -> None:
        """Register what the registry declares."""
        now, interests = self._clock(), sorted(registry.own)
        if self._add(interests, now, now + registry.keep_ms / 1000):
            self._version = new_token()
        since: dict[str, float] = {}
        for text, (at, _) in self._kept.items():
            table = _written(text)
            since[table] = min(at, since.get(table, at))
        waits = [self._wait_ms(since[_written(text)], now) for text in interests]
        registry.registered(now, interests, Registered(self._version, waits))

    def look(self, known: bytes) -> RegistryReply:
        """Return what is registered now."""
        grown = self._clock() > self._born + GRACE_MS / 1000
        interests = None if known == self._version else frozenset(self._kept)
        return RegistryReply(self._version, grown, interests)

    def _add(self, interests: Iterable[str], now: float, until: float) -> bool:
        """Register: return True if an interest was added or expired."""
        gone = [text for text, (_, end) in self._kept.items() if end < now]
        for text in gone:
            del self._kept[text]
        came = False
        for text in interests:
            since, end = self._kept.get(text, (now, 0.0))
            came = came or text not in self._kept
            self._kept[text] = (since, max(end, until))
        return came or bool(gone)

    def _wait_ms(self, since: float, now: float) -> int:
        if since <= self._born + GRACE_MS / 1000:
            return 0
        return max(0, round((since - now) * 1000) + RIPE_MS)


def _written(text: str) -> str:
    interest = Interest.parse(text)
    return text if interest is None else interest.written
