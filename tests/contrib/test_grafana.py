"""The dashboard and the alert rules use what the library really exports, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cachedorm.contrib.prometheus import PrometheusObserver
from tests.support.contrib.observed import app
from tests.support.contrib.promql import used_in

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((GRAFANA / "alerts.yaml").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]

# Prometheus puts these on whatever it scrapes.
TARGET = {"job", "instance"}
FUNCTIONS = {"sum", "rate", "increase", "histogram_quantile"}


def expressions() -> list[tuple[str, str]]:
    """Every expression, with where it stands."""
    panels = [(each["title"], target["expr"]) for each in PANELS for target in each["targets"]]
    return panels + [(rule["alert"], rule["expr"]) for rule in RULES]


@pytest.fixture
def exported(redis_url: str, tmp_path: Path) -> dict[str, set[str]]:
    """The labels of every sample that an application under all kinds of trouble exports."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for url in (redis_url, "redis://127.0.0.1:1"):
        with app(url, tmp_path, observer) as observed:
            for _ in range(4):
                observed.read(1)
                observed.read_many(1, 2)
            observed.write(1, "new")
            observed.cache._observers.wait("notes", "note:1", 0.1)
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def faults(expression: str, exported: dict[str, set[str]]) -> Iterator[str]:
    """What the expression uses that is not exported."""
    used = used_in(expression)
    yield from used.functions - FUNCTIONS
    for metric, matched in used.matched:
        if metric not in exported:
            yield metric
        else:
            labels = set(matched) | used.grouped
            yield from (f"{metric}.{label}" for label in labels - exported[metric] - TARGET)


def test_every_metric_and_label_is_exported(exported: dict[str, set[str]]) -> None:
    """In every expression of both files."""
    for where, expression in expressions():
        assert used_in(expression).metrics, where
        assert list(faults(expression, exported)) == [], where


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(cachedorm_hits[5m])", "cachedorm_hits"),
        ('cachedorm_hits_total{key="x"} > 0', "cachedorm_hits_total.key"),
        ("sum by (db) (cachedorm_hits_total)", "cachedorm_hits_total.db"),
        ("median(cachedorm_breaker_open)", "median"),
    ],
)
def test_a_wrong_name_is_seen(exported: dict[str, set[str]], expression: str, fault: str) -> None:
    """Of a metric, a label, a grouping, a function."""
    assert list(faults(expression, exported)) == [fault]


def test_everything_exported_is_shown(exported: dict[str, set[str]]) -> None:
    """A metric that nobody looks at is not worth its series."""

    def family(name: str) -> str:
        return re.sub(r"_(bucket|count|sum|created)$", "", name)

    shown = {family(metric) for _, each in expressions() for metric in used_in(each).metrics}
    ours = {family(name) for name in exported if not name.endswith("_created")}
    assert ours == shown


def test_values_that_are_matched_exist() -> None:
    """Reasons and operations in the rules are words that the library uses."""
    words = set(_literals())
    for where, expression in expressions():
        for _, matched in used_in(expression).matched:
            for label, value in matched.items():
                if not value.startswith("$"):
                    assert label in ("operation", "reason"), where
                    assert set(value.split("|")) <= words, where


def _literals() -> Iterator[str]:
    for path in (ROOT / "cachedorm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_what_an_alert_counts_begins_at_0() -> None:
    """Else the first increase, which may be the only one, is none to Prometheus."""
    registry = CollectorRegistry()
    PrometheusObserver(registry).region("notes", 3, "")
    samples = [sample for family in registry.collect() for sample in family.samples]
    for rule in RULES:
        used = used_in(rule["expr"])
        if used.functions & {"rate", "increase"} and "histogram_quantile" not in used.functions:
            for metric, matched in used.matched:
                begun = [
                    sample.value
                    for sample in samples
                    if sample.name == metric and matched.items() <= sample.labels.items()
                ]
                assert begun == [0], (rule["alert"], metric)


def test_the_variables_of_the_dashboard(exported: dict[str, set[str]]) -> None:
    """Each is asked of a metric that has the label, and every variable in use is there."""
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    for name, variable in variables.items():
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert found is not None
            assert found[2] == name
            assert name in exported[found[1]]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used == set(variables)


def test_the_dashboard_is_whole() -> None:
    """Panels have numbers of their own, a text that says what they show, and do not overlap."""
    numbers = [each["id"] for each in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for each in DASHBOARD["panels"]:
        place = each["gridPos"]
        cells = {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, each["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(each["description"] for each in PANELS)


def test_every_rule_can_be_acted_on() -> None:
    """It says how bad it is, what happened and what to do; the page on it has its name."""
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert f"`{rule['alert']}`" in page
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("expression", "metrics", "labels"),
    [
        ("a > 0", {"a"}, set()),
        ('sum by (x, y) (rate(a_b{c="d", e=~"f|g"}[5m])) / b', {"a_b", "b"}, {"c", "e", "x", "y"}),
        (
            "histogram_quantile(0.9, sum by (le) (rate(a_bucket[1h]))) and a > 1",
            {"a", "a_bucket"},
            {"le"},
        ),
    ],
)
def test_the_reader_of_expressions(expression: str, metrics: set[str], labels: set[str]) -> None:
    """Functions and words are no metrics, and groupings are labels."""
    used = used_in(expression)
    seen = used.grouped.union(*(set(matched) for _, matched in used.matched))
    assert used.metrics == metrics
    assert seen == labels
