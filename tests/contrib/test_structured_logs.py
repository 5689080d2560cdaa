"""Structured logs: records whose facts any JSON formatter writes out, and not too many of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachedorm.contrib.logs import StructuredLogs
from tests.support.contrib.observed import app

DEAD = "redis://127.0.0.1:1"
OWN = set(logging.makeLogRecord({}).__dict__)


class JsonLines(logging.Handler):
    """As JSON formatters do: everything that is no attribute of every record."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = {name: of for name, of in record.__dict__.items() if name not in OWN}
        facts |= {"level": record.levelname, "message": record.getMessage()}
        self.lines.append(json.loads(json.dumps(facts)))

    def of(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.lines if line["cachedorm_event"] == event]


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("tests.structured")
    made.setLevel(logging.DEBUG)
    yield made
    made.setLevel(logging.NOTSET)


@pytest.fixture
def written(logger: logging.Logger) -> Iterator[JsonLines]:
    handler = JsonLines()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_redis_away(
    tmp_path: Path, logger: logging.Logger, written: JsonLines, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for many failures, one for the breaker, and none of the library's own."""
    with app(DEAD, tmp_path, StructuredLogs(logger, every=60)) as observed:
        for _ in range(20):
            observed.read(1)
    (failed,) = [line for line in written.of("error") if line["cachedorm_operation"] == "read"]
    assert failed["level"] == "WARNING"
    assert failed["cachedorm_error"] == "CacheUnavailable"
    assert failed["cachedorm_suppressed"] == 0
    opened, closed = written.of("breaker")
    assert (opened["cachedorm_open"], opened["level"]) == (True, "WARNING")
    assert (closed["cachedorm_open"], closed["level"]) == (False, "INFO")  # with its Cache
    (bypass,) = written.of("bypass")
    assert (bypass["cachedorm_region"], bypass["cachedorm_reason"]) == ("notes", "unavailable")
    assert "cachedorm" not in {record.name for record in caplog.records}


def test_what_was_left_out_is_counted(
    clock: Clock, logger: logging.Logger, written: JsonLines
) -> None:
    """The next line of the kind says how many."""
    logs = StructuredLogs(logger, every=1.0, clock=clock)
    for _ in range(5):
        logs.bypass("my", "disabled")
    logs.bypass("my", "replica")
    clock.now += 1.0
    logs.bypass("my", "disabled")
    said = [(line["cachedorm_reason"], line["cachedorm_suppressed"]) for line in written.lines]
    assert said == [("disabled", 0), ("replica", 0), ("disabled", 4)]


def test_quick_fills_and_waits_are_not_logged(logger: logging.Logger, written: JsonLines) -> None:
    """Slow ones are, and those that were not stored."""
    logs = StructuredLogs(logger, slow=0.5)
    logs.fill("my", "k", 0.4, 10, True)
    logs.wait("my", "k", 0.4)
    logs.tell("settle", [2], 0.4, True)
    assert written.lines == []
    logs.fill("my", "k", 0.6, 10, True)
    logs.fill("my", "k", 0.1, 0, False)
    logs.wait("my", "k", 0.6)
    logs.tell("settle", [2, 3], 0.6, True)
    said = [(line["cachedorm_event"], line["message"]) for line in written.lines]
    assert said == [
        ("fill", "my: filled in 0.600 s"),
        ("fill", "my: filled in 0.100 s, not stored"),
        ("wait", "my: waited 0.600 s for another fill"),
        ("tell", "the Redis commands of a commit took 0.600 s (settle)"),
    ]


def test_keys_are_logged_only_if_asked_for(logger: logging.Logger, written: JsonLines) -> None:
    """They may hold what identifies people."""
    StructuredLogs(logger).fill("my", "user:profile:kim", 9.0, 10, True)
    assert "kim" not in json.dumps(written.lines)
    StructuredLogs(logger, keys=True).fill("my", "user:profile:kim", 9.0, 10, True)
    assert written.lines[-1]["cachedorm_key"] == "user:profile:kim"


def test_hits_are_not_logged(
    redis_url: str, tmp_path: Path, logger: logging.Logger, written: JsonLines
) -> None:
    """Whatever the level."""
    with app(redis_url, tmp_path, StructuredLogs(logger)) as observed:
        observed.read(1)
        observed.read(1)
        observed.write(1, "new")
    assert {line["cachedorm_event"] for line in written.lines} <= {"invalidate", "bypass"}
    (ended,) = written.of("invalidate")
    assert (ended["cachedorm_db"], ended["cachedorm_stamps"]) == (3, 1)


def test_what_the_level_hides_is_not_counted(
    clock: Clock, logger: logging.Logger, written: JsonLines
) -> None:
    """Lines that nobody wants are not lines that were left out."""
    logger.setLevel(logging.INFO)
    logs = StructuredLogs(logger, clock=clock)
    for _ in range(5):
        logs.bypass("my", "disabled")
    logger.setLevel(logging.DEBUG)
    logs.bypass("my", "disabled")
    assert [line["cachedorm_suppressed"] for line in written.lines] == [0]


def test_a_fault_of_another_observer_is_not_said_twice(
    logger: logging.Logger, written: JsonLines
) -> None:
    """It is logged with its traceback where it was caught."""
    StructuredLogs(logger).error("observer", ZeroDivisionError())
    assert written.lines == []
