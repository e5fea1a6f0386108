"""``deploy/kuberay.yaml`` against the types of KubeRay 1.7, with unknown keys refused.

The operator's own schema drops a key that it does not know: a misspelled ``maxReplicas`` would be
the default, 2^31 - 1, and a second process on one disk. So the types of what the file uses are here
in closed form, by the operator's public reference of ``ray.io/v1``, and what keeps a disk a disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "deploy" / "kuberay.yaml").read_text("utf-8")
LABEL = "profile-actors/disk"
DIRECTORY = "/srv/profiles"

Schema = dict[str, Any]
STRING: Schema = {"type": "string", "minLength": 1}
INTEGER: Schema = {"type": "integer"}
QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9.]+(m|[KMGTPE]i?)?$"}


def closed(needed: Schema, **others: Schema) -> Schema:
    """An object of these keys and no others, of which ``needed`` must be there."""
    properties = needed | others
    return {
        "type": "object", "properties": properties, "required": sorted(needed),
        "additionalProperties": False,
    }  # fmt: skip


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def texts() -> Schema:
    return {"type": "object", "additionalProperties": {"type": "string"}}


METADATA = closed({"name": STRING}, labels=texts(), annotations=texts(), namespace=STRING)
MOUNT = closed({"name": STRING, "mountPath": STRING}, readOnly={"type": "boolean"}, subPath=STRING)
AMOUNTS = closed({}, cpu=QUANTITY, memory=QUANTITY)
CONTAINER = closed(
    {"name": STRING, "image": STRING, "volumeMounts": listed(MOUNT)},
    command=listed(STRING), args=listed(STRING), imagePullPolicy=STRING,
    env=listed(closed({"name": STRING, "value": STRING})),
    resources=closed({}, requests=AMOUNTS, limits=AMOUNTS),
)  # fmt: skip
VOLUME = closed({"name": STRING, "persistentVolumeClaim": closed({"claimName": STRING})})
POD = closed(
    {
        "containers": listed(CONTAINER), "initContainers": listed(CONTAINER),
        "volumes": listed(VOLUME),
    },
    nodeSelector=texts(), serviceAccountName=STRING,
)  # fmt: skip
TEMPLATE = closed({"spec": POD}, metadata=closed({}, labels=texts(), annotations=texts()))
GROUP = {"rayStartParams": texts(), "template": TEMPLATE, "labels": texts()}
CLUSTER = closed(
    {
        "apiVersion": {"const": "ray.io/v1"}, "kind": {"const": "RayCluster"}, "metadata": METADATA,
        "spec": closed(
            {
                "rayVersion": STRING,
                "authOptions": closed({"mode": {"enum": ["token"]}}, secretName=STRING),
                "headGroupSpec": closed(GROUP, serviceType=STRING),
                "workerGroupSpecs": listed(
                    closed(
                        GROUP | {"groupName": STRING, "replicas": INTEGER, "minReplicas": INTEGER}
                        | {"maxReplicas": INTEGER},
                    )
                ),
            },
            gcsFaultToleranceOptions=closed(
                {"backend": {"enum": ["rocksdb"]}, "storage": closed({"size": QUANTITY})},
                claimName=STRING, deletionPolicy={"enum": ["Delete", "Retain"]},
            ),
        ),
    }
)  # fmt: skip
CLAIM = closed(
    {
        "apiVersion": {"const": "v1"}, "kind": {"const": "PersistentVolumeClaim"},
        "metadata": METADATA,
        "spec": closed(
            {
                "accessModes": listed({"enum": ["ReadWriteOnce", "ReadWriteOncePod"]}),
                "resources": closed({"requests": closed({"storage": QUANTITY})}),
            },
            storageClassName=STRING,
        ),
    }
)  # fmt: skip


def checked(documents: list[Schema]) -> None:
    """Raises ValidationError for a key or type, AssertionError for what would mix up disks."""
    *claims, cluster = documents
    for claim in claims:
        jsonschema.validate(claim, CLAIM)
    jsonschema.validate(cluster, CLUSTER)
    spec = cluster["spec"]
    head, workers = spec["headGroupSpec"], spec["workerGroupSpecs"]
    for group in workers:
        counts = group["replicas"], group["minReplicas"], group["maxReplicas"]
        assert counts == (1, 1, 1), f"{group['groupName']}: replicas would share a claim"
    disks = [disk_of(group) for group in (head, *workers)]
    assert len(set(disks)) == len(disks), "two groups have one label"
    used = [claim_of(group) for group in (head, *workers)]
    assert len(set(used)) == len(used), "two groups have one claim"
    assert sorted(used) == sorted(one["metadata"]["name"] for one in claims), "claims"
    given = {one["name"]: one["value"] for one in head["template"]["spec"]["containers"][0]["env"]}
    assert given == {
        "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "3",
    }  # fmt: skip
    assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"


def disk_of(group: Schema) -> str:
    """The disk that a group's label names, and its init container."""
    pod = group["template"]["spec"]
    (init,) = pod["initContainers"]
    disk: str = group["labels"][LABEL]
    assert init["command"] == ["profile-actors", "disk-id", DIRECTORY, "--as", disk]
    for container in (init, *pod["containers"]):
        assert [one["mountPath"] for one in container["volumeMounts"]] == [DIRECTORY]
    return disk


