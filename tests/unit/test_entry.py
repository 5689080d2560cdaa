"""Slots: what is written is found again, and whatever else stands there is a miss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachedorm.store.protocol import entry
from cachedorm.store.protocol.entry import (
    ABSENT,
    HEADER_BYTES,
    PREFIX_BYTES,
    Absent,
    Described,
    Format,
    Miss,
    created_ms_of,
    describe,
    intent_slot,
    judge,
    lease_slot,
    new_token,
    prefix,
    value_slot,
)

FORM = Format(b"fingerpr", bytes, bytes)
SERVER = b"server-1"
PREFIX = prefix(FORM, SERVER)
STAMPS = [b"a" * 16, b"b" * 16]
VALUE = value_slot(FORM, SERVER, STAMPS, b"payload", created_ms=1_700_000_000_000, soft_ms=9)


def test_a_valid_value_gives_its_payload() -> None:
    assert judge(VALUE, PREFIX, STAMPS) == b"payload"


def test_a_value_without_stamps_needs_none() -> None:
    slot = value_slot(FORM, SERVER, [], b"x", created_ms=0)
    assert judge(slot, PREFIX, []) == b"x"


def test_absence_is_told_from_a_miss() -> None:
    slot = value_slot(FORM, SERVER, STAMPS, b"", absent=True, created_ms=1)
    assert judge(slot, PREFIX, STAMPS) is ABSENT
    assert not ABSENT
    assert repr(ABSENT) == "ABSENT"
    assert describe(slot).holds == "absent"


@pytest.mark.parametrize(
    ("slot", "reason"),
    [
        (None, Miss.EMPTY),
        (b"", Miss.GARBAGE),
        (b"hello", Miss.GARBAGE),
        (b"V", Miss.GARBAGE),
        (lease_slot(b"t" * 16), Miss.LEASE),
        (intent_slot(b"t" * 16), Miss.INTENT),
        (b"L", Miss.GARBAGE),
        (b"I" + b"t" * 17, Miss.GARBAGE),
        (b"V\x02" + VALUE[2:], Miss.FORMAT),
        (b"V\x02", Miss.FORMAT),
        (value_slot(b"otherfin", SERVER, STAMPS, b"x", created_ms=1), Miss.SCHEMA),
        (value_slot(FORM, b"server-2", STAMPS, b"x", created_ms=1), Miss.FOREIGN),
        (value_slot(FORM, SERVER, STAMPS[:1], b"x" * 16, created_ms=1), Miss.STAMP),
        (value_slot(FORM, SERVER, [*STAMPS, b"c" * 16], b"x", created_ms=1), Miss.STAMP),
        (value_slot(FORM, SERVER, STAMPS[::-1], b"x", created_ms=1), Miss.STAMP),
        (VALUE[:18] + b"\x08" + VALUE[19:], Miss.GARBAGE),
    ],
)
def test_reasons_for_a_miss(slot: bytes | None, reason: Miss) -> None:
    assert judge(slot, PREFIX, STAMPS) is reason


@pytest.mark.parametrize(
    "stamps",
    [
        [None, None],
        [STAMPS[0], None],
        [None, STAMPS[1]],
        [STAMPS[0], b""],
        [STAMPS[0], b"b" * 15],
        [STAMPS[0], b"b" * 17],
        [b"a" * 15, b"a" + b"b" * 16],
        [b"a" * 16 + b"b" * 16, b""],
        [STAMPS[0], b"c" * 16],
    ],
)
def test_a_stamp_that_is_gone_changed_or_malformed(stamps: list[bytes | None]) -> None:
    """Malformed stamps never make up for each other, even where their bytes join to the same."""
    assert judge(VALUE, PREFIX, stamps) is Miss.STAMP


def test_wrong_number_of_stamps_read() -> None:
    assert judge(VALUE, PREFIX, STAMPS[:1]) is Miss.STAMP
    assert isinstance(judge(VALUE, PREFIX, [*STAMPS, b"c" * 16]), Miss)


def test_truncated_anywhere_in_the_header() -> None:
    """A slot shorter than its header says is a miss at every length."""
    end = HEADER_BYTES + 32
    for length in range(end):
        assert judge(VALUE[:length], PREFIX, STAMPS) is Miss.GARBAGE
        assert describe(VALUE[:length]).holds == "garbage"
    assert judge(VALUE[:end], PREFIX, STAMPS) == b""


def test_every_header_byte_counts() -> None:
    """Only the two times may differ between two slots that serve the same reader."""
    times = range(PREFIX_BYTES + 1, HEADER_BYTES - 1)
    for at in range(HEADER_BYTES + 32):
        changed = VALUE[:at] + bytes([VALUE[at] ^ 0x80]) + VALUE[at + 1 :]
        assert (judge(changed, PREFIX, STAMPS) == b"payload") == (at in times)


@given(st.binary(max_size=120), st.lists(st.none() | st.binary(max_size=20), max_size=3))
def test_hostile_bytes_are_a_miss(slot: bytes, stamps: list[bytes | None]) -> None:
    """Bytes of any kind neither raise nor serve."""
    assert isinstance(judge(slot, PREFIX, stamps), Miss)
    describe(slot)
    created_ms_of(slot)


@given(st.binary(max_size=120), st.lists(st.none() | st.binary(max_size=20), max_size=3))
def test_hostile_bytes_behind_a_true_prefix(rest: bytes, stamps: list[bytes | None]) -> None:
    assert isinstance(judge(PREFIX + rest, PREFIX, stamps), bytes | Absent | Miss)
    describe(PREFIX + rest)


@given(
    st.lists(st.binary(min_size=16, max_size=16), max_size=5),
    st.binary(max_size=50),
    st.booleans(),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)
def test_round_trip(
    stamps: list[bytes], payload: bytes, absent: bool, created_ms: int, soft_ms: int
) -> None:
    """What is written is read, described and dated as it was."""
    slot = value_slot(
        FORM, SERVER, stamps, payload, absent=absent, created_ms=created_ms, soft_ms=soft_ms
    )
    assert slot.startswith(PREFIX)
    assert judge(slot, PREFIX, stamps) == (ABSENT if absent else payload)
    assert created_ms_of(slot) == created_ms
    assert describe(slot) == Described(
        "absent" if absent else "value",
        version=1,
        fingerprint=FORM.fingerprint,
        server=SERVER,
        created_ms=created_ms,
        soft_ms=soft_ms,
        stamps=tuple(stamps),
        payload=payload,
    )


def test_up_to_255_stamps() -> None:
    stamps = [new_token() for _ in range(255)]
    assert judge(value_slot(FORM, SERVER, stamps, b"x", created_ms=1), PREFIX, stamps) == b"x"
    with pytest.raises(ValueError, match="at most 255 stamps, not 256"):
        value_slot(FORM, SERVER, [*stamps, new_token()], b"x", created_ms=1)


def test_wrong_lengths_are_refused_when_written() -> None:
    with pytest.raises(ValueError, match="a stamp has 16 bytes, not 3"):
        value_slot(FORM, SERVER, [b"abc"], b"", created_ms=1)
    with pytest.raises(ValueError, match="a server identity has 8 bytes, not 1"):
        prefix(FORM, b"x")
    with pytest.raises(ValueError, match="a fingerprint has 8 bytes, not 0"):
        Format(b"", bytes, bytes)


def test_descriptions_of_what_is_no_value() -> None:
    assert describe(None) == Described("nothing")
    assert describe(lease_slot(b"t" * 16)) == Described("lease", token=b"t" * 16)
    assert describe(intent_slot(b"t" * 16)) == Described("intent", token=b"t" * 16)
    assert describe(b"V\x09rest") == Described("other format", version=9)
    assert describe(VALUE[:18] + b"\x08" + VALUE[19:]) == Described("garbage")


def test_only_values_have_a_date() -> None:
    assert created_ms_of(VALUE) == 1_700_000_000_000
    assert created_ms_of(lease_slot(b"t" * 16)) is None
    assert created_ms_of(b"") is None


def test_tokens_are_random_and_whole() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {entry.TOKEN_BYTES}
