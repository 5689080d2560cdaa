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
    or a unique key. By default it is the table and its primary key, as in ``users:{id}``, or
    ``crm.users:{id}`` for a table in a schema. ``follow_only=True`` caches no rows: queries that
    read the table still follow its writes. ``ttl`` is seconds or a timedelta, by default the
    region's; ``expires_at`` names a datetime attribute of the row that states its end of life.
    ``on_write="write_through"`` puts the new row in place of the old one at commit instead of
    removing it. ``exclude`` keeps attributes out of Redis: they load from the database when
    touched. ``writes`` names further tables that a write to this one changes unseen (a database
    trigger).
    Raises DeclarationError; what needs the mapped columns is checked when mappers configure.
    """

    region: Region
    key: str | None = None
    ttl: timedelta | float | None = None
    on_write: OnWrite = "invalidate"
    exclude: tuple[str, ...] = ()
    negative_ttl: timedelta | float | None = None
    writes: tuple[str, ...] = ()
    expires_at: str | None = None
    follow_only: bool = False
    template: Template | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.region, Region):
            raise DeclarationError(f"CachePolicy: region must be a Region, got {self.region!r}")
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
        if isinstance(self.ttl, str):
            raise DeclarationError(
                f"CachePolicy: ttl={self.ttl!r} is a string; for a column that states the end of"
                f" life write expires_at={self.ttl!r}"
            )
        if self.ttl is not None:
            milliseconds(self.ttl, "CachePolicy: ttl")
        self._check_expires_at()
        if self.follow_only and self.key is not None:
            raise DeclarationError(
                f"CachePolicy: follow_only=True caches no rows, so key={self.key!r} has no use;"
                " give one of them"
            )
        if self.negative_ttl is not None:
            milliseconds(self.negative_ttl, "CachePolicy: negative_ttl")
        template = None if self.key is None else Template(self.key)
        object.__setattr__(self, "template", template)

    def _check_expires_at(self) -> None:
        name: object = self.expires_at
        if name is None:
            return
        if not isinstance(name, str):
            raise DeclarationError(
                f"CachePolicy: expires_at={name!r}; give the name of a datetime attribute"
            )
        if self.ttl is not None:
            raise DeclarationError(
                f"CachePolicy: ttl={self.ttl!r} and expires_at={name!r} exclude each other;"
                " give one of them"
            )

    @property
    def ttl_ms(self) -> int | None:
        """Fixed time to live in milliseconds; None if a column of the row states the end."""
        if self.expires_at is not None:
            return None
        return self.region.ttl_ms if self.ttl is None else milliseconds(self.ttl, "ttl")

    @property
    def negative_ttl_ms(self) -> int:
        """How long a missing row is remembered, in milliseconds."""
        chosen = self.region.negative_ttl if self.negative_ttl is None else self.negative_ttl
        return milliseconds(chosen, "negative_ttl")
