"""CacheRule: which paths are cacheable, how long, and what of a request a response depends on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, get_args

from cachedorm.declare.policies.region import milliseconds
from cachedorm.errors import DeclarationError
from cachedorm.responses.request import REQUEST_BYTES_MAX, Request
from cachedorm.store.protocol.keys import escape

Credentials = Literal["pass", "key", "ignore"]

# Characters of the path shown in the key; the digest distinguishes requests.
_SHOWN_MAX: Final = 100
_DIGEST_BYTES: Final = 20
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CREDENTIALS: Final = {"authorization": "authorization", "cookie": "cookies"}


@dataclass(frozen=True, slots=True, eq=False)
class CacheRule:
    """Allow the cache to answer GET and HEAD requests of one path.

    ``path``: as the application routes it; ``{name}`` stands for one segment. ``ttl``: seconds or a
    timedelta, the region's by default; the response's own headers may shorten it. ``query``: the
    parameters that the response may depend on; a request with any other is not cached. ``vary``:
    the request headers that it may depend on; a response whose ``Vary`` names another is not
    stored. ``entries_max``: how many responses of this rule one process stores at a time.

    ``authorization`` and ``cookies`` say how to treat a request with that header: ``"pass"`` it to
    the application, ``"key"`` responses by the header's value, or ``"ignore"`` the header. Ignore
    it only if the response never depends on it and needs no access check.

    Raises DeclarationError for a rule that cannot work.
    """

    path: str
    ttl: timedelta | float | None = None
    query: tuple[str, ...] = ()
    vary: tuple[str, ...] = ()
    authorization: Credentials = "pass"
    cookies: Credentials = "pass"
    entries_max: int = 1000
    ttl_ms: int | None = field(init=False)
    _pattern: re.Pattern[str] = field(init=False, repr=False)
    _headers: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        who = f"CacheRule({self.path!r})"
        set_ = object.__setattr__
        set_(self, "_pattern", _pattern_of(self.path, who))
        set_(self, "ttl_ms", None if self.ttl is None else milliseconds(self.ttl, f"{who}: ttl"))
        set_(self, "query", _names(self.query, f"{who}: query"))
        set_(self, "vary", tuple(name.lower() for name in _names(self.vary, f"{who}: vary")))
        _check_vary(self.vary, who)
        for name in ("authorization", "cookies"):
            if getattr(self, name) not in get_args(Credentials):
                raise DeclarationError(
                    f'{who}: {name}={getattr(self, name)!r}; give "pass", "key" or "ignore"'
                )
        if self.entries_max < 1:
            raise DeclarationError(f"{who}: entries_max={self.entries_max!r}; give 1 or more")
        keyed = {"authorization": self.authorization, "cookie": self.cookies}
        more = tuple(name for name, choice in keyed.items() if choice == "key")
        set_(self, "_headers", (*self.vary, *more))

    def matches(self, path: str) -> bool:
        """Whether this path belongs to the rule."""
        return self._pattern.fullmatch(path) is not None

    def covers(self, header: str) -> bool:
        """Whether this request header is part of the key."""
        return header in self._headers

    def why_pass(self, request: Request) -> str | None:
        """Why the request must be passed to the application, or None."""
        special = request.why_special
        if special is not None:
            return special
        for header, choice in (("authorization", self.authorization), ("cookie", self.cookies)):
            if choice == "pass" and request.values(header):
                return header
        if any(name not in self.query for name in request.parameters):
            return "query"
        parts = (request.origin[3], *request.query, *self._values(request))
        if len(request.path) + sum(map(len, parts)) > REQUEST_BYTES_MAX:
            return "length"
        return None

    def _values(self, request: Request) -> Iterable[bytes]:
        return (value for name in self._headers for value in request.values(name))

    def key(self, request: Request) -> str:
        """The key of the response to this request.

        The digest covers everything the response may depend on, each part in its own place, so
        different requests cannot be written to collide. It also hides credentials.
        """
        # HEAD too uses the key of GET: it is answered from what GET stored.
        headers = [(name, request.values(name)) for name in self._headers]
        host = request.values("host")
        identity = repr(("GET", self.path, host, request.origin, request.query, headers))
        digest = hashlib.blake2b(
            identity.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES
        )
        return f"response:{escape(request.path[:_SHOWN_MAX])}:{digest.hexdigest()}"


def _pattern_of(path: object, who: str) -> re.Pattern[str]:
    if not isinstance(path, str) or not path.startswith("/"):
        raise DeclarationError(f'{who}: a path begins with "/"')
    pieces = re.split(r"\{([^{}]*)\}", path)
    for name in pieces[1::2]:
        if not name.isidentifier():
            raise DeclarationError(f"{who}: {{{name}}} is not a name; write {{user_id}}")
    if any("{" in literal or "}" in literal for literal in pieces[0::2]):
        raise DeclarationError(f"{who}: a single brace; braces must enclose a name")
    return re.compile("[^/]+".join(map(re.escape, pieces[0::2])))


def _names(given: object, who: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise DeclarationError(f"{who}={given!r}; give a tuple of names")
    names = tuple(given)
    if any(not isinstance(name, str) or not name for name in names):
        raise DeclarationError(f"{who}={given!r}; every name must be a non-empty string")
    return names


def _check_vary(names: tuple[str, ...], who: str) -> None:
    for name in names:
        if name in _CREDENTIALS:
            raise DeclarationError(f'{who}: vary names {name}; write {_CREDENTIALS[name]}="key"')
        if not _TOKEN.fullmatch(name):
            raise DeclarationError(f"{who}: vary={name!r} is not a header name")
