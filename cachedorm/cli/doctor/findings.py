"""Findings of the doctor: severity, description, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad a finding is. UNKNOWN: it could not be examined."""

    OK = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``check``: a stable name of what was examined."""

    severity: Severity
    check: str
    found: str
    do: str = ""


def ok(check: str, found: str) -> Finding:
    """A check that passed."""
    return Finding(Severity.OK, check, found)


def info(check: str, found: str, do: str = "") -> Finding:
    """A fact worth knowing."""
    return Finding(Severity.INFO, check, found, do)


def warning(check: str, found: str, do: str) -> Finding:
    """A problem that costs something, now or later."""
    return Finding(Severity.WARNING, check, found, do)


def error(check: str, found: str, do: str) -> Finding:
    """Something declared or required that does not hold."""
    return Finding(Severity.ERROR, check, found, do)


def unknown(check: str, found: str, do: str) -> Finding:
    """Something that could not be examined."""
    return Finding(Severity.UNKNOWN, check, found, do)


def exit_status(findings: Iterable[Finding], *, strict: bool) -> int:
    """0 if all is well, 1 for errors (if strict, warnings too), 2 if something is unknown."""
    worst = max((each.severity for each in findings), default=Severity.OK)
    if worst is Severity.UNKNOWN:
        return 2
    return int(worst >= (Severity.WARNING if strict else Severity.ERROR))
