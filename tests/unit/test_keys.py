"""Key texts are exact: equal values meet in one key, different values never do."""

from __future__ import annotations

import enum
import itertools
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.store.protocol.entry import Format
from cachedorm.store.protocol.keys import (
    KEY_BYTES_MAX,
    EntryKey,
    Template,
    escape,
    intents_key,
    membership_tag,
    stamp_key,
    value_tag,
    wildcard_tag,
)

SEOUL = timezone(timedelta(hours=9))
ANY_TEXT = st.text(st.characters(exclude_categories=()))


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Pen(enum.Flag):
    WET = 1


class Word(str):
    """Says something else than it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "lie"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("플라스틱 병", "플라스틱 병"),
        ("a:b", "a%3Ab"),
        ("100%", "100%25"),
        ("a?b=c&d", "a%3Fb%3Dc%26d"),
        ("{user_id}", "%7Buser_id%7D"),
        ("~s:x", "%7Es%3Ax"),
        ("a\r\nb\x00", "a%0D%0Ab%00"),
        ("\x7f\x85\u2028", "%7F%C2%85%E2%80%A8"),
        ("\ud800", "%ED%A0%80"),
        ("", ""),
        (Word("red"), "red"),
        (5, "5"),
        (-7, "-7"),
        (1234567890123456789, "1234567890123456789"),
        (True, "true"),
        (False, "false"),
        (Colour.RED, "RED"),
        (Level.LOW, "LOW"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (b"\x00\xff", "00ff"),
        (memoryview(b"\x01"), "01"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2, 3), "01%3A02%3A03"),
        (timedelta(days=-1), "-86400000000us"),
        (datetime(2026, 1, 2, 3), "2026-01-02T03%3A00%3A00"),  # noqa: DTZ001
        (datetime(2026, 1, 2, 9, tzinfo=SEOUL), "2026-01-02T00%3A00%3A00+00%3A00"),
        (0.1, "0.1"),
        (Decimal("-0.050"), "-0.05"),
        (float("nan"), "nan"),
        (Decimal("sNaN"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_text_of_values(value: object, text: str) -> None:
    """Readable where that is safe, percent-escaped where it is not."""
    assert escape(value) == text


@pytest.mark.parametrize(
    "spellings",
    [
        (5, 5.0, Decimal("5.00"), Decimal("0.5E+1")),
        (0, -0.0, 0.0, Decimal("-0.00"), Decimal("0E+9")),
        (10**300, Decimal("1E+300"), 1e300),
        (10**25, 1e25, Decimal("1E+25"), Decimal("10000000000000000000000000.0")),
        (0.05, Decimal("0.0500")),
        (datetime(2026, 1, 1, 9, tzinfo=SEOUL), datetime(2026, 1, 1, tzinfo=UTC)),
        (float("inf"), Decimal("Infinity")),
    ],
)
def test_one_value_has_one_text(spellings: tuple[object, ...]) -> None:
    """What a database finds equal is one key, however it was spelt."""
    assert len({escape(value) for value in spellings}) == 1


def test_integers_of_any_length_have_a_text() -> None:
    """Python's limit on writing integers does not reach a key."""
    assert escape(10 ** (sys.get_int_max_str_digits() + 1)).startswith("1E")


def test_long_decimals_are_not_rounded() -> None:
    """The decimal context's 28 digits would make two values one."""
    assert escape(Decimal("1." + "0" * 40 + "1")) != escape(Decimal(1))


def test_instants_at_the_ends_of_the_calendar() -> None:
    """Before year 1 in UTC there is no ISO text; there still is one key per instant."""
    first = datetime(1, 1, 1, 0, 30, tzinfo=SEOUL)
    same = datetime(1, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=10)))
    last = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-9)))
    assert escape(first) == escape(same)
    assert len({escape(first), escape(last), escape(first + timedelta(seconds=1))}) == 3


@pytest.mark.parametrize("value", [None, object(), [1], {"a": 1}, 1j, Pen(0)])
def test_no_key_from(value: object) -> None:
    """None and shapeless things are refused with what to do."""
    with pytest.raises(ArgumentError, match="a key cannot be made of"):
        escape(value)


@given(ANY_TEXT, ANY_TEXT)
@example(":", "%3A")
@example("\ud83d\ude00", "\U0001f600")
def test_different_texts_differ(one: str, other: str) -> None:
    """Escaping loses nothing."""
    assert (escape(one) == escape(other)) == (one == other)


@given(ANY_TEXT)
def test_escaped_text_has_no_structure(value: str) -> None:
    """No input can end a field, open a hash tag, or begin a name of the library's own."""
    text = escape(value)
    assert not set(text) & set(":?&={}~")
    assert all(
        character.isprintable() or character.isspace() or ord(character) > 0x9F
        for character in text
    )
    text.encode()


@given(st.integers() | st.floats(allow_nan=False) | st.decimals(allow_nan=False), st.integers())
def test_numbers_meet_exactly_when_equal(one: Any, other: int) -> None:
    """Numbers share a key when Python finds their decimal spellings equal, and only then."""
    spelt = Decimal(repr(one)) if isinstance(one, float) else Decimal(one)
    assert (escape(one) == escape(other)) == (spelt == other)
    assert escape(one) == escape(spelt)


def test_template_renders_by_field_name() -> None:
    """Values come by name; others in the mapping are ignored."""
    template = Template("location:nearby:{geohash}:{radius}")
    assert template.fields == ("geohash", "radius")
    assert template.text == "location:nearby:{geohash}:{radius}"
    row = {"radius": 5, "geohash": "wydm9", "name": "서울"}
    assert template.render(row) == "location:nearby:wydm9:5"


