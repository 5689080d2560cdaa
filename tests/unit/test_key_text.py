"""From key text back to values, and which templates run into each other."""

from __future__ import annotations

import enum
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachedorm.inspection.key_text import UNREADABLE, overlap, parsed, texts_of, unescaped
from cachedorm.store.codec.kinds import Kind, enum_kind
from cachedorm.store.protocol.keys import Template, escape


class Colour(enum.Enum):
    RED = "r"


@given(st.text(), st.text())
def test_texts_are_read_back(one: str, other: str) -> None:
    """Whatever the values, their texts are found in the key, and give the values."""
    template = Template("a:{x}:b:{y}")
    texts = texts_of(template, template.render({"x": one, "y": other}))

    assert texts is not None
    if texts:  # else it was too long and is hashed
        assert [unescaped((texts[name] or ("",))[0]) for name in "xy"] == [one, other]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.INT, -7),
        (Kind.STR, "a:b%? 종이"),
        (Kind.BOOL, True),
        (Kind.UUID, UUID(int=5)),
        (Kind.DECIMAL, Decimal("5.25")),
        (Kind.FLOAT, 0.5),
        (Kind.DATETIME, datetime(2026, 1, 2, 3, tzinfo=UTC)),
        (Kind.DATE, date(2026, 1, 2)),
        (Kind.TIMEDELTA, timedelta(seconds=3)),
        (Kind.BYTES, b"\0\xff"),
        (enum_kind(Colour), Colour.RED),
    ],
    ids=str,
)
def test_values_are_read_back(kind: Kind, value: Any) -> None:
    """What ``escape`` writes of a value is read as that value."""
    assert parsed(unescaped(escape(value)), kind) == value


@pytest.mark.parametrize("text", ["", "x", "1" * 5000, "1e9999999", "\0"])
@pytest.mark.parametrize("kind", [Kind.INT, Kind.BOOL, Kind.UUID, Kind.TIMEDELTA, Kind.JSON])
def test_what_is_no_value_is_refused(kind: Kind, text: str) -> None:
    """Nothing else is raised, and nothing takes long."""
    with pytest.raises(UNREADABLE):
        parsed(text, kind)


def test_appended_parameters() -> None:
    """Exactly the parameters of the query, with null, none and several values told apart."""
    template = Template("scan:{user}")
    key = template.render({"user": "u", "a": None, "b": (), "c": (1, 2)}, ("a", "b", "c"))

    assert texts_of(template, key, ("a", "b", "c")) == {
        "user": ("u",),
        "a": None,
        "b": (),
        "c": ("1", "2"),
    }
    assert texts_of(template, key) is None
    assert texts_of(template, key, ("a", "b")) is None
    assert texts_of(template, "scan:u", ("a",)) is None


def test_hashed_values_are_recognised() -> None:
    """A key that is too long to read still tells its template."""
    template = Template("a:{x}")
    assert texts_of(template, template.render({"x": "x" * 500})) == {}
    assert texts_of(template, "b:1") is None


PARTS = ("a", "b", ":", "{x}", "{y}")


@given(st.lists(st.sampled_from(PARTS), max_size=5), st.lists(st.sampled_from(PARTS), max_size=5))
def test_overlap_is_what_trying_shows(one: list[str], other: list[str]) -> None:
    """Two templates overlap iff some short values give them one key."""
    made = []
    for parts in (one, other):
        text = "k:" + "".join(parts)
        fields = re.findall(r"\{.\}", text)
        if len(fields) != len(set(fields)) or re.search(r"\}[ab]*\{", text):
            return  # no template
        made.append(Template(text))
    first, second = (_keys_of(template) for template in made)
    assert overlap(*made) == bool(first & second)


def _keys_of(template: Template) -> set[str]:
    values = ["".join(each) for size in range(6) for each in product("ab", repeat=size)]
    fields = template.fields
    chosen = values if len(fields) < 2 else values[:15]
    return {
        template.render(dict(zip(fields, each, strict=True)))
        for each in product(chosen, repeat=len(fields))
    }