def claim_of(group: Schema) -> str:
    """The claim that a group's containers have mounted."""
    pod = group["template"]["spec"]
    (volume,) = pod["volumes"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert [one["name"] for one in container["volumeMounts"]] == [volume["name"]]
    claim: str = volume["persistentVolumeClaim"]["claimName"]
    return claim


def test_the_file_is_of_the_operators_types() -> None:
    checked(list(yaml.safe_load_all(TEXT)))


def second(documents: list[Schema]) -> Schema:
    """The second worker group."""
    group: Schema = documents[-1]["spec"]["workerGroupSpecs"][1]
    return group


def _one_label(documents: list[Schema]) -> None:
    second(documents)["labels"] = {LABEL: "disk-1"}
    second(documents)["template"]["spec"]["initContainers"][0]["command"][-1] = "disk-1"


def _one_claim(documents: list[Schema]) -> None:
    volume = second(documents)["template"]["spec"]["volumes"][0]
    volume["persistentVolumeClaim"]["claimName"] = "profiles-disk-1"


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        (lambda d: second(d).update(maxReplica=second(d).pop("maxReplicas")), "maxReplica"),
        (lambda d: second(d).update(maxReplica=1), "maxReplica"),
        (lambda d: second(d).update(replicas="1"), "'1' is not of type 'integer'"),
        (lambda d: second(d).update(replicas=2, maxReplicas=2), "would share a claim"),
        (lambda d: d.pop(1), "claims"),
        (_one_claim, "one claim"),
        (_one_label, "one label"),
        (lambda d: second(d)["labels"].update({LABEL: "disk-3"}), "disk-3"),
        (lambda d: d[-1]["spec"].pop("authOptions"), "authOptions"),
        (lambda d: d[-1]["spec"]["authOptions"].update(mode="disabled"), "disabled"),
        (lambda d: d[0]["spec"].update(accessModes=["ReadWriteMany"]), "ReadWriteMany"),
        (lambda d: second(d)["rayStartParams"].update({"num-cpus": 2}), "not of type 'string'"),
    ],
)  # fmt: skip
def test_planted_mistakes_are_found(mistake: Callable[[list[Schema]], object], error: str) -> None:
    documents = list(yaml.safe_load_all(yaml.safe_dump_all(yaml.safe_load_all(TEXT))))
    mistake(documents)
    with pytest.raises((jsonschema.ValidationError, AssertionError), match=error):
        checked(documents)
