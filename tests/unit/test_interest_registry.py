"""What a process knows of the registry, and how long it goes by it, told by a clock that is set."""

import pytest

from cachedorm.store.memory.slots import MemorySlots
from cachedorm.store.protocol.changes import Touched, Written
from cachedorm.store.protocol.entry import Format, new_token
from cachedorm.store.protocol.interest_registry import (
    GRACE_MS,
    PERIOD,
    RIPE_MS,
    SLACK_MS,
    Interest,
    Registry,
    RegistryQuery,
    RegistryReply,
)
from cachedorm.store.protocol.keys import EntryKey, stamp_key
from cachedorm.store.protocol.slots import Acquired, Granted, Refused

TEXT = Format(b"text\0\0\0\1", str.encode, bytes.decode)
LIST = EntryKey("books:of:7", (stamp_key("books"),), TEXT)
BY_SHELF = Interest(2, "books", "books", "=shelf")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def books(known: frozenset[str] = frozenset()) -> Written:
    written = Written()
    written.add({"books"}, known)
    return written


def looked(registry: Registry, *interests: Interest, grown: bool = True, at: float) -> None:
    """The process has seen these interests."""
    texts = frozenset(map(str, interests))
    registry.apply_reply(
        RegistryQuery(b"", at, RegistryReply(new_token(), grown, texts)), Touched(), Written()
    )


def acquire(slots: MemorySlots) -> Acquired:
    return slots.acquire(2, LIST, new_token(), 3000, 60_000, server=bytes(8))


@pytest.mark.parametrize("name", ["books", "a|b", "100%", "%7C|", "벽", ""])
def test_an_interest_is_read_as_it_was_written(name: str) -> None:
    """Whatever a table is called."""
    interest = Interest(3, name, name + "s", "=a|b %7C")
    assert Interest.parse(str(interest)) == interest


@pytest.mark.parametrize("text", ["", "books", "x|a|b|c", "-1|a|b|c", "1|a|b"])
def test_what_no_version_wrote_is_no_interest(text: str) -> None:
    """It is passed over, not guessed at."""
    assert Interest.parse(text) is None


def test_a_look_is_good_for_a_period(clock: Clock) -> None:
    """From when it was asked, not from when it was answered."""
    registry = Registry(clock)
    assert not registry.unconcerned(books())
    looked(registry, at=clock.now)
    assert registry.unconcerned(books())
    clock.now += PERIOD
    assert not registry.unconcerned(books())


def test_a_look_at_a_young_registry_is_good_for_nothing(clock: Clock) -> None:
    """Whoever registers there publishes at once."""
    registry = Registry(clock)
    looked(registry, grown=False, at=clock.now)
    assert not registry.unconcerned(books())


def test_a_table_that_is_cached_concerns_its_writers(clock: Clock) -> None:
    """Unless it is what they reckoned with."""
    registry = Registry(clock)
    looked(registry, BY_SHELF, at=clock.now)
    assert not registry.unconcerned(books())
    assert registry.unconcerned(books(frozenset({str(BY_SHELF)})))


def test_an_older_look_does_not_replace_a_newer_one(clock: Clock) -> None:
    """Two threads look; the answers arrive in the other order."""
    registry = Registry(clock)
    looked(registry, BY_SHELF, at=clock.now)
    looked(registry, at=clock.now - 1)
    assert not registry.unconcerned(books())


def test_what_was_seen_once_is_remembered(clock: Clock) -> None:
    """The registry alone was lost: the entries that were filled before are still served."""
    registry, touched = Registry(clock), Touched()
    looked(registry, BY_SHELF, at=clock.now)
    looked(registry, at=clock.now + 1)
    registry.begin_check(touched, books())
    assert touched.stamps == {2: {BY_SHELF.stamp}}


def test_a_young_registry_lets_everybody_publish(clock: Clock) -> None:
    """In its first minute all writers ask at every commit."""
    slots = MemorySlots(clock=clock)
    slots.registry.declare([str(BY_SHELF)])
    clock.now += GRACE_MS / 1000
    assert isinstance(acquire(slots), Granted)


def test_a_new_table_waits_for_the_writers_that_do_not_ask(clock: Clock) -> None:
    """Longer than any look is good for."""
    slots = MemorySlots(clock=clock)
    clock.now += GRACE_MS / 1000 + 1
    slots.registry.declare([str(BY_SHELF)])

    assert acquire(slots) == Refused("interest")
    clock.now += PERIOD
    assert acquire(slots) == Refused("interest")
    clock.now += RIPE_MS / 1000 - PERIOD
    assert isinstance(acquire(slots), Granted)


def test_registering_again_does_not_shorten_the_wait(clock: Clock) -> None:
    """Flushed meanwhile: writers may still go by what they saw in the old registry."""
    slots = MemorySlots(clock=clock)
    clock.now += GRACE_MS / 1000 + 1
    slots.registry.declare([str(BY_SHELF)])
    assert acquire(slots) == Refused("interest")

    emptied = MemorySlots(clock=clock)
    emptied.registry = slots.registry
    slots.registry.lost(slots.registry.version)

    assert acquire(emptied) == Refused("interest")


def test_an_interest_is_kept_longer_than_any_entry(clock: Clock) -> None:
    """An entry that outlives it would be followed by nobody who has to be told."""
    slots = MemorySlots(clock=clock)
    slots.registry.declare([str(BY_SHELF)])
    month = 30 * 24 * 3600 * 1000
    slots.acquire(2, LIST, new_token(), 3000, month, server=bytes(8))
    assert slots.registry.keep_ms == month + SLACK_MS


def test_what_is_declared_later_is_registered_before_the_next_fill(clock: Clock) -> None:
    """A module imported while the application runs."""
    slots = MemorySlots(clock=clock)
    slots.registry.declare([str(BY_SHELF)])
    acquire(slots)
    assert not slots.registry.is_due
    slots.registry.declare(["2|shelves|shelves|*"])
    assert slots.registry.is_due
