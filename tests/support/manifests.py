"""What stands in deploy/: the Kubernetes manifests, the Compose file, the Dockerfile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
COMPOSE = ROOT / "deploy/compose.yaml"
DOCKERFILE = ROOT / "deploy/Dockerfile"
COMPONENT = "app.kubernetes.io/component"

Document = dict[str, Any]


def documents(*, kind: str | None = None) -> list[Document]:
    """Every manifest, or those of a kind; the kustomization is none. To look at, not to change."""
    return [each for each in _documents() if kind in {None, each["kind"]}]


@cache
def _documents() -> list[Document]:
    files = [path for path in sorted(KUBERNETES.glob("*.yaml")) if path.stem != "kustomization"]
    return [each for path in files for each in yaml.safe_load_all(path.read_text())]


def document(kind: str, name: str) -> Document:
    """The one of this kind and name."""
    (found,) = (each for each in documents(kind=kind) if each["metadata"]["name"] == name)
    return found


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that a manifest makes. owner: that manifest's name."""

    owner: str
    labels: dict[str, str]
    spec: Document

    @property
    def component(self) -> str:
        """Its part in the application."""
        return self.labels[COMPONENT]

    @property
    def containers(self) -> list[Document]:
        """Those that run before it is up, too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """What it listens on, by name."""
        listed = [port for each in self.containers for port in each.get("ports", [])]
        return {port["name"]: port["containerPort"] for port in listed}

    @property
    def is_ours(self) -> bool:
        """Whether it runs the application's image."""
        return all(each["image"] == "recycling" for each in self.containers)


def pods() -> list[Pod]:
    """Every pod of the manifests."""
    return list(_pods())


def _pods() -> Iterator[Pod]:
    for each in documents():
        spec = each.get("spec", {})
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            template = spec["template"]
            yield Pod(each["metadata"]["name"], template["metadata"]["labels"], template["spec"])


def pod(owner: str) -> Pod:
    """The pod of this manifest."""
    (found,) = (each for each in pods() if each.owner == owner)
    return found


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector means a pod; an empty one means all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In", f"teach this test the operator {each['operator']}"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True


@cache
def compose() -> Document:
    """The Compose file, its merges made."""
    loaded: Document = yaml.safe_load(COMPOSE.read_text())
    return loaded


def environment(container: Document) -> dict[str, str]:
    """The variables of a container and where each comes from: its text, or a Secret's key."""
    found: dict[str, str] = {}
    for each in container.get("envFrom", []):
        found |= document("ConfigMap", each["configMapRef"]["name"])["data"]
    for each in container.get("env", []):
        secret = each.get("valueFrom", {}).get("secretKeyRef")
        found[each["name"]] = f"{secret['name']}/{secret['key']}" if secret else each["value"]
    return found


def redis_conf(name: str) -> str:
    """The configuration in a ConfigMap."""
    conf: str = document("ConfigMap", f"{name}-config")["data"]["redis.conf"]
    return conf
