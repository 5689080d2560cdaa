"""The registry: what one process caches and another, which never heard of it, writes.

The staged interleavings: an interest registered before INTEND, between INTEND and COMMIT, between
COMMIT and SETTLE, by a filler of newer code; the writer reckons with nothing that is cached.
"""

import redis

from cachedorm.store.protocol.changes import Touched, Written
from cachedorm.store.protocol.entry import Format, Miss, judge, new_token, prefix, value_slot
from cachedorm.store.protocol.interest_registry import REGISTRY_KEY, Interest
from cachedorm.store.protocol.keys import EntryKey, stamp_key
from cachedorm.store.protocol.slots import Acquired, Granted, Refused, Wanted
from cachedorm.store.store import Store
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import patient_store

TEXT = Format(b"text\0\0\0\1", str.encode, bytes.decode)
BOOKS, SHELVES = stamp_key("books"), stamp_key("shelves")
BY_SHELF = Interest(2, "books", "books", "=shelf")
LIST = EntryKey("books:of:7", (BOOKS, stamp_key("books.shelf=7")), TEXT)


def acquire(store: Store, token: bytes) -> Acquired:
    server = store.slots.identity_again(2)
    return store.slots.acquire(2, LIST, token, 3000, 60_000, server=server)


def acquire_among_many(store: Store) -> Acquired:
    wanted, server = [Wanted(LIST, new_token())], store.slots.identity_again(2)
    (got,) = store.slots.acquire_many(2, wanted, 3000, 60_000, server=server)
    return got


class Filler:
    """Newer code: registers what it caches, then fills it, step by step."""

    def __init__(self, store: Store) -> None:
        self.store, self.token = store, new_token()
        store.declare([BY_SHELF])

    def begin(self) -> Granted:
        granted = acquire(self.store, self.token)
        assert isinstance(granted, Granted)
        return granted

    def publish(self, lease: Granted, value: str) -> bool:
        slot = value_slot(TEXT, lease.server, lease.stamps, value.encode(), created_ms=1)
        return self.store.slots.publish(2, LIST, self.token, slot, 60_000)

    def fill(self, value: str) -> None:
        assert self.publish(self.begin(), value)


def seen(store: Store) -> object:
    """What a reader would be served: text, or the reason why not."""
    values, server = store.slots.read(2, (LIST, *LIST.stamps))
    verdict = judge(values[0], prefix(TEXT, server), values[1:])
    return verdict.decode() if isinstance(verdict, bytes) else verdict


def books(known: frozenset[str] = frozenset()) -> Written:
    """What an older writer records: the table, and that it reckons with nothing cached over it."""
    written = Written()
    written.add({"books"}, known)
    return written


def test_a_writer_follows_what_it_never_heard_of(store: Store) -> None:
    """Registered before INTEND: hidden from INTEND on, ended by SETTLE."""
    Filler(store).fill("old")
    intent = store.intend(Touched(), (), books())

    assert intent.placed
    assert isinstance(seen(store), Miss)
    assert acquire(store, new_token()) == Refused("intent")
    store.settle(intent)
    assert isinstance(acquire(store, new_token()), Granted)


def test_an_interest_registered_before_commit_is_followed(store: Store) -> None:
    """Registered and filled between INTEND and COMMIT: ended when commit() returns."""
    intent = store.intend(Touched(), (), books())
    Filler(store).fill("old")

    store.settle(intent)

    assert isinstance(seen(store), Miss)


def test_a_fill_begun_before_commit_is_not_servable(store: Store) -> None:
    """The lease was granted between INTEND and COMMIT, and is published after SETTLE."""
    intent = store.intend(Touched(), (), books())
    filler = Filler(store)
    lease = filler.begin()
    store.settle(intent)

    filler.publish(lease, "old")

    assert isinstance(seen(store), Miss)


def test_a_fill_after_commit_may_stand_or_fall(store: Store) -> None:
    """Filled between COMMIT and SETTLE: it is new, and ending it too costs one miss."""
    intent = store.intend(Touched(), (), books())
    filler = Filler(store)
    store.settle(intent)

    filler.fill("new")

    assert seen(store) == "new"


