"""Says in tables what the demo saw."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.recycling.race import BY_HAND
from examples.recycling.stage import Answer, Shown, Standing
from examples.recycling.verdict import Verdict

COLOURS = {"Redis": "green", "database": "yellow"}


def show(shown: Sequence[Shown], console: Console) -> None:
    """For each domain, where its answers came from, before and after a write."""
    console.print("[bold]Where each answer came from[/]")
    domain = ""
    for each in shown:
        scene = each.scene
        if scene.domain != domain:
            domain = scene.domain
            console.print(f"\n[bold]{domain}[/]", highlight=False)
        place = f"{scene.region.name}, database {scene.region.db}: {standing(each.kept)}"
        console.print(f"  {escape(scene.asks)}", highlight=False)
        console.print(f"  [bold]{escape(scene.key)}[/]  {escape(place)}", highlight=False)
        console.print(steps(each))


def steps(shown: Shown) -> Table:
    """What was done in a scene, one thing after the other."""
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(min_width=24, max_width=24, no_wrap=True)
    table.add_column(min_width=9, max_width=9, no_wrap=True, justify="right")
    table.add_column(min_width=19, max_width=19, no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_row("    read", *answer(shown.first))
    table.add_row("    read again", *answer(shown.second))
    write = escape(f"    {shown.scene.writes}")
    table.add_row(write, milliseconds(shown.commit.seconds), "commit", "")
    table.add_row("    read", *answer(shown.after))
    return table


def answer(given: Answer) -> tuple[str, str, str]:
    """How long it took, where it came from, what it said."""
    place = given.seen.source
    colour = COLOURS.get(place.split(",")[0], "red")
    return milliseconds(given.seen.seconds), f"[{colour}]{escape(place)}[/]", escape(given.text)


def standing(found: Standing) -> str:
    """What Redis has: its size, and how long it stays."""
    if not found.size_bytes:
        return "nothing kept"
    return f"{found.size_bytes:,} bytes for {lifetime(found.left_s)}"


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
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=not heading)
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
