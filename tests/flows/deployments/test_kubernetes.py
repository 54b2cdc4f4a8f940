"""The manifests are what the API takes, and say what runs on hosts that may be taken away need."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tasks.domain.job.parse import parse_job

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "infra" / "kubernetes"
CLUSTER = FOLDER / "overlays" / "cluster"
GUARD_SECONDS = 30  # that a flow has until Prefect's worker kills it
OVERLAYS = ("one-host", "cluster")
# ray.io/v1 of KubeRay 1.6, as far as it is used here: the package of schemas has Kubernetes' own kinds alone.
RAY_CLUSTER = {
    "": {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"},
    "authOptions": {"mode", "secretName"},
    "autoscalerOptions": {"version", "idleTimeoutSeconds", "resources"},
    "headGroupSpec": {"rayStartParams", "template"},
}
RAY_WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def rendered(overlay: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    if not (kubectl := shutil.which("kubectl")):
        pytest.skip("kubectl is not installed here: overlays are not rendered")
    done = subprocess.run([kubectl, "kustomize", FOLDER / "overlays" / overlay], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def ray_cluster() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((CLUSTER / "ray-cluster.yaml").read_text())["spec"]
    return spec


def ray_pods() -> Iterator[dict[str, Any]]:
    spec = ray_cluster()
    yield spec["headGroupSpec"]["template"]
    yield from (group["template"] for group in spec["workerGroupSpecs"])


def refused(document: dict[str, Any]) -> str:
    """Why Kubernetes' API would refuse it; a misspelt field is refused as well."""
    try:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_takes_what_an_overlay_renders_to(overlay: str) -> None:
    documents = [document for document in rendered(overlay) if document["apiVersion"] != "ray.io/v1"]
    assert documents
    assert not [refusal for document in documents if (refusal := refused(document))]


def test_the_api_takes_the_pods_of_the_ray_cluster() -> None:
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **pod} for pod in ray_pods()]
    assert len(pods) == 2
    assert not [refusal for pod in pods if (refusal := refused(pod))]
    pods[0]["spec"]["containers"][0]["enviroment"] = []
    assert "enviroment" in refused(pods[0])


def test_the_ray_cluster_has_no_field_that_is_not_of_its_kind() -> None:
    spec = ray_cluster()
    for path, known in RAY_CLUSTER.items():
        assert set(spec[path] if path else spec) <= known
    assert all(set(group) <= RAY_WORKERS for group in spec["workerGroupSpecs"])
    assert spec["rayVersion"] in {
        pin.partition("==")[2] for pin in (ROOT / "constraints.txt").read_text().splitlines() if pin.startswith("ray==")
    }


def test_gpu_hosts_come_and_go_and_the_head_has_none() -> None:
    spec = ray_cluster()
    (group,) = spec["workerGroupSpecs"]
    (head,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    (worker,) = group["template"]["spec"]["containers"]
    assert spec["enableInTreeAutoscaling"] is True
    assert group["minReplicas"] == 0
    assert group["maxReplicas"] * worker["resources"]["limits"]["nvidia.com/gpu"] == 40
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert {toleration["effect"] for toleration in group["template"]["spec"]["tolerations"]} == {"NoSchedule"}
    assert group["template"]["spec"]["terminationGracePeriodSeconds"] > GUARD_SECONDS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_worker_pod_has_time_to_end_and_collects_orphans(overlay: str) -> None:
    pod = of_kind(rendered(overlay), "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > GUARD_SECONDS
    assert pod["shareProcessNamespace"] is True
    assert all(pod["spec"]["shareProcessNamespace"] is True for pod in ray_pods())


def test_one_host_has_a_gpu_and_the_worker_beside_a_ray_cluster_has_none() -> None:
    limits = [
        container["resources"]["limits"]
        for container in of_kind(rendered("one-host"), "Deployment")["spec"]["template"]["spec"]["containers"]
    ]
    assert [limit.get("nvidia.com/gpu") for limit in limits] == [1]
    beside = of_kind(rendered("cluster"), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in beside] == ["worker", "ray-node"]
    assert not any("nvidia.com/gpu" in container["resources"]["limits"] for container in beside)
    shared = {volume["mountPath"] for volume in beside[0]["volumeMounts"]} & {volume["mountPath"] for volume in beside[1]["volumeMounts"]}
    assert shared == {"/dev/shm", "/tmp/ray"}  # the driver meets its node there


def test_images_of_a_ray_cluster_are_set_where_all_others_are() -> None:
    documents = rendered("cluster")
    spec = of_kind(documents, "RayCluster")["spec"]
    pods = [
        spec["headGroupSpec"]["template"],
        spec["workerGroupSpecs"][0]["template"],
        of_kind(documents, "Deployment")["spec"]["template"],
    ]
    assert {container["image"] for pod in pods for container in pod["spec"]["containers"]} == {"kitestring:latest"}


def test_credentials_come_from_secrets_alone() -> None:
    secret = ("PASSWORD", "SECRET", "TOKEN", "KEY")
    for path in FOLDER.rglob("*.yaml"):
        for line in path.read_text().splitlines():
            named = "name: " in line and "value: " in line and any(word in line.partition("value: ")[0] for word in secret)
            assert not named, f"{path.name}: {line.strip()}"


def test_the_image_of_the_cluster_has_the_dashboard_that_the_operator_asks() -> None:
    """Its probes (HTTP to the head's dashboard and each node's agent) and RayJob (the dashboard's REST API) need it."""
    extra = re.findall(r"EXTRAS='\[(\w+)\]'", (CLUSTER / "kustomization.yaml").read_text())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [extras[name] for name in extra] == [["ray[default]"]]


def test_the_job_of_the_cluster_is_one_and_has_a_host_for_each_gpu_pod() -> None:
    job = parse_job(yaml.safe_load((CLUSTER / "job.yaml").read_text()))
    (group,) = ray_cluster()["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    engine = job.compute.engine.model_dump()
    assert (engine["kind"], engine["hosts"]) == ("ray", group["maxReplicas"])
    assert engine["resources"] == {"GPU": worker["resources"]["limits"]["nvidia.com/gpu"]}
    assert not engine["shared"]
    assert {place.partition(":")[0] for place in (job.source.uri, job.checkpoint)} == {"s3"}, "pods share nothing else"


def test_the_ray_job_runs_the_job_that_the_head_mounts() -> None:
    job = yaml.safe_load((CLUSTER / "ray-job.yaml").read_text())
    assert set(job["spec"]) == {"entrypoint", "clusterSelector"}
    assert job["spec"]["clusterSelector"] == {
        "ray.io/cluster": yaml.safe_load((CLUSTER / "ray-cluster.yaml").read_text())["metadata"]["name"]
    }
    path = Path(job["spec"]["entrypoint"].split()[-1])
    (head,) = ray_cluster()["headGroupSpec"]["template"]["spec"]["containers"]
    assert str(path.parent) in {mount["mountPath"] for mount in head["volumeMounts"]}
    assert path.name in of_kind(rendered("cluster"), "ConfigMap")["data"]
