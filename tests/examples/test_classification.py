"""What a file's name says to the stand-in for a model."""

import pytest

from examples.recycling.classification import NotAPhotograph, candidates


@pytest.mark.parametrize(
    ("file_name", "found"),
    [
        ("plastic.jpg", ("plastic",)),
        ("Plastic_Bottle-01.JPEG", ("plastic-bottle", "plastic")),
        ("IMG_2041.heic", ()),
        ("plasticity.png", ()),
        ("플라스틱병.webp", ("plastic-bottle", "plastic")),
        ("pet bottle.png", ("plastic-bottle", "plastic")),
        ("my-can.jpg", ("aluminum",)),
        ("photos/2026/glass cup.jpg", ("glass-cup", "glass")),
        ("\u110c\u1169\u11bc\u110b\u1175.jpg", ("paper",)),  # 종이, letter by letter
    ],
)
def test_candidates(file_name: str, found: tuple[str, ...]) -> None:
    """Whole Latin words and Korean anywhere; the narrower category first."""
    assert candidates(file_name) == found


@pytest.mark.parametrize("file_name", ["", "plastic", ".jpg", "plastic.exe", "a" * 252 + ".jpg"])
def test_no_photograph(file_name: str) -> None:
    """What cannot be scanned says what can."""
    with pytest.raises(NotAPhotograph, match=r"a scan takes \.heic, \.jpeg, \.jpg"):
        candidates(file_name)
