"""Who plays in the demo: the rows, words and places of a rehearsal and of the show."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cast:
    """The rows that play; those of one cast are in no other. cell: the geohash of the point."""

    users: tuple[str, str, str]
    center: str
    category: str
    task: int
    jti: str
    point: tuple[float, float]
    cell: str
    comer: str
    words: tuple[str, str]


REHEARSAL = Cast(
    users=("u0011", "u0012", "u0013"),
    center="c00011",
    category="glass",
    task=1,
    jti="demo-rehearsal",
    point=(37.5172, 127.0473),
    cell="wydm7",
    comer="c00012",
    words=("유리", "Vinyl"),
)
SHOW = Cast(
    users=("u0001", "u0002", "u0003"),
    center="c00001",
    category="plastic",
    task=0,
    jti="demo-token",
    point=(37.5665, 126.9780),
    cell="wydm9",
    comer="c00002",
    words=("플라스틱", "Plastic"),
)
