"""``cachedorm doctor``: examine servers and declarations, and say what to do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cachedorm.cache import Cache
from cachedorm.cli.application import AppOption, AsJson, with_cache
from cachedorm.cli.doctor.database import examine_databases
from cachedorm.cli.doctor.findings import Finding, Severity, exit_status
from cachedorm.cli.doctor.keys import examine_declared
from cachedorm.cli.doctor.redis import examine_redis
from cachedorm.cli.errors import command_errors
from cachedorm.cli.terminal import print_json, put, row, say, table

_STYLES = {Severity.ERROR: "red", Severity.UNKNOWN: "red", Severity.WARNING: "yellow"}


def doctor(
    app: AppOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Examine Redis, the database and the declarations; say what to do about each finding.

    Exits with 0 if all is well, 1 for errors (with --strict for warnings too), 2 if something
    could not be examined.
    """
    with command_errors():
        findings = with_cache(app, _examined)
    status = exit_status(findings, strict=strict)
    _print_json(findings, status) if as_json else _print(findings, status)
    raise typer.Exit(status)


def _examined(cache: Cache) -> list[Finding]:
    insight = cache.insight
    return [
        *examine_declared(insight),
        *examine_redis(insight),
        *examine_databases(insight),
    ]


def _print_json(findings: Sequence[Finding], status: int) -> None:
    report = [
        {
            "severity": each.severity.name.lower(),
            "check": each.check,
            "found": each.found,
            "do": each.do,
        }
        for each in findings
    ]
    print_json({"findings": report, "status": status})


def _print(findings: Sequence[Finding], status: int) -> None:
    ordered = sorted(findings, key=lambda each: -each.severity)
    _print_table(ordered) if sys.stdout.isatty() else _print_lines(ordered)
    counts = {
        severity.name.lower(): sum(each.severity is severity for each in findings)
        for severity in reversed(Severity)
    }
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    say(f"{summary}; exit status {status}")


def _print_table(findings: Sequence[Finding]) -> None:
    listed = table("", "check", "found", "what to do")
    for each in findings:
        style = _STYLES.get(each.severity, "")
        row(listed, each.severity.name.lower(), each.check, each.found, each.do, style=style)
    put(listed)


def _print_lines(findings: Sequence[Finding]) -> None:
    for each in findings:
        say(f"{each.severity.name.lower():8} {each.check}: {each.found}")
        if each.do:
            say(f"{'':8} -> {each.do}")
