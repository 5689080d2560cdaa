"""What statements are recorded by, made of all that is declared at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from cachedorm.orm.interest.tables import Interests
from cachedorm.orm.tracking.recorder import Recorder
from cachedorm.orm.tracking.text_recorder import TextRecorder


@dataclass(frozen=True, slots=True, eq=False)
class WriteIndex:
    """The interests of one Cache, and the two recorders that look them up.

    It never changes. Models, queries and tables that appear later make a new one.
    """

    interests: Interests
    recorder: Recorder
    texts: TextRecorder
