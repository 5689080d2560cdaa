"""``cached``: ask for a statement that is built on the spot to be answered from the cache."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy.orm.interfaces import UserDefinedOption

from cachedorm.declare.policies.region import Region, milliseconds
from cachedorm.errors import DeclarationError


class SpotOption(UserDefinedOption):
    """What ``cached`` puts on a statement."""

    __slots__ = ("region", "ttl_ms")

    def __init__(self, region: Region, ttl_ms: int) -> None:
        super().__init__(payload=None)
        self.region = region
        self.ttl_ms = ttl_ms


def cached(region: Region, *, ttl: timedelta | float | None = None) -> Any:
    """An option for ``select(...).options(cached(REGION))``: the answer is kept in this region.

    The entry is keyed by the compiled statement and its parameters. Every table that the statement
    reads must be followed in the region: by a model's policy that caches no rows
    (``follow_only=True``), or by a declared ``CachedQuery``; DeclarationError says what is missing
    when the statement is executed.
    """
    if not isinstance(region, Region):
        raise DeclarationError(
            f"cached: region must be a Region, got {region!r};"
            " write select(...).options(cached(REGION))"
        )
    return SpotOption(region, region.ttl_ms if ttl is None else milliseconds(ttl, "cached: ttl"))
