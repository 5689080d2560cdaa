"""The manifests by Kubernetes' own schemas, and what they must all say."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import copy
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.manifests import KUBERNETES, Document, Pod, document, documents, pods

# `lifecycle.preStop.sleep` came with 1.29 and is on by default since 1.30.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]


def named(each: Document | Pod) -> str:
    if isinstance(each, Pod):
        return each.owner
    return f"{each['kind']}/{each['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", documents(), ids=named)
def test_the_schema(manifest: Document, version: str) -> None:
    """No field is unknown, misspelt or of a wrong type, in any supported version."""
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("schedulle", "0 2 * * *"), ("timeZone", 9), ("startingDeadlineSeconds", "soon")],
)
def test_a_wrong_field_would_be_seen(name: str, wrong: object) -> None:
    """The check is strict."""
    manifest = copy.deepcopy(document("CronJob", "cache-warming"))
    manifest["spec"][name] = wrong
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_the_kustomization_names_every_file() -> None:
    """What is not named there is not applied."""
    listed: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed["resources"]) == files
    assert [each["name"] for each in listed["images"]] == ["recycling"]
    assert listed["namespace"] == documents(kind="Namespace")[0]["metadata"]["name"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl, which builds it, is not here")
def test_the_kustomization_builds() -> None:
    """All of it in one namespace, our image from the registry, and still by the schemas."""
    built = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True
    )
    made = list(yaml.safe_load_all(built.stdout))
    assert len(made) == len(documents())
    for each in made:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "recycling"
    assert "image: recycling\n" not in built.stdout


@pytest.mark.parametrize("pod", pods(), ids=named)
def test_a_pod_can_do_little(pod: Pod) -> None:
    """No root, no token, nothing to write but what is mounted, as `restricted` asks and more."""
    assert pod.spec["automountServiceAccountToken"] is False
    context = pod.spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod.containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("pod", pods(), ids=named)
def test_a_pod_says_what_it_needs(pod: Pod) -> None:
    """A share of the CPU without an end to it, and memory with one."""
    for container in pod.containers:
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}


@pytest.mark.parametrize("pod", pods(), ids=named)
def test_every_mount_has_its_volume(pod: Pod) -> None:
    """By name; and each of our containers can write to /tmp."""
    volumes = {each["name"] for each in pod.spec.get("volumes", [])}
    if not pod.is_ours:
        (claim,) = document("StatefulSet", pod.owner)["spec"]["volumeClaimTemplates"]
        volumes.add(claim["metadata"]["name"])
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    for container in pod.containers:
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert set(mounts) <= volumes
        assert not pod.is_ours or mounts["tmp"] == "/tmp"


def test_the_nightly_job() -> None:
    """At two in the morning in Seoul, never twice at once, by the user's names."""
    job = document("CronJob", "cache-warming")["spec"]
    assert (job["schedule"], job["timeZone"]) == ("0 2 * * *", "Asia/Seoul")
    assert job["concurrencyPolicy"] == "Forbid"
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "cache-warmer"


def test_beat_is_one() -> None:
    """Not two during a roll-out either."""
    beat = document("Deployment", "beat")["spec"]
    assert (beat["replicas"], beat["strategy"]["type"]) == (1, "Recreate")
