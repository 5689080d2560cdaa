"""What one piece names is there in another: variables, secrets, ports, labels."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from examples.recycling.celery_settings import configuration
from examples.recycling.settings import Settings, WorkerSettings
from tests.support.manifests import (
    COMPONENT,
    Document,
    Pod,
    compose,
    document,
    documents,
    environment,
    pod,
    pods,
    selects,
)

OURS = [each for each in pods() if each.is_ours]
FIELDS = {*Settings.model_fields, *WorkerSettings.model_fields}
# The last one is read by migrations/env.py.
VARIABLES = {f"RECYCLING_{name.upper()}" for name in FIELDS} | {"CACHEDORM_DATABASE_URL"}
REDIS = {"RECYCLING_REDIS_URL": "redis", "RECYCLING_DURABLE_REDIS_URL": "redis-durable"}
# What each part speaks to, over its own settings and in this order: caches, durable, database.
SPEAKS_TO = {
    "app": (True, True, True),
    "worker": (True, True, True),
    "beat": (False, True, False),
    "cache-warming": (True, False, True),
    "migrate": (False, False, True),
    "redis": (False, False, False),
    "redis-durable": (False, False, False),
}


def owner(each: Pod) -> str:
    return each.owner


def services() -> dict[str, Document]:
    named: dict[str, Document] = compose()["services"]
    return named


@pytest.mark.parametrize("each", OURS, ids=owner)
def test_every_variable_is_a_setting(each: Pod) -> None:
    """A misspelt one would be ignored, and its default taken."""
    for container in each.containers:
        assert environment(container).keys() <= VARIABLES


def test_every_variable_of_compose_is_a_setting() -> None:
    """Also there; what the images of the servers read is theirs."""
    for name, service in services().items():
        if service["image"] == "recycling":
            assert service["environment"].keys() <= VARIABLES, name


def test_secrets_are_in_no_file() -> None:
    """Two keys of one Secret, made by hand; only the application can sign tokens."""
    given = {
        (each.owner, name, value)
        for each in OURS
        for container in each.containers
        for name, value in environment(container).items()
        if "/" in value and "://" not in value
    }
    assert {value for _, _, value in given} == {"recycling/database-url", "recycling/jwt-secret"}
    assert [owner for owner, _, value in given if value.endswith("jwt-secret")] == ["app"]
    assert documents(kind="Secret") == []


@pytest.mark.parametrize("variable", REDIS)
def test_each_redis_is_reached_by_its_service(variable: str) -> None:
    """The name and the port in the URL are those of a Service, which selects that Redis alone."""
    url = urlsplit(document("ConfigMap", "recycling-settings")["data"][variable])
    (target,) = reached(str(url.hostname), url.port)
    assert target.component == REDIS[variable]
    in_compose = urlsplit(services()["worker"]["environment"][variable])
    assert in_compose.netloc == url.netloc
    assert in_compose.hostname in services()


def test_the_users_address() -> None:
    """`k8s-redis:6379`, as in the document, is the Redis of the caches."""
    assert [each.owner for each in reached("k8s-redis", 6379)] == ["k8s-redis"]


def reached(host: str, port: int | None) -> list[Pod]:
    """The pods behind a Service's port, listening there."""
    spec = document("Service", host)["spec"]
    (entry,) = (each for each in spec["ports"] if each["port"] == port)
    found = [each for each in pods() if selects({"matchLabels": spec["selector"]}, each.labels)]
    assert all(entry["targetPort"] in each.ports for each in found)
    return found


def test_the_applications_port() -> None:
    """The command, the container, the probes, the Service and the healthcheck name one port."""
    app = pod("app")
    (container,) = app.spec["containers"]
    assert app.ports == {"http": 8000}
    assert "--port=8000" in container["command"]
    assert "--host=0.0.0.0" in container["command"]
    paths = {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    assert [each.owner for each in reached("app", 80)] == ["app"]
    service = services()["app"]
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert "127.0.0.1:8000/ready" in " ".join(service["healthcheck"]["test"])


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "PodDisruptionBudget"])
def test_selectors_mean_their_own_pods(kind: str) -> None:
    """And no other's, or two owners would fight for a pod."""
    for each in documents(kind=kind):
        selector, name = each["spec"]["selector"], each["metadata"]["name"]
        assert [found.owner for found in pods() if selects(selector, found.labels)] == [name]
        if kind == "PodDisruptionBudget":
            # A budget that no eviction can keep would hold up every drain.
            assert document("Deployment", name)["spec"]["replicas"] > each["spec"]["minAvailable"]


