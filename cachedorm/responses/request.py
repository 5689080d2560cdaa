"""A request as the response cache sees it: what may go into a key, and what rules it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from cachedorm.responses.messages import Directives, Scope, directives_of, fields_of, seconds_in

# The size limit of what goes into a key; longer requests are not cached.
REQUEST_BYTES_MAX: Final = 4096
METHODS: Final = frozenset({"GET", "HEAD"})
# Headers that ask for something else than the whole representation, or announce a body.
_SPECIAL: Final = frozenset(
    {
        b"range",
        b"if-range",
        b"if-match",
        b"if-unmodified-since",
        b"transfer-encoding",
        b"upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request's method, path (within the application), headers and query, as sent."""

    method: str
    path: str
    origin: tuple[str, str, str, bytes]
    headers: Mapping[bytes, tuple[bytes, ...]]
    query: tuple[bytes, ...]
    directives: Directives

    @classmethod
    def of(cls, scope: Scope) -> Request:
        """The request of an ``http`` scope."""
        fields = fields_of(scope.get("headers", ()))
        headers: dict[bytes, tuple[bytes, ...]] = {}
        for name, value in fields:
            headers[name] = (*headers.get(name, ()), value)
        pieces = [piece for piece in scope.get("query_string", b"").split(b"&") if piece]
        # By decoded name alone: the values of a repeated parameter keep their order.
        pieces.sort(key=_name_in)
        scheme, mount = scope.get("scheme", "http"), scope.get("root_path", "")
        origin = (scheme, mount, scope["path"], scope.get("raw_path") or b"")
        return cls(
            method=scope["method"],
            path=path_within(scope),
            origin=origin,
            headers=headers,
            query=tuple(pieces),
            directives=directives_of(fields),
        )

    def values(self, name: str) -> tuple[bytes, ...]:
        """Every value of a header, in order."""
        return self.headers.get(name.encode(), ())

    @property
    def parameters(self) -> list[str]:
        """The names of the query's parameters, decoded."""
        return [_name_in(piece).decode(errors="surrogateescape") for piece in self.query]

    @property
    def why_special(self) -> str | None:
        """Why no stored response can answer this request, whatever the rule, or None."""
        if self.method not in METHODS:
            return "method"
        special = _SPECIAL.intersection(self.headers)
        if special:
            return min(special).decode()
        if any(value.strip() not in (b"", b"0") for value in self.values("content-length")):
            return "body"
        return "no-store" if "no-store" in self.directives else None

    def accepts(self, age_s: float, left_s: float) -> bool:
        """Whether the request accepts a response of this age, fresh for ``left_s`` more seconds."""
        if "no-cache" in self.directives:
            return False
        oldest, shortest = (seconds_in(self.directives, name) for name in ("max-age", "min-fresh"))
        return (oldest is None or age_s <= oldest) and (shortest is None or left_s >= shortest)


def _name_in(piece: bytes) -> bytes:
    return unquote_to_bytes(piece.partition(b"=")[0].replace(b"+", b" "))


def path_within(scope: Scope) -> str:
    """The path that routes match: without the prefix where the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) :].startswith("/"):
        return path[len(root) :]
    return path