def test_what_the_writer_reckons_with_is_left_to_it(store: Store) -> None:
    """The wildcard is for those who do not know the interest; the others touch what changed."""
    Filler(store).fill("other shelf")
    known = frozenset({str(BY_SHELF)})

    store.settle(store.intend(Touched(), (), books(known)))

    assert seen(store) == "other shelf"


def test_a_module_imported_within_a_transaction_is_followed(store: Store) -> None:
    """What was declared after the statement was recorded is not what it reckoned with."""
    written = books()
    written.add({"shelves"}, frozenset({str(BY_SHELF)}))
    Filler(store).fill("old")

    store.settle(store.intend(Touched(), (), written))

    assert isinstance(seen(store), Miss)


def test_unknown_sql_ends_what_anybody_caches(store: Store) -> None:
    """It is not known which tables were written, so all that others cache goes."""
    Filler(store).fill("old")
    written = Written()
    written.add_everything(frozenset())

    store.settle(store.intend(Touched(), (), written))

    assert isinstance(seen(store), Miss)


def test_a_cascade_is_followed_by_those_who_do_not_know_the_child(store: Store) -> None:
    """An older writer deletes shelves; newer code knows that books go with them."""
    store.declare([Interest(2, "shelves", "books", "=shelf")])
    Filler(store).fill("old")
    written = Written()
    written.add({"shelves"}, frozenset())

    store.settle(store.intend(Touched(), (), written))

    assert isinstance(seen(store), Miss)


def test_a_rollback_uncovers_what_others_cache(store: Store) -> None:
    """After it the entry can be filled again at once."""
    filler = Filler(store)
    filler.fill("old")
    store.settle(store.intend(Touched(), (), books()))

    filler.fill("old again")
    assert seen(store) == "old again"


def test_nothing_is_granted_before_it_is_registered(redis_url: str) -> None:
    """The first ACQUIRE registers; a second process finds the interest in Redis."""
    store = patient_store(redis_url)
    store.declare([BY_SHELF])
    acquire(store, new_token())
    with redis.Redis.from_url(redis_url) as client:
        assert client.hexists(REGISTRY_KEY, str(BY_SHELF))
        assert client.pttl(REGISTRY_KEY) > 29 * 24 * 3600 * 1000
    store.close()


def test_a_flushed_redis_is_told_again(redis_url: str) -> None:
    """The registry is gone with the entries; nothing is filled before it is there again."""
    store = patient_store(redis_url)
    filler = Filler(store)
    filler.fill("old")
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        filler.fill("new")
        assert client.hexists(REGISTRY_KEY, str(BY_SHELF))
    store.settle(store.intend(Touched(), (), books()))
    assert isinstance(seen(store), Miss)
    store.close()


def test_many_are_granted_under_the_registry_alone(redis_url: str) -> None:
    """As for a single one: registered first, not under a registry that was lost, told again."""
    store = patient_store(redis_url)
    store.declare([BY_SHELF])
    assert isinstance(acquire_among_many(store), Granted)
    with redis.Redis.from_url(redis_url) as client:
        assert client.hexists(REGISTRY_KEY, str(BY_SHELF))
        client.flushall()
        assert isinstance(acquire_among_many(store), Granted)
        assert client.hexists(REGISTRY_KEY, str(BY_SHELF))
    store.close()


def test_a_flush_between_lease_and_publish_takes_the_lease(redis_url: str) -> None:
    """What was registered is lost, and so is the right to publish."""
    store = patient_store(redis_url)
    filler = Filler(store)
    lease = filler.begin()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert not filler.publish(lease, "old")
    store.close()


def test_the_look_travels_with_the_commit(redis_url: str, redis_log: RedisLog, colour: str) -> None:
    """A commit that touches cached rows is two scripts, the looks included."""
    store = patient_store(redis_url)
    Filler(store).fill("old")
    known = books(frozenset({str(BY_SHELF)}))
    for _ in range(2):  # at first the scripts and the registry are not known
        redis_log.clear()
        store.settle(store.intend(Touched(stamps={2: {BOOKS}}), (), known))

    names = [c.name for c in redis_log.commands(handshakes=True) if c.client != "lua"]
    assert names == ["intend", "settle"]
    store.close()


