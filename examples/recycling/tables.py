"""Says in tables what the demo saw."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from examples.recycling.race import BY_HAND
from examples.recycling.stage import Answer, Shown, Standing
from examples.recycling.verdict import Verdict

COLOURS = {"Redis": "green", "database": "yellow"}


def domain_table(shown: Sequence[Shown]) -> Table:
    """One row for each domain: where its answers came from, before and after a write."""
    table = Table(
        title="Where each answer came from",
        caption="Lists and counts (histories, missions, nearby, search) are plain SQL so far.",
        show_lines=True,
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("domain", "key in Redis", "first read", "second read", "a write", "next read"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "key in Redis")
    for each in shown:
        table.add_row(
            f"[bold]{each.scene.domain}[/]\n{escape(each.scene.asks)}",
            f"{each.scene.region.name}, database {each.scene.region.db}\n"
            f"[bold]{escape(each.scene.key)}[/]\n{standing(each.kept)}",
            answer(each.first),
            answer(each.second),
            write(each),
            answer(each.after),
        )
    return table


def answer(given: Answer) -> str:
    """How long it took, where it came from, what it said."""
    place = given.seen.source
    colour = COLOURS.get(place.split(",")[0], "red")
    return f"{milliseconds(given.seen.seconds)}\n[{colour}]{escape(place)}[/]\n{escape(given.text)}"


def write(shown: Shown) -> str:
    """What was written, how long the commit took, and what it left at the key."""
    took = milliseconds(shown.commit.seconds)
    return f"{escape(shown.scene.writes)}\ncommit {took}\nkey: {standing(shown.left)}"


def standing(found: Standing) -> str:
    """What Redis has: its size, and how long it stays."""
    if not found.size_bytes:
        return "gone"
    if not found.stamped:
        return "stamp gone"
    return f"{found.size_bytes} bytes for {lifetime(found.left_s)}"


def lifetime(seconds: float) -> str:
    """A duration in its largest unit that has at least two of it."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def milliseconds(seconds: float) -> str:
    """A short time, to be compared with others in its column."""
    return f"{seconds * 1000:.2f} ms"


def race_table(verdicts: Sequence[Verdict]) -> Table:
    """How each side of the race did."""
    table = Table(title="The race: same load, same seed", title_justify="left")
    for heading in ("", "writes", "reads", "answered by Redis", "median read", "stale reads"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_column("furthest behind", justify="right")
    table.add_column("wrong when all was quiet", justify="right")
    for each in verdicts:
        colour = "red" if each.stale or each.left_stale else "green"
        table.add_row(
            each.side,
            f"{each.writes:,}",
            f"{each.reads:,}",
            f"{each.hits / each.reads:.0%}",
            milliseconds(each.median_read_s),
            f"[{colour}]{each.stale:,}[/]",
            milliseconds(each.oldest_s) if each.stale else "-",
            f"[{colour}]{each.left_stale}[/]",
        )
    return table


def conclusion(verdicts: Sequence[Verdict]) -> str:
    """What the race showed, and whether it showed anything."""
    by_hand = sum(each.stale for each in verdicts if each.side == BY_HAND)
    ours = sum(each.stale + each.left_stale for each in verdicts if each.side != BY_HAND)
    if ours:
        return f"[red]cachedorm gave {ours} stale answers: that is a bug, please report it.[/]"
    if not by_hand:
        return (
            "The race proved nothing: the side written by hand was never stale either."
            " Run it again, or on a busier machine."
        )
    return (
        f"Under the same load cache-aside by hand gave {by_hand:,} stale answers, cachedorm none."
    )
