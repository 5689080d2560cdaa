"""What an examination finds: how bad it is, what it is, what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad a finding is. UNKNOWN: what it is about could not be examined."""

    OK = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: ``check`` names what was looked at, in a word that stays the same."""

    severity: Severity
    check: str
    found: str
    do: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well there."""
    return Finding(Severity.OK, check, found)


def info(check: str, found: str, do: str = "") -> Finding:
    """Worth knowing."""
    return Finding(Severity.INFO, check, found, do)


def warning(check: str, found: str, do: str) -> Finding:
    """It costs something, or may do so one day."""
    return Finding(Severity.WARNING, check, found, do)


def error(check: str, found: str, do: str) -> Finding:
    """Something that was declared or relied on does not hold."""
    return Finding(Severity.ERROR, check, found, do)


def unknown(check: str, found: str, do: str) -> Finding:
    """It could not be examined."""
    return Finding(Severity.UNKNOWN, check, found, do)


def exit_status(findings: Iterable[Finding], *, strict: bool) -> int:
    """0: fine; 1: errors (or, if strict, warnings); 2: something could not be examined."""
    worst = max((each.severity for each in findings), default=Severity.OK)
    if worst is Severity.UNKNOWN:
        return 2
    return int(worst >= (Severity.WARNING if strict else Severity.ERROR))