@pytest.mark.parametrize("each", pods(), ids=owner)
def test_the_network_lets_through_what_is_spoken(each: Pod) -> None:
    """Out of the one pod and into the other; nothing else, and names are resolved by all."""
    targets = [pod("k8s-redis"), pod("k8s-redis-durable")]
    found = [may_speak(each, target, 6379) for target in targets]
    database = [5432 in ports_of(rule) for rule in rules(each, "egress") if "to" not in rule]
    assert (*found, any(database)) == SPEAKS_TO[each.component]
    assert any(53 in ports_of(rule) for rule in rules(each, "egress"))


@pytest.mark.parametrize("each", pods(), ids=owner)
def test_only_the_application_is_reached_from_outside(each: Pod) -> None:
    """On its port."""
    open_to_all = [rule for rule in rules(each, "ingress") if "from" not in rule]
    assert [ports_of(rule) for rule in open_to_all] == ([{8000}] if each.owner == "app" else [])


def may_speak(source: Pod, target: Pod, port: int) -> bool:
    out = any(allows(rule, "to", target, port) for rule in rules(source, "egress"))
    into = any(allows(rule, "from", source, port) for rule in rules(target, "ingress"))
    assert out == into, f"{source.owner} to {target.owner}: let out {out}, let in {into}"
    return out


def rules(each: Pod, direction: str) -> list[Document]:
    """What a pod is allowed; what no policy restricted would be allowed everything."""
    policies = [
        policy["spec"]
        for policy in documents(kind="NetworkPolicy")
        if selects(policy["spec"]["podSelector"], each.labels)
        and direction.capitalize() in policy["spec"]["policyTypes"]
    ]
    assert policies, f"{each.owner} is under no {direction} policy"
    return [rule for policy in policies for rule in policy.get(direction, [])]


def allows(rule: Document, side: str, peer: Pod, port: int) -> bool:
    selectors = [each["podSelector"] for each in rule.get(side, []) if "podSelector" in each]
    return port in ports_of(rule) and any(selects(each, peer.labels) for each in selectors)


def ports_of(rule: Document) -> set[Any]:
    return {each["port"] for each in rule["ports"]}


def test_the_grace_is_longer_than_the_work() -> None:
    """A worker is not killed in the middle of a scan, nor the application in its answers."""
    from examples.recycling.worker import scan

    worker, app = pod("worker").spec, pod("app").spec
    assert worker["terminationGracePeriodSeconds"] > scan.time_limit
    assert seconds(services()["worker"]["stop_grace_period"]) > scan.time_limit
    (container,) = app["containers"]
    asleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert app["terminationGracePeriodSeconds"] > asleep + graceful(container["command"])
    service = services()["app"]
    assert seconds(service["stop_grace_period"]) > graceful(service["command"])


def graceful(command: list[str]) -> int:
    (option,) = (each for each in command if each.startswith("--timeout-graceful-shutdown="))
    return int(option.partition("=")[2])


def seconds(text: str) -> int:
    assert re.fullmatch(r"\d+s", text)
    return int(text[:-1])


def test_one_of_them_warms_at_night() -> None:
    """The CronJob in Kubernetes, beat in Compose; never both, never none."""
    in_kubernetes = document("ConfigMap", "recycling-settings")["data"]
    in_compose = services()["beat"]["environment"]
    name = "RECYCLING_WARM_BY_BEAT"
    for variables, expected in ((in_kubernetes, False), (in_compose, True)):
        text = variables.get(name, "true")
        settings = WorkerSettings.model_validate({"warm_by_beat": text})
        assert ("cache-warming" in configuration(settings)["beat_schedule"]) is expected


def test_every_part_is_in_the_table() -> None:
    """A new pod says what it speaks to."""
    assert {each.labels[COMPONENT] for each in pods()} == SPEAKS_TO.keys()
