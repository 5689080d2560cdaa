"""CachePolicy: where the rows of one model are cached, under which key, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from cachedorm.declare.policies.region import Region, milliseconds
from cachedorm.errors import DeclarationError
from cachedorm.store.protocol.keys import Template

OnWrite = Literal["invalidate", "write_through"]


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What a model says about its cache; put it on the class as ``__cache__``.

    ``key`` is a template whose fields are attributes of the model that together are its primary key
    or a unique key; without one the model's rows are not cached one by one, but its writes are
    followed. ``ttl`` is seconds, a timedelta, or the name of a datetime attribute of the row (a
    token's ``expires_at``); by default the region's. ``on_write="write_through"`` puts the new row
    in place of the old one at commit instead of removing it. ``exclude`` keeps attributes out of
    Redis: they load from the database when touched. ``writes`` names further tables that writing
    this one changes unseen (a database trigger).
    Raises DeclarationError; what needs the mapped columns is checked when mappers configure.
    """

    region: Region
    key: str | None = None
    ttl: timedelta | float | str | None = None
    on_write: OnWrite = "invalidate"
    exclude: tuple[str, ...] = ()
    negative_ttl: timedelta | float | None = None
    writes: tuple[str, ...] = ()
    template: Template | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.region, Region):
            raise DeclarationError(f"CachePolicy: region={self.region!r} is no Region")
        if self.on_write not in ("invalidate", "write_through"):
            raise DeclarationError(
                f"CachePolicy: on_write={self.on_write!r};"
                ' give "invalidate" (the default) or "write_through"'
            )
        exclude: object = self.exclude
        if isinstance(exclude, str):
            raise DeclarationError(
                f"CachePolicy: exclude={self.exclude!r} is a string; give a tuple of names"
            )
        if self.ttl is not None and not isinstance(self.ttl, str):
            milliseconds(self.ttl, "CachePolicy: ttl")
        if self.negative_ttl is not None:
            milliseconds(self.negative_ttl, "CachePolicy: negative_ttl")
        template = None if self.key is None else Template(self.key)
        object.__setattr__(self, "template", template)

    @property
    def ttl_ms(self) -> int | None:
        """Fixed time to live in milliseconds; None if it is a column of the row."""
        if isinstance(self.ttl, str):
            return None
        return self.region.ttl_ms if self.ttl is None else milliseconds(self.ttl, "ttl")

    @property
    def negative_ttl_ms(self) -> int:
        """How long a missing row is remembered, in milliseconds."""
        chosen = self.region.negative_ttl if self.negative_ttl is None else self.negative_ttl
        return milliseconds(chosen, "negative_ttl")
