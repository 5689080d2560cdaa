"""Who was told an old value: what every process did, compared on one clock."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Event:
    """One read or write of a row: the version seen or written, when it began, when it returned."""

    user_id: str
    version: int
    began_ns: int
    returned_ns: int


@dataclass(frozen=True, slots=True)
class Run:
    """What one process did. hits: its reads that Redis answered."""

    writes: bool
    events: tuple[Event, ...]
    hits: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one side did.

    stale: reads older than a commit that had returned before the read began; oldest_s: the longest
    time such a commit had been there; left_stale: rows answered wrongly after all was quiet.
    """

    side: str
    reads: int
    writes: int
    hits: int
    stale: int
    oldest_s: float
    left_stale: int
    median_read_s: float


class Commits:
    """When each version of each row was there for everybody to see."""

    def __init__(self, writes: Iterable[Event]) -> None:
        versions: dict[str, dict[int, int]] = defaultdict(dict)
        for event in writes:
            versions[event.user_id][event.version] = event.returned_ns
        self._seen_from = {row: _seen_from(returned) for row, returned in versions.items()}

    def stale_for_ns(self, read: Event) -> int:
        """Return for how long a newer version had been there when the read began; 0 if none was.

        A write counts from when the whole call had returned, which is in favour of whoever still
        has to delete something after the COMMIT.
        """
        since = self._seen_from.get(read.user_id, [])
        newer = since[read.version] if read.version < len(since) else read.began_ns
        return max(0, read.began_ns - newer)


def _seen_from(returned: dict[int, int]) -> list[int]:
    """For each version, from 0: the moment from which on a read must show something newer."""
    moments = [returned[version] for version in range(1, max(returned, default=0) + 1)]
    # A later version may return first; a read must show it, whatever the earlier one does.
    for number in range(len(moments) - 1, 0, -1):
        moments[number - 1] = min(moments[number - 1], moments[number])
    return moments


def judge(side: str, runs: Sequence[Run], left_stale: int) -> Verdict:
    """Compare every read with every commit."""
    writes = [event for run in runs if run.writes for event in run.events]
    reads = [event for run in runs if not run.writes for event in run.events]
    commits = Commits(writes)
    behind_ns = [late for late in map(commits.stale_for_ns, reads) if late]
    return Verdict(
        side=side,
        reads=len(reads),
        writes=len(writes),
        hits=sum(run.hits for run in runs if not run.writes),
        stale=len(behind_ns),
        oldest_s=max(behind_ns, default=0) / 1e9,
        left_stale=left_stale,
        median_read_s=median(event.returned_ns - event.began_ns for event in reads) / 1e9,
    )
