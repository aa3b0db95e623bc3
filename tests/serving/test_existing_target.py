"""A cluster that runs already: the same objects, on other nodes, from another source."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.cluster.existing_target import ExistingPlatform
from freehold.config.target import ExistingCluster
from freehold.program.serve import serve

from .programs import changed_plan, container, pod, program_of, run
from .recorded import Program, record

TARGET = {"target": {"registry_mirror": "registry.internal/mirror"}}


def kinds(program: Program) -> list[tuple[str, str]]:
    return sorted(
        (item["kind"], item["metadata"]["name"].split("-", 1)[-1]) for item in program.objects
    )


def test_nothing_else_changes_from_eks() -> None:
    assert kinds(program_of("onprem")) == kinds(program_of("small"))


def test_every_image_comes_from_the_mirror() -> None:
    program = run(changed_plan("onprem", TARGET))
    for item in program.all("Deployment"):
        spec = item["spec"]["template"]["spec"]
        for each in [*spec.get("initContainers", []), *spec["containers"]]:
            assert each["image"].startswith("registry.internal/mirror/")


def test_without_a_registry_our_images_are_looked_for_on_the_node_alone() -> None:
    image = container(program_of("onprem"), "Deployment", "chat", "engine")["image"]
    assert image.startswith("localhost/freehold/engine:")


@pytest.mark.parametrize(
    ("source", "model", "offline"),
    [
        ("hub", "Qwen/", False),
        ("s3://weights/all", "s3://weights/all/", True),
        ("pvc://weights/all", "/models/all/", True),
    ],
)
def test_where_weights_come_from(source: str, model: str, offline: bool) -> None:
    program = run(changed_plan("onprem", {"target": {"model_source": source}}))
    engine = container(program, "Deployment", "chat", "engine")
    found = engine["args"][engine["args"].index("--model") + 1]
    assert found.startswith(model) or source == "hub"
    assert ("HF_HUB_OFFLINE" in {item["name"] for item in engine["env"]}) == offline
    assert ("runai_streamer" in engine["args"]) == source.startswith("s3://")
    volumes = pod(program, "Deployment", "chat")["volumes"]
    claims = [v["persistentVolumeClaim"] for v in volumes if "persistentVolumeClaim" in v]
    assert claims == ([{"claimName": "weights", "readOnly": True}] if "pvc" in source else [])


def test_credentials_of_a_store_are_yours_and_a_hub_needs_none() -> None:
    def secrets(source: str) -> list[dict[str, Any]]:
        program = run(changed_plan("onprem", {"target": {"model_source": source}}))
        engine = container(program, "Deployment", "chat", "engine")
        return [item["secretRef"] for item in engine.get("envFrom", [])]

    assert secrets("s3://weights/all") == [{"name": "model-store"}]
    assert secrets("hub") == [{"name": "model-store", "optional": True}]
    assert secrets("pvc://weights/all") == []


def test_an_air_gapped_pool_reaches_nothing_outside() -> None:
    program = run(changed_plan("onprem", {"target": {"model_source": "pvc://weights/all"}}))
    (policy,) = (
        item for item in program.all("NetworkPolicy") if item["metadata"]["name"] == "engine"
    )
    assert not policy["spec"].get("egress")


def test_ingress_or_load_balancer() -> None:
    assert program_of("onprem").one("Service", "gateway")["spec"]["type"] == "LoadBalancer"
    program = run(changed_plan("onprem", {"target": {"ingress_class": "nginx"}}))
    assert program.one("Service", "gateway")["spec"]["type"] == "ClusterIP"
    ingress = program.one("Ingress", "gateway")
    assert ingress["spec"]["ingressClassName"] == "nginx"
    notes = ingress["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"  # or streams come in lumps


def test_a_cache_sidecar_gets_its_gpu_from_the_operator_s_runtime() -> None:
    cache = {"cache": {"host_memory_gib": 4, "redis": None}}
    template = run(changed_plan("onprem", cache)).one("Deployment", "chat")["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "nvidia.cdi.k8s.io/container.cache": "management.nvidia.com/gpu=all"
    }


def watched(**target: Any) -> Program:
    """The whole of what watches, too."""
    plan = changed_plan("onprem", {"target": target})
    settings = plan.target
    assert isinstance(settings, ExistingCluster)
    return record(
        lambda: serve(plan, ExistingPlatform(plan.stack, settings, plan.gateway, None).target)
    )


def chart_of(program: Program) -> dict[str, Any]:
    (chart,) = (one.inputs for one in program.seen if one.type == "kubernetes:helm.sh/v3:Release")
    return chart


def test_a_private_mirror_is_told_who_pulls() -> None:
    program = watched(registry_mirror="registry.internal/mirror", image_pull_secret="registry")
    for item in [*program.all("Deployment"), *program.all("StatefulSet")]:
        assert item["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    chart = chart_of(program)
    assert chart["chart"] == "oci://registry.internal/mirror/charts/kube-prometheus-stack"
    assert "repositoryOpts" not in chart
    assert chart["values"]["global"]["imagePullSecrets"] == [{"name": "registry"}]
    sidecar = chart["values"]["grafana"]["sidecar"]["image"]["registry"]
    assert sidecar == "registry.internal/mirror/quay.io"


def test_what_the_cluster_runs_already_is_not_brought_again() -> None:
    def off(already_runs: list[str]) -> set[str]:
        values = chart_of(watched(already_runs=already_runs))["values"]
        assert "prometheusSpec" in values["prometheus"], "Prometheus itself is always ours"
        return {
            name
            for name in ("prometheusOperator", "crds", "nodeExporter")
            if values.get(name, {}).get("enabled") is False
        }

    assert off([]) == set()
    assert off(["prometheus-operator"]) == {"prometheusOperator", "crds"}
    assert off(["node-exporter"]) == {"nodeExporter"}


def test_gpus_are_watched_by_the_exporter_of_the_gpu_operator() -> None:
    monitor = watched().one("PodMonitor", "dcgm")["spec"]
    assert monitor["selector"] == {"matchLabels": {"app": "nvidia-dcgm-exporter"}}
    assert monitor["namespaceSelector"] == {"any": True}