def grow(client: "redis.Redis") -> None:
    """Make the registry old, as it is on any Redis that has run for a minute."""
    client.hset(REGISTRY_KEY, "~born", 1)


def looks(redis_log: RedisLog) -> int:
    """How often the registry was looked at by a command of its own; nothing else was done."""
    names = [c.name for c in redis_log.commands(handshakes=True) if c.name != "select"]
    assert set(names) <= {"look"}
    return len(names)


def other(redis_url: str) -> Store:
    """Another process's store."""
    return patient_store(redis_url)


def test_writes_that_nobody_caches_ask_once_a_period(
    redis_url: str, redis_client: "redis.Redis", redis_log: RedisLog, colour: str
) -> None:
    """One look for two seconds of writing; nothing at all in between."""
    store = other(redis_url)
    store.settle(store.intend(Touched(), (), books()))
    grow(redis_client)
    redis_log.clear()
    store.slots.registry.seen = type(store.slots.registry.seen)()

    for _ in range(5):
        store.settle(store.intend(Touched(), (), books()))

    assert looks(redis_log) == 2  # around the first commit; the others pass
    store.close()


def test_while_the_registry_is_young_every_writer_asks(
    redis_url: str, redis_log: RedisLog, colour: str
) -> None:
    """So a Redis that was flushed is filled again at once, by whoever registers."""
    store = other(redis_url)
    for _ in range(2):  # at first the script is not known
        redis_log.clear()
        store.settle(store.intend(Touched(), (), books()))
    assert looks(redis_log) == 2
    store.close()


def test_a_table_nobody_had_named_is_published_a_period_later(
    redis_url: str, redis_client: "redis.Redis"
) -> None:
    """A writer that just saw that nobody caches it need not ask again before that."""
    writer, newer = other(redis_url), other(redis_url)
    writer.settle(writer.intend(Touched(), (), books()))
    grow(redis_client)

    newer.declare([BY_SHELF])

    assert acquire(newer, new_token()) == Refused("interest")
    assert acquire_among_many(newer) == Refused("interest")
    assert not newer.slots.registry.is_ripe(LIST.stamps)
    writer.close()
    newer.close()


def test_a_table_that_is_named_is_published_at_once(
    redis_url: str, redis_client: "redis.Redis"
) -> None:
    """All its writers ask at every commit already."""
    older, newer = other(redis_url), other(redis_url)
    older.declare([Interest(2, "books", "books", "key book:{id}")])
    assert isinstance(acquire(older, new_token()), Granted)
    grow(redis_client)
    redis_client.hset(REGISTRY_KEY, "2|books|books|key book:{id}", f"1 {2**52}")

    newer.declare([BY_SHELF])

    assert not isinstance(acquire(newer, new_token()), Refused)
    older.close()
    newer.close()


def test_an_interest_that_nobody_registers_again_goes(
    redis_url: str, redis_client: "redis.Redis"
) -> None:
    """What the last deploy cached no longer costs writers a wildcard."""
    store = other(redis_url)
    Filler(store).begin()
    redis_client.hset(REGISTRY_KEY, "2|books|books|=colour", "1 2")
    before = redis_client.hget(REGISTRY_KEY, "~version")

    store.declare([Interest(2, "shelves", "shelves", "*")])
    acquire(store, new_token())

    assert not redis_client.hexists(REGISTRY_KEY, "2|books|books|=colour")
    assert redis_client.hget(REGISTRY_KEY, "~version") != before
    store.close()


def test_something_else_at_the_registrys_key_is_replaced(
    redis_url: str, redis_client: "redis.Redis"
) -> None:
    """Nobody of ours put it there."""
    redis_client.set(REGISTRY_KEY, "a string")
    store = other(redis_url)
    writer = other(redis_url)
    Filler(store).fill("old")
    writer.settle(writer.intend(Touched(), (), books()))
    assert isinstance(seen(store), Miss)
    store.close()
    writer.close()
