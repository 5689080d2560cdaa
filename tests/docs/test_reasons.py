"""The words that misses and bypasses are counted by are on the page for those who run it."""

from __future__ import annotations

import re

from cachedorm.store.entries.entries import UNDECODABLE_REASON
from cachedorm.store.entries.fill import Unleased
from cachedorm.store.protocol.entry import Miss
from tests.support.docs.pages import ROOT


def test_every_reason_of_the_store_is_explained() -> None:
    """Under "What the counters say"."""
    page = (ROOT / "docs" / "operations.md").read_text()
    counters = page.partition("## What the counters say")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`([a-z ]+)`", counters))
    reasons = {each.value for each in (*Miss, *Unleased)} | {UNDECODABLE_REASON}
    assert reasons - explained == set()
