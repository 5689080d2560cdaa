"""Regions: which Redis database holds what, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from cachedorm.errors import ArgumentError, DeclarationError

_HINT = "a number of seconds or a timedelta"


@dataclass(frozen=True, slots=True)
class Region:
    """Settings of one cache region: entries that share a Redis database and a time to live.

    Durations are seconds or timedeltas. ``negative_ttl`` bounds how long a row that does not exist
    is remembered, ``jitter`` is the share by which a time to live may be shortened, ``lease`` how
    long one reader may take to fill an entry, ``wait`` how long the others wait for it, ``intent``
    how long a writer that died between COMMIT and clean-up keeps its keys out of the cache.
    ``intents=False`` leaves intents out: cheaper commits, and a crash costs one time to live.

    ``refresh_ahead``: so long before an entry's end, one reader reads the database again while the
    others are served what is cached, so that no hot entry ever ends. That reader waits for its own
    query; nothing runs in the background. ``stale_if_error``: so long after an entry's end it
    still answers reads whose own query failed because the database is down. Either way no commit
    is missed: what a commit has changed is never served again, whatever its age.

    ``evictable=False`` says that Redis must not drop the region's entries for want of memory.
    Nothing here can keep it from doing so: ``cachedorm doctor`` compares it with the server's
    ``maxmemory-policy``. Entries that follow the database may always be dropped, at the price of
    a query; what a plain dogpile user keeps in a region may be all there is of it.
    Raises DeclarationError for a setting that cannot work.
    """

    name: str
    db: int
    ttl: timedelta | float
    negative_ttl: timedelta | float = 60
    jitter: float = 0.05
    lease: timedelta | float = 3
    wait: timedelta | float = 0.2
    intent: timedelta | float = 30
    intents: bool = True
    refresh_ahead: timedelta | float = 0
    stale_if_error: timedelta | float = 0
    evictable: bool = True

    def __post_init__(self) -> None:
        who = f"Region({self.name!r})"
        name: object = self.name
        if not isinstance(name, str) or not name:
            raise DeclarationError(f"{who}: the name must be a non-empty string")
        db: object = self.db
        if not isinstance(db, int) or isinstance(db, bool) or db < 0:
            raise DeclarationError(
                f"{who}: db={self.db!r} is not a Redis database; give its number, 0 or more"
            )
        for setting in ("ttl", "negative_ttl", "lease", "intent"):
            milliseconds(getattr(self, setting), f"{who}: {setting}")
        if as_seconds(self.wait, f"{who}: wait") < 0:
            raise DeclarationError(f"{who}: wait={self.wait!r} is negative; give 0 or more")
        if as_seconds(self.stale_if_error, f"{who}: stale_if_error") < 0:
            raise DeclarationError(
                f"{who}: stale_if_error={self.stale_if_error!r} is negative; give 0 or more"
            )
        ahead = as_seconds(self.refresh_ahead, f"{who}: refresh_ahead")
        if not 0 <= ahead < as_seconds(self.ttl, f"{who}: ttl"):
            raise DeclarationError(
                f"{who}: refresh_ahead={self.refresh_ahead!r} is not between 0 and its"
                f" ttl={self.ttl!r}; an entry is refreshed in the last part of its time"
            )
        evictable: object = self.evictable
        if not isinstance(evictable, bool):
            raise DeclarationError(f"{who}: evictable={self.evictable!r}; give True or False")
        if not 0 <= self.jitter <= 0.05:
            raise DeclarationError(
                f"{who}: jitter={self.jitter!r} is not between 0 and 0.05;"
                " it only ever shortens a time to live, by at most 5 %"
            )

    @property
    def ttl_ms(self) -> int:
        """The time to live in milliseconds."""
        return milliseconds(self.ttl, f"Region({self.name!r}): ttl")


class Regions:
    """The regions of one application, checked against each other.

    ``taken`` names database numbers that other libraries use, ``reserved`` those kept for later: a
    region declared with one of them is refused. Put it on the declarative base as
    ``__cache_regions__`` and every model's policy is checked against it when mappers configure.
    """

    __slots__ = ("_by_name", "reserved", "taken")

    def __init__(
        self,
        *regions: Region,
        taken: Mapping[int, str] | None = None,
        reserved: Iterable[int] = (),
    ) -> None:
        self.taken = dict(taken or {})
        self.reserved = frozenset(reserved)
        self._by_name: dict[str, Region] = {}
        for region in regions:
            self.add(region)

    def add(self, region: Region) -> None:
        """Take one more region in; DeclarationError if its name or database is not free."""
        known = self._by_name.get(region.name)
        if known is not None and known != region:
            raise DeclarationError(
                f"region {region.name!r} is declared twice with different settings:"
                f" {known} and {region}; keep one"
            )
        if region.db in self.reserved:
            raise DeclarationError(
                f"region {region.name!r}: database {region.db} is reserved"
                f" ({_ranges(self.reserved)}); take another or lift the reservation"
            )
        if region.db in self.taken:
            raise DeclarationError(
                f"region {region.name!r}: database {region.db} is taken by"
                f" {self.taken[region.db]}; take another"
            )
        self._by_name[region.name] = region

    def require(self, region: Region, who: str) -> None:
        """Raise DeclarationError, in the name of who asks, unless the region is one of these."""
        known = self._by_name.get(region.name)
        if known == region:
            return
        if known is not None:
            raise DeclarationError(
                f"{who}: region {region.name!r} is declared twice with different settings:"
                f" {known} and {region}; keep one"
            )
        if region.db in self.reserved or region.db in self.taken:
            self.add(region)
        raise DeclarationError(
            f"{who}: region {region.name!r} is unknown; known are {', '.join(self._by_name)};"
            " add it to Regions(...) or use one of those"
        )

    def __getitem__(self, name: str) -> Region:
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name) or "none"
            raise ArgumentError(f"no region is named {name!r}; known are: {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Region]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        inside = ", ".join(f"{region.name}={region.db}" for region in self)
        return f"<Regions {inside}; reserved {_ranges(self.reserved) or 'none'}>"


def as_seconds(duration: timedelta | float, who: str) -> float:
    """The duration in seconds; DeclarationError, in the name of who asks, if it is none."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise DeclarationError(f"{who}={duration!r} is not a duration; give {_HINT}")
    return float(duration)


def milliseconds(duration: timedelta | float, who: str) -> int:
    """The duration in whole milliseconds, at least one; DeclarationError if it is not positive."""
    number = round(as_seconds(duration, who) * 1000)
    if number <= 0:
        raise DeclarationError(f"{who}={duration!r} is not positive; give {_HINT} above zero")
    return number


def _ranges(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))
