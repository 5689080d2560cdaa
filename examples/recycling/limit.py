"""One rate limit: how many requests in which time, and what holds while nobody can count."""

from __future__ import annotations

from dataclasses import dataclass

from limits import RateLimitItem, parse


@dataclass(frozen=True, slots=True)
class Limit:
    """A moving window, as ``rate`` says it: ``30/minute``, ``5 per second``, ``1000/2 hours``.

    closed: refuse what cannot be counted; otherwise it is let in.
    """

    rate: str
    closed: bool = False

    @property
    def item(self) -> RateLimitItem:
        """The rate as the library has it."""
        return parse(self.rate)

    @classmethod
    def of(cls, given: object) -> object:
        """The limit of a text such as ``30/minute closed``; ``open`` is what holds unsaid."""
        if not isinstance(given, str):
            return given
        rate, _, policy = given.strip().rpartition(" ")
        if policy not in {"open", "closed"}:
            rate, policy = given.strip(), "open"
        limit = cls(rate, closed=policy == "closed")
        try:
            amount = limit.item.amount
        except ValueError:
            amount = 0
        if amount < 1:
            raise ValueError(f"{given!r} is no limit; write one as in '30/minute closed'")
        return limit
