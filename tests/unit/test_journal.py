"""The journal: commits that Redis was not told of."""

from cachedorm.store.commits.journal import Journal
from cachedorm.store.protocol.changes import Touched

TOKEN = b"t" * 16


def touched(db: int, *keys: str) -> Touched:
    return Touched(entries={db: set(keys)})


def told_all(journal: Journal) -> list[tuple[int, set[str], set[str]]]:
    told = []
    for item in journal.items():
        db = item.db
        told.append((db, item.touched.entries.get(db, set()), item.touched.stamps.get(db, set())))
        journal.delivered(item)
    return told


def test_a_database_is_pending_until_every_item_is_told() -> None:
    """Trust comes back with the last item, not with the first."""
    journal = Journal()
    journal.add(touched(2, "a"), TOKEN)
    journal.add(touched(2, "b"), TOKEN)
    first, second = journal.items()
    journal.delivered(first)
    assert journal.pending(2)
    journal.delivered(second)
    assert not journal.pending(2)


def test_databases_are_pending_one_by_one() -> None:
    """What is untold in one says nothing about another."""
    journal = Journal()
    journal.add(Touched(entries={2: {"a"}}, stamps={3: {"~s:t"}}), TOKEN)
    assert journal.pending(2)
    assert journal.pending(3)
    assert not journal.pending(0)
    journal.delivered(next(item for item in journal.items() if item.db == 2))
    assert not journal.pending(2)
    assert journal.pending(3)


def test_keeps_the_order_and_the_tokens_of_commits() -> None:
    """Telling later withdraws each commit's own intents."""
    journal = Journal()
    for number in range(3):
        journal.add(touched(2, f"k{number}"), bytes([number]) * 16)
    assert [item.token[0] for item in journal.items()] == [0, 1, 2]


def test_does_not_change_with_what_it_was_given() -> None:
    """A ledger that goes on collecting is not written into the past."""
    journal, given = Journal(), touched(2, "a")
    journal.add(given, TOKEN)
    given.add_entries(2, {"later"})
    assert told_all(journal) == [(2, {"a"}, set())]


def test_beyond_its_bound_a_database_is_cleared_instead() -> None:
    """Memory is bounded: the known stamps end everything that so many keys would."""
    journal = Journal(keys_max=3)
    journal.know(2, ["~s:my.users", "~s:~plain"])
    journal.add(touched(2, "a", "b", "c"), TOKEN)
    journal.add(touched(2, "d"), TOKEN)
    assert told_all(journal) == [(2, set(), {"~s:my.users", "~s:~plain"})]
    assert not journal.pending(2)


def test_the_bound_is_each_databases_own() -> None:
    """A storm in one database does not clear another."""
    journal = Journal(keys_max=1)
    journal.know(2, ["~s:users"])
    journal.add(touched(2, "a", "b"), TOKEN)
    journal.add(touched(3, "a"), TOKEN)
    assert told_all(journal) == [(2, set(), {"~s:users"}), (3, {"a"}, set())]


def test_a_commit_during_a_clearing_is_cleared_for_again() -> None:
    """The clearing that is under way may have come before this commit."""
    journal = Journal(keys_max=1)
    journal.know(2, ["~s:users"])
    journal.add(touched(2, "a", "b"), TOKEN)
    (under_way,) = journal.items()
    journal.add(touched(2, "c"), TOKEN)
    journal.delivered(under_way)
    assert journal.pending(2)
    assert told_all(journal) == [(2, set(), {"~s:users"})]


def test_without_known_stamps_every_key_is_kept() -> None:
    """Forgetting an invalidation would be worse than the memory."""
    journal = Journal(keys_max=1)
    journal.add(touched(2, "a", "b"), TOKEN)
    journal.add(touched(2, "c"), TOKEN)
    assert told_all(journal) == [(2, {"a", "b"}, set()), (2, {"c"}, set())]


def test_repr_counts_keys() -> None:
    """What a log line about it needs."""
    journal = Journal()
    assert repr(journal) == "<Journal pending keys per database: none>"
    journal.add(Touched(entries={2: {"a", "b"}}, stamps={2: {"~s:t"}}), TOKEN)
    assert repr(journal) == "<Journal pending keys per database: {2: 3}>"
