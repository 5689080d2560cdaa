"""The rule of the registry, model-checked: every order of the steps of one writer and one filler.

The writer's code has never heard of what the filler caches. A state is bad if ``commit()`` has
returned and a row of before is still servable. The mutants leave out one step each, and fall.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest

PERIOD = 2  # ticks for which a writer goes by its last look


@dataclass(frozen=True)
class Rules:
    """What is modelled: the rules as they are, but for what a mutant changes."""

    ripe: int = PERIOD + 1  # ticks from registering until publishing
    grace: bool = True  # a young registry is no reason to pass Redis by
    look_after: bool = True  # SETTLE looks too
    look_late: bool = True  # a commit that passed Redis by, and took long, looks after all
    checked: bool = True  # ACQUIRE compares the registry's version
    flushes: int = 0
    ripened: bool = False  # the filler is registered, and has waited its time out


class State(NamedTuple):
    """Redis, the database, the writer, the filler."""

    named: bool = False  # the registry names the table
    young: bool = False
    stamp: int = 1
    intent: bool = False
    lease: int = 0  # the stamp that it was granted with
    value: tuple[int, int] | None = None  # row, stamp
    row: int = 0
    writer: str = "idle"
    seen: tuple[bool, bool] | None = None  # named, young, at the last look
    age: int = 0
    filler: str = "idle"
    registered: bool = False
    wait: int = 0
    held: int = 0
    read: int = 0
    flushes: int = 0


def steps(rules: Rules, s: State) -> Iterator[State]:
    """Every state that one step leads to."""
    if s.age or s.wait:
        yield s._replace(age=max(0, s.age - 1), wait=max(0, s.wait - 1))
    if s.young:
        yield s._replace(young=False)
    if s.flushes:
        # A new registry is young for longer than a look is good for, so the time is not modelled.
        yield State(
            row=s.row, writer=s.writer, seen=s.seen, age=s.age, filler=s.filler, wait=s.wait,
            registered=s.registered, held=s.held, read=s.read, young=True, stamp=s.stamp + 1,
        )  # fmt: skip
    yield from _writer(rules, s)
    yield from _filler(rules, s)


def _passes(rules: Rules, s: State) -> bool:
    if s.seen is None or not s.age:
        return False
    named, young = s.seen
    return not named and not (young and rules.grace)


def _writer(rules: Rules, s: State) -> Iterator[State]:
    looked = s._replace(seen=(s.named, s.young), age=PERIOD)
    killed = looked._replace(stamp=s.stamp + 1) if s.named else looked
    match s.writer:
        case "idle":
            yield looked
            if _passes(rules, s):
                yield s._replace(writer="passing")
            else:
                # INTEND and its look, in one send.
                yield killed._replace(intent=s.named, writer="intended")
        case "passing":
            yield s._replace(row=1, writer="passed")
        case "intended":
            yield s._replace(row=1, writer="committed")
        case "passed":
            late = rules.look_late and not _passes(rules, s)
            yield s._replace(writer="committed" if late else "done")
        case "committed":
            # SETTLE: what was hidden, and what the look after it finds.
            found = killed if rules.look_after else looked._replace(stamp=s.stamp + s.intent)
            yield found._replace(intent=False, writer="done")


def _filler(rules: Rules, s: State) -> Iterator[State]:
    unregistered = not s.registered or (rules.checked and not s.named)
    match s.filler:
        case "idle" if unregistered:
            now = s.named or s.young
            wait = max(s.wait, 0 if now else rules.ripe)
            yield s._replace(named=True, registered=True, wait=wait)
        case "idle" if not s.wait and not s.intent:
            yield s._replace(lease=s.stamp, held=s.stamp, filler="leased")
        case "leased":
            yield s._replace(read=s.row, filler="read")
        case "read":
            if s.lease == s.held:
                yield s._replace(value=(s.read, s.held), lease=0, held=0, filler="idle")
            yield s._replace(held=0, filler="idle")


def is_bad(s: State) -> bool:
    """The commit has returned, and the row of before is servable."""
    return s.writer == "done" and s.value is not None and s.value == (0, s.stamp)


def holds(rules: Rules) -> bool:
    """Whether no order of steps leads to a bad state."""
    first = State(flushes=rules.flushes, registered=rules.ripened, named=rules.ripened)
    known, waiting = {first}, deque([first])
    while waiting:
        state = waiting.popleft()
        if is_bad(state):
            return False
        for following in steps(rules, state):
            if following not in known and following.stamp < 6:
                known.add(following)
                waiting.append(following)
    assert len(known) > 100
    return True


def test_no_order_of_steps_leaves_an_old_row() -> None:
    """The table is named for the first time, on a registry of any age."""
    assert holds(Rules())


def test_nor_does_a_flush() -> None:
    """The filler had registered before it, and registers again before it fills."""
    assert holds(Rules(flushes=1, ripened=True))


@pytest.mark.parametrize(
    "mutant",
    [
        {"ripe": 0},
        {"ripe": PERIOD - 1},
        {"look_after": False},
        {"look_late": False},
        {"checked": False, "flushes": 1, "ripened": True},
        {"grace": False, "flushes": 1, "ripened": True},
    ],
    ids=repr,
)
def test_each_rule_is_needed(mutant: dict[str, Any]) -> None:
    """Without it there is an order of steps that leaves an old row servable."""
    assert not holds(replace(Rules(), **mutant))


def test_what_two_faults_at_once_can_do() -> None:
    """A flush within a period of a table's very first registration (docs/guarantees.md)."""
    assert not holds(Rules(flushes=1))
