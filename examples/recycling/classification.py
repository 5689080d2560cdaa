"""Which guide a photograph's file name points to. There is no model here and no picture is opened.

A scan of the real application would look at the picture. This stand-in looks for words in the
file's name, so that the same name always gives the same answer: what is shown is the task around
it, not the recognition.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from unicodedata import normalize

from examples.recycling.korea import FORMS, MATERIALS

PHOTOGRAPHS = frozenset({".heic", ".jpeg", ".jpg", ".png", ".webp"})
NAME_MAX = 255
# What people call things, beside the names of materials and forms themselves.
SYNONYMS = {"pet": "plastic", "페트": "plastic", "can": "aluminum", "캔": "aluminum"}
_LATIN = re.compile(r"[a-z]+")


class NotAPhotograph(ValueError):
    """The file cannot be scanned, whatever is tried again."""


def candidates(file_name: str) -> tuple[str, ...]:
    """Categories that the name speaks of, the likeliest first; none if it speaks of none.

    ``plastic_bottle_01.jpg`` gives ``plastic-bottle``, then ``plastic``. Korean and English words
    count. Raises NotAPhotograph for a name that is no photograph's.
    """
    words = normalize("NFC", photograph(file_name).stem).lower()
    materials = [category for category, name in MATERIALS.items() if says(words, category, name)]
    materials += [category for word, category in SYNONYMS.items() if says(words, word)]
    forms = [form for form, name in FORMS.items() if form and says(words, form.strip("-"), name)]
    narrow = [material + form for material in materials for form in forms]
    return tuple(dict.fromkeys(narrow + materials))


def photograph(file_name: str) -> PurePosixPath:
    """The name, if it is one of a photograph."""
    path = PurePosixPath(file_name)
    if path.suffix.lower() not in PHOTOGRAPHS or len(file_name) > NAME_MAX:
        raise NotAPhotograph(
            f"file name {file_name[:80]!r}: a scan takes {', '.join(sorted(PHOTOGRAPHS))},"
            f" with a name of at most {NAME_MAX} characters"
        )
    return path


def says(text: str, *words: str) -> bool:
    """Whether one of the words is in the text: a whole Latin word, or Korean anywhere."""
    latin = set(_LATIN.findall(text))
    return any(word in latin if word.isascii() else word in text for word in words)
