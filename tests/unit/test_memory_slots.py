"""What only the slots in this process's memory do: a clock to move, and a bound."""

from cachedorm.store.memory.slots import SERVER, MemorySlots
from cachedorm.store.protocol.changes import Touched
from cachedorm.store.protocol.entry import Format, value_slot
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted, Held, Refused

TEXT = Format(b"text\0\0\0\1", str.encode, bytes.decode)
STAMP = "~s:t"


class Clock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fill(slots: MemorySlots, text: str, ttl_ms: int) -> None:
    key, token = EntryKey(text, (STAMP,), TEXT), text.encode().rjust(16, b"-")
    lease = slots.acquire(0, key, token, 3000, ttl_ms, server=SERVER)
    assert isinstance(lease, Granted)
    slot = value_slot(TEXT, SERVER, lease.stamps, b"v", created_ms=1)
    assert slots.publish(0, key, token, slot, ttl_ms)


def present(slots: MemorySlots, *keys: str) -> list[bool]:
    return [value is not None for value in slots.read(0, keys)[0]]


def test_keys_end_with_their_ttl() -> None:
    """To the millisecond, by the clock given."""
    clock = Clock()
    slots = MemorySlots(clock=clock)
    fill(slots, "k", 1000)
    clock.now += 0.999
    assert present(slots, "k", STAMP) == [True, True]
    clock.now += 0.001
    assert present(slots, "k", STAMP) == [False, False]


def test_stamps_live_as_long_as_the_longest_that_carries_them() -> None:
    """A later, shorter entry does not shorten its stamp."""
    clock = Clock()
    slots = MemorySlots(clock=clock)
    fill(slots, "short", 1000)
    fill(slots, "long", 5000)
    fill(slots, "short again", 1000)
    clock.now += 4.9

    assert present(slots, "short", "long", "short again", STAMP) == [False, True, False, True]


def test_leases_and_intents_end() -> None:
    """Holders and writers that died are waited for until their time is over."""
    clock = Clock()
    slots = MemorySlots(clock=clock)
    key = EntryKey("k", (STAMP,), TEXT)

    def acquire() -> object:
        return slots.acquire(0, key, b"a" * 16, 3000, 9000, server=SERVER)

    assert isinstance(acquire(), Granted)
    other = slots.acquire(0, key, b"b" * 16, 3000, 9000, server=SERVER)
    assert other == Held(3000)
    slots.intend(Touched(stamps={0: {STAMP}}), (), b"w" * 16, 30_000)
    assert acquire() == Refused()
    clock.now += 29.999
    assert acquire() == Refused()
    clock.now += 0.001
    assert isinstance(acquire(), Granted)


def test_the_least_recently_used_go_first() -> None:
    """The bound is on all keys; what is read stays."""
    slots = MemorySlots(max_entries=4)
    for name in ("a", "b", "c"):
        fill(slots, name, 60_000)
    assert present(slots, "a", STAMP) == [True, True]
    fill(slots, "d", 60_000)

    assert present(slots, "a", "b", "c", "d", STAMP) == [True, False, True, True, True]
    assert repr(slots) == "MemorySlots(4 of 4 keys)"


def test_intents_are_not_evicted() -> None:
    """However full it gets, a writer stays noticed."""
    slots = MemorySlots(max_entries=2)
    touched = Touched(entries={0: {"k"}}, stamps={0: {STAMP}})
    slots.intend(touched, (), b"w" * 16, 30_000)
    for name in ("a", "b", "c"):
        token = name.encode() * 16
        assert isinstance(
            slots.acquire(0, EntryKey(name, (), TEXT), token, 3000, 3000, server=SERVER), Granted
        )

    key = EntryKey("k", (), TEXT)
    assert slots.acquire(0, key, b"a" * 16, 3000, 3000, server=SERVER) == Refused()
    other = EntryKey("other", (STAMP,), TEXT)
    assert slots.acquire(0, other, b"a" * 16, 3000, 3000, server=SERVER) == Refused()


def test_close_forgets() -> None:
    """Everything, intents too."""
    slots = MemorySlots()
    fill(slots, "k", 60_000)
    slots.close()

    assert present(slots, "k", STAMP) == [False, False]