def test_values_in_order_make_the_same_key() -> None:
    """Whoever has the values in the order of the fields need not name them."""
    template = Template("a:{x}:{y}:z")
    for x, y in ((1, "b:c"), ("x" * 300, True)):
        assert template.render_each((x, y)) == template.render({"x": x, "y": y})
    with pytest.raises(ArgumentError, match="needs x, y"):
        template.render_each((1,))
    with pytest.raises(ArgumentError, match="y: a key cannot be made of None"):
        template.render_each((1, None))


def test_template_without_fields_is_its_key() -> None:
    assert Template("info:categories:all").render({}) == "info:categories:all"


def test_template_equality_is_by_text() -> None:
    assert Template("a:{b}") == Template("a:{b}")
    assert len({Template("a:{b}"), Template("a:{b}"), Template("a:{c}")}) == 2
    assert repr(Template("a:{b}")) == "Template('a:{b}')"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "does not begin with literal"),
        ("{user_id}", "does not begin with literal"),
        ("~user:{id}", "the library's own"),
        ("user:~h:{id}", "the library's own"),
        ("user:{id", "a brace stands alone"),
        ("user:id}", "a brace stands alone"),
        ("user:{{id}}", "a brace stands alone"),
        ("user:{}", "is not a column name"),
        ("user:{id!r}", "is not a column name"),
        ("user:{a b}", "is not a column name"),
        ("user:{id}:{id}", "stands in it twice"),
        ("user:{a}{b}", "run together"),
        ("user:{a}-{b}", "run together"),
        ("user:{a}%{b}", "run together"),
        ("user\n:{id}", "control characters"),
        ("user\ud800:{id}", "control characters"),
        ("u" * 151, "longer than 150 bytes"),
    ],
)
def test_template_faults(text: str, fault: str) -> None:
    """A template that cannot tell rows apart is refused when it is declared."""
    with pytest.raises(DeclarationError, match=fault):
        Template(text)


def test_missing_and_null_values_name_the_field() -> None:
    template = Template("a:{x}:{y}")
    with pytest.raises(ArgumentError, match=r'key "a:\{x\}:\{y\}" needs y; given: x'):
        template.render({"x": 1})
    with pytest.raises(ArgumentError, match=r'"a:\{x\}:\{y\}", y: a key cannot be made of None'):
        template.render({"x": 1, "y": None})


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=2, max_size=2, unique=True))
@example([("1:2", "3"), ("1", "2:3")])
@example([("", ":"), (":", "")])
@example([("x" * 300, "y"), ("x" * 299, "xy")])
def test_different_values_have_different_keys(pairs: list[tuple[str, str]]) -> None:
    """No pair of values can forge the key of another."""
    template = Template("a:{x}:{y}")
    one, other = (template.render({"x": x, "y": y}) for x, y in pairs)
    assert one != other


@pytest.mark.parametrize("size", [49, 50, 51, 66, 67, 196, 197, 198, 10_000])
@pytest.mark.parametrize("letter", ["x", "가", "😀", ":"])
def test_keys_stay_short_and_readable_at_the_front(letter: str, size: int) -> None:
    """Beyond 200 bytes a hash stands for the values, behind the template's own words."""
    key = Template("info:search:{keyword}").render({"keyword": letter * size})
    assert len(key.encode()) <= KEY_BYTES_MAX
    assert key.startswith("info:search:")
    plain = "info:search:" + escape(letter * size)
    if len(plain.encode()) <= KEY_BYTES_MAX:
        assert key == plain
    else:
        assert key.startswith("info:search:~h:")
        assert len(key) == len("info:search:~h:") + 32


def test_a_value_cannot_forge_a_hashed_key() -> None:
    template = Template("a:{x}:{y}")
    hashed = template.render({"x": "x" * 300, "y": "y"})
    digest = hashed.removeprefix("a:~h:")
    assert template.render({"x": "~h", "y": digest}) != hashed


def test_names_of_stamps_and_intents() -> None:
    assert wildcard_tag("my_db.users") == "my_db.users"
    assert membership_tag("my_db.users") == "my_db.users.*"
    assert value_tag("my_db.users", "email", "a=b") == "my_db.users.email=a%3Db"
    assert stamp_key("my_db.users") == "~s:my_db.users"
    assert intents_key("~s:my_db.users") == "~i:~s:my_db.users"


def test_long_tags_are_hashed() -> None:
    tags = {value_tag("t", "c", "x" * size) for size in (300, 301)}
    assert len(tags) == 2
    assert all(tag.startswith("t.c=~h:") and len(tag) < KEY_BYTES_MAX for tag in tags)


def test_no_two_kinds_of_names_meet() -> None:
    """An entry, a stamp and their intents never share a name, whatever the values."""
    entries = [Template("a:{x}").render({"x": value}) for value in ("~s:t", "~i:a:1", "t.*")]
    stamps = [stamp_key(tag) for tag in ("t", "t.*", value_tag("t", "c", "~i:x"))]
    names = [*entries, *stamps, *map(intents_key, (*entries, *stamps))]
    assert all(one != other for one, other in itertools.combinations(names, 2))


def test_entry_key_is_a_str_that_carries_more() -> None:
    """dogpile may use it wherever it uses a str."""
    form = Format(b"f" * 8, bytes, bytes)
    key = EntryKey("user:profile:1", ("~s:my_db.users",), form)
    assert key == "user:profile:1"
    assert hash(key) == hash("user:profile:1")
    assert (key.stamps, key.form, key.ttl_ms) == (("~s:my_db.users",), form, None)
    assert EntryKey("k", (), form, ttl_ms=5).ttl_ms == 5
    assert not hasattr(key, "__dict__")
