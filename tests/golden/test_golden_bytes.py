"""Stored bytes never change under one format version: caches outlive deployments."""

from __future__ import annotations

from pathlib import Path

import pytest

from cachedorm.store.codec import decode_plain, row_codec
from cachedorm.store.protocol.entry import FORMAT_VERSION, describe, judge, prefix
from tests.golden.samples import CELLS, PLAIN, SLOTS, STAMPS, stored_now
from tests.support.exactness import exact

PLACE = Path(__file__).parent


def _golden(version: int) -> dict[str, bytes]:
    lines = (PLACE / f"v{version}.txt").read_text("utf-8").splitlines()
    pairs = (line.split(" = ") for line in lines if line and not line.startswith("#"))
    return {name: bytes.fromhex(stored) for name, stored in pairs}


GOLDEN = _golden(FORMAT_VERSION)


def test_every_sample_is_stored_as_it_was() -> None:
    """Other bytes need a new FORMAT_VERSION and a new golden file; the old file stays."""
    assert stored_now() == GOLDEN


@pytest.mark.parametrize("name", CELLS)
def test_old_cells_are_still_read(name: str) -> None:
    kind, value = CELLS[name]
    assert exact(row_codec([kind])[1](GOLDEN[name])) == exact((value,))


@pytest.mark.parametrize("name", PLAIN)
def test_old_plain_values_are_still_read(name: str) -> None:
    assert exact(decode_plain(GOLDEN[name])) == exact(PLAIN[name])


@pytest.mark.parametrize("name", SLOTS)
def test_old_slots_are_still_told_apart(name: str) -> None:
    assert describe(GOLDEN[name]).holds == name.removeprefix("slot ")


def test_old_values_are_still_served() -> None:
    assert judge(GOLDEN["slot value"], prefix(b"fingerpr", b"serverid"), STAMPS) == b"payload"
