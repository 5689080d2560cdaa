"""Readers and writers in threads, as fast as they can: what no reader may ever see.

Each row is two numbers under locks of their own, so two writers of one entry may overlap. Beside
the database stands what every reader is held against: the numbers whose commit has returned
before it began (it must see those), and the largest that any reader before it has seen.
"""

import random
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachedorm.observe import Stats
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.changes import Offer, Touched
from cachedorm.store.protocol.entry import Format
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.store import Store
from tests.support.contract.places import DB

Row = tuple[int, int]
ROWS, WRITERS, READERS = 3, 4, 10
WRITES, READS = 300, 1500
MY = RegionSettings("my", DB, ttl_ms=60_000, wait_ms=50)
PAIR = Format(
    b"pair\0\0\0\1", lambda row: struct.pack(">QQ", *row), lambda b: struct.unpack(">QQ", b)
)


def key_of(row: int) -> EntryKey:
    return EntryKey(f"k:{row}", ("~s:t", f"~s:t.id={row}"), PAIR)


class World:
    """The database, and what its readers are held against."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.row_locks = [(threading.Lock(), threading.Lock()) for _ in range(ROWS)]
        self.rows = [[0, 0] for _ in range(ROWS)]
        self.returned = [[0, 0] for _ in range(ROWS)]
        self.seen = [[0, 0] for _ in range(ROWS)]
        self.faults: list[str] = []

    def select(self, row: int) -> Row:
        with self.lock:
            return self.rows[row][0], self.rows[row][1]

    def commit(self, row: int, half: int) -> Row:
        with self.lock:
            self.rows[row][half] += 1
            return self.rows[row][0], self.rows[row][1]

    def commit_returned(self, row: int, half: int, value: int) -> None:
        with self.lock:
            self.returned[row][half] = max(self.returned[row][half], value)

    def owed(self, row: int) -> tuple[Row, Row]:
        with self.lock:
            returned, seen = self.returned[row], self.seen[row]
            return (returned[0], returned[1]), (seen[0], seen[1])

    def judge(self, row: int, found: Row, owed: tuple[Row, Row], hit: bool) -> None:
        for what, least in zip(
            ("a commit that had returned", "an earlier read"), owed, strict=True
        ):
            if found[0] < least[0] or found[1] < least[1]:
                self.faults.append(f"{found} is older than {least}, {what} (hit: {hit})")
        with self.lock:
            for half in (0, 1):
                self.seen[row][half] = max(self.seen[row][half], found[half])


def write(world: World, store: Store, chance: random.Random) -> None:
    """One transaction on half a row: entry, tag, wildcard or write-through; some roll back."""
    row, half = chance.randrange(ROWS), chance.randrange(2)
    touched, offers = Touched(), []
    match chance.randrange(4):
        case 0:
            touched.add_stamps(DB, [f"~s:t.id={row}"])
        case 1:
            touched.add_stamps(DB, ["~s:t"])
        case 2:
            touched.add_entries(DB, [key_of(row)])
        case _:
            offers = [Offer(DB, key_of(row))]
    with world.row_locks[row][half]:
        intent = store.intend(touched, offers)
        if chance.random() < 0.15:
            store.settle(intent)
            return
        after = world.commit(row, half)
    store.settle(intent, dict.fromkeys(offers, (after, 60_000)))
    world.commit_returned(row, half, after[half])
    # Between two writes there must be time for leases to be granted, or all are refused.
    time.sleep(chance.random() * 0.005)


def load(world: World, row: int, chance: random.Random) -> Loaded:
    """The query, with time on either side of its snapshot for others to do their worst."""
    time.sleep(chance.random() * 0.001)
    answer = world.select(row)
    time.sleep(chance.random() * 0.002)
    return Loaded(answer)


def read(world: World, region: CachedRegion, chance: random.Random) -> None:
    """One read; now and then something is evicted after it."""
    row = chance.randrange(ROWS)
    owed, key = world.owed(row), key_of(row)
    found = region.get(key)
    hit = found is not NO_VALUE
    if not hit:
        found = region.fill(key, lambda: load(world, row, chance))
    world.judge(row, found, owed, hit)
    if chance.random() < 0.05:
        region.entries.slots.delete(DB, (chance.choice((key, *key.stamps)),))


@pytest.fixture(params=["redis", "memory"])
def stores(request: pytest.FixtureRequest) -> Iterator[list[Store]]:
    """One store, or two on one Redis: as two processes would have."""
    url = None if request.param == "memory" else request.getfixturevalue("redis_url")
    made = [
        Store.connect(url, connect_timeout=60, operation_timeout=60, commit_timeout=120)
        for _ in range(1 if url is None else 2)
    ]
    yield made
    for store in made:
        store.close()


def test_no_reader_sees_less_than_it_is_owed(stores: list[Store]) -> None:
    """Neither less than a commit that had returned, nor less than a reader before it; and what is
    left in the end is what the database holds."""
    world = World()
    regions = [CachedRegion(MY, store.slots, Stats(), keeper=store) for store in stores]

    def work(number: int) -> None:
        chance = random.Random(number)
        store, region = stores[number % len(stores)], regions[number % len(stores)]
        for _ in range(WRITES if number < WRITERS else READS):
            write(world, store, chance) if number < WRITERS else read(world, region, chance)

    with ThreadPoolExecutor(WRITERS + READERS) as pool:
        list(pool.map(work, range(WRITERS + READERS)))

    assert world.faults == []
    for row in range(ROWS):
        for region in regions:
            assert region.get(key_of(row)) in (NO_VALUE, world.select(row))
