"""A pool's pods: command line, GPUs, budgets of time, security; the plan's numbers and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from freehold.config import FreeholdError
from freehold.engine.command_line import command_line
from freehold.planning.plan import PoolPlan
from freehold.serving.drain import SPOT_NOTICE_SECONDS, drain_of
from freehold.serving.engine_container import MODULE
from freehold.serving.model_pool import spare_places
from freehold.serving.probes import startup_seconds
from freehold.simulator import flags

from .pod_security import problems
from .programs import PODS, STACKS, changed_plan, container, plan_of, pod, program_of, run
from .recorded import Program

ENGINES = [(stack, name) for stack in STACKS for name in ("chat", "embed", "rerank")]
SPOT = {"capacity": {"kind": "spot"}, "budget": None}


def pool_of(stack: str, name: str) -> PoolPlan:
    (found,) = (pool for pool in plan_of(stack).pools if pool.name == name)
    return found


def engine(stack: str, name: str) -> dict[str, Any]:
    return container(program_of(stack), "Deployment", name, "engine")


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_the_command_line_is_the_plan_s_and_is_understood(stack: str, name: str) -> None:
    found, pool = engine(stack, name), pool_of(stack, name)
    assert found["command"] == ["python3", "-m", MODULE]
    parsed = flags.parse(found["args"])
    assert parsed.served_model_name == [name]
    assert (parsed.host, parsed.port) == ("0.0.0.0", 8000)
    assert parsed.shutdown_timeout == drain_of(pool).engine
    planned = command_line(pool.settings)
    known = {"--model", "--revision", "--shutdown-timeout"}  # the store's, none, the drain's
    missing = [
        argument
        for place, argument in enumerate(planned)
        if argument not in found["args"]
        and argument not in known
        and planned[place - 1] not in known
    ]
    assert not missing


def test_weights_come_from_the_target_s_store() -> None:
    arguments = engine("medium", "chat")["args"]
    assert arguments[:4] == [
        "--model",
        "s3://models-1234/RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic",
        "--served-model-name",
        "chat",
    ]
    assert arguments[arguments.index("--load-format") + 1] == "runai_streamer"
    assert environment(engine("medium", "chat"))["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_the_pod_asks_for_what_the_plan_counts(stack: str, name: str) -> None:
    pool, spec = pool_of(stack, name), pod(program_of(stack), "Deployment", name)
    assert pool.sizing and pool.placement
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    requests = [item["resources"]["requests"] for item in containers]
    assert sum(amount(each["cpu"]) for each in requests) == pytest.approx(pool.sizing.host.vcpu)
    assert sum(amount(each["memory"]) for each in requests) == pytest.approx(
        pool.sizing.host.ram_gib, abs=0.01
    )
    disk = sum(amount(each.get("ephemeral-storage", "0Mi")) for each in requests)
    assert disk == pytest.approx(pool.sizing.host.nvme_gib, abs=0.01)
    gpus = [item["resources"].get("limits", {}).get("nvidia.com/gpu") for item in containers]
    assert [each for each in gpus if each] == [str(pool.placement.gpus_per_replica)]


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_pods_run_on_their_node_group_only(stack: str, name: str) -> None:
    placement = pool_of(stack, name).placement
    assert placement
    spec = pod(program_of(stack), "Deployment", name)
    group = placement.instance_type if stack == "onprem" else placement.node_group
    assert spec["nodeSelector"] == {"freehold/node-group": group}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu"]
    assert spec.get("runtimeClassName") == ("nvidia" if stack == "onprem" else None)


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_ranks_have_shared_memory(stack: str, name: str) -> None:
    spec = pod(program_of(stack), "Deployment", name)
    (shm,) = (volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "shm")
    placement = pool_of(stack, name).placement
    assert placement and shm["medium"] == "Memory"
    assert amount(shm["sizeLimit"]) >= placement.gpus_per_replica
    mounts = {item["mountPath"]: item["name"] for item in engine(stack, name)["volumeMounts"]}
    assert mounts["/dev/shm"] == "shm"


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_a_start_gets_three_times_the_plan_s_seconds(stack: str, name: str) -> None:
    sizing = pool_of(stack, name).sizing
    assert sizing
    probe = engine(stack, name)["startupProbe"]
    budget = probe["periodSeconds"] * probe["failureThreshold"]
    assert budget >= 3 * (sizing.startup.weights + sizing.startup.warm_up)
    assert budget >= startup_seconds(sizing.startup)
    deployment = program_of(stack).one("Deployment", name)["spec"]
    grace = deployment["template"]["spec"]["terminationGracePeriodSeconds"]
    assert deployment["progressDeadlineSeconds"] > budget + grace + sizing.startup.total


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_a_rollout_needs_no_gpu_besides_the_plan_s(stack: str, name: str) -> None:
    pool = pool_of(stack, name)
    assert pool.placement
    rolling = program_of(stack).one("Deployment", name)["spec"]["strategy"]["rollingUpdate"]
    spare = spare_places(plan_of(stack), pool)
    most = pool.placement.nodes * pool.placement.replicas_per_node
    assert pool.replicas + rolling["maxSurge"] <= most
    assert rolling == (
        {"maxSurge": 1, "maxUnavailable": 0} if spare else {"maxSurge": 0, "maxUnavailable": 1}
    )


def test_pools_on_one_gpu_never_surge() -> None:
    assert spare_places(plan_of("small"), pool_of("small", "embed")) == 0


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_the_three_numbers_of_a_drain_fit(stack: str, name: str) -> None:
    found, spec = engine(stack, name), pod(program_of(stack), "Deployment", name)
    wait = found["lifecycle"]["preStop"]["sleep"]["seconds"]
    ending = flags.parse(found["args"]).shutdown_timeout
    assert wait >= 10  # longer than CoreDNS's and Envoy's five seconds, one after the other
    assert ending > 0  # vLLM's default aborts every stream
    assert spec["terminationGracePeriodSeconds"] > wait + ending


def test_a_long_stream_gets_what_the_stack_file_asks_for() -> None:
    asked = pool_of("large", "chat").settings.options.shutdown_timeout
    assert asked == 300 == flags.parse(engine("large", "chat")["args"]).shutdown_timeout


def test_on_spot_all_of_it_fits_the_notice_and_nobody_hinders_it() -> None:
    plan = changed_plan("medium", SPOT)
    program = run(plan)
    for pool in plan.pools:
        spec = pod(program, "Deployment", pool.name)
        assert spec["terminationGracePeriodSeconds"] <= SPOT_NOTICE_SECONDS
    budgets = {item["metadata"]["name"] for item in program.all("PodDisruptionBudget")}
    assert budgets == {"gateway", "picker"}
    assert any("on Spot running answers get 95 s" in line for line in program.result.warnings)


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_one_worker_at_a_time_may_be_moved(stack: str, name: str) -> None:
    budget = program_of(stack).one("PodDisruptionBudget", name)["spec"]
    assert budget["maxUnavailable"] == 1
    labels = program_of(stack).one("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(("stack", "name"), ENGINES)
def test_the_service_finds_the_pool_s_ready_pods_alone(stack: str, name: str) -> None:
    service = program_of(stack).one("Service", name)["spec"]
    assert service["clusterIP"] == "None" and "publishNotReadyAddresses" not in service
    labels = program_of(stack).one("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    others = [
        item["metadata"]["name"]
        for item in program_of(stack).all("Deployment")
        if service["selector"].items() <= item["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert others == [name]


@pytest.mark.parametrize("stack", STACKS)
def test_every_pod_gives_up_what_it_does_not_need(stack: str) -> None:
    program = program_of(stack)
    for kind, name in pods_of(program):
        spec = pod(program, kind, name)
        assert not problems(spec), (kind, name)
        assert spec["automountServiceAccountToken"] is False
        account = program.one("ServiceAccount", spec["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
        assert account["metadata"]["namespace"] == namespace(program, kind, name)
        assert spec["enableServiceLinks"] is False


def test_the_checks_of_pods_can_fail() -> None:
    spec = {"containers": [{"name": "engine", "securityContext": {"privileged": True}}]}
    assert len(problems(spec)) >= 5


def test_a_model_that_no_store_holds_is_refused() -> None:
    change = {
        "pools": [
            {
                "name": "chat",
                "engine": {
                    "speculation": {"method": "draft_model", "model": "s3://elsewhere/draft"},
                    "lora": [{"name": "tuned", "path": "./tuned"}],
                },
            }
        ],
        "budget": None,
    }
    plan = changed_plan("small", change)
    with pytest.raises(FreeholdError, match=r"s3://elsewhere/draft, \./tuned is not in the store"):
        run(plan)


def with_companions(target: dict[str, Any], draft: str, adapter: str) -> Program:
    engine = {
        "speculation": {"method": "draft_model", "model": draft},
        "lora": [{"name": "tuned", "path": adapter}],
    }
    pools = [{"name": "chat", "engine": engine}]
    return run(changed_plan("onprem", {"pools": pools, "target": target}))


@pytest.mark.parametrize(
    ("source", "draft", "adapter"),
    [
        ("pvc://weights/all", "/models/all/org/draft/main", "/models/all/org/lora/main"),
        ("hub", "org/draft", "org/lora"),
    ],
)
def test_draft_models_and_adapters_come_from_where_the_model_does(
    source: str, draft: str, adapter: str
) -> None:
    program = with_companions({"model_source": source}, "org/draft", "org/lora")
    arguments = container(program, "Deployment", "chat", "engine")["args"]
    given = json.loads(arguments[arguments.index("--speculative-config") + 1])
    assert given["model"] == draft
    assert arguments[arguments.index("--lora-modules") + 1] == f"tuned={adapter}"
    assert flags.parse(arguments).enable_lora


def test_a_draft_model_in_a_bucket_is_streamed_and_an_adapter_is_a_folder() -> None:
    program = with_companions({"model_source": "s3://weights"}, "org/draft", "org/lora")
    arguments = container(program, "Deployment", "chat", "engine")["args"]
    given = json.loads(arguments[arguments.index("--speculative-config") + 1])
    assert given["model"] == "s3://weights/org/draft/main"
    assert arguments[arguments.index("--lora-modules") + 1] == "tuned=/adapters/org/lora"


def pods_of(program: Program) -> list[tuple[str, str]]:
    there = {(item["kind"], item["metadata"]["name"]) for item in program.objects}
    return [each for each in PODS if each in there]


def namespace(program: Program, kind: str, name: str) -> str:
    return program.one(kind, name)["metadata"]["namespace"]


def environment(found: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in found["env"] if "value" in item}


def amount(quantity: str) -> float:
    """Cores, or GiB."""
    if quantity.endswith("m"):
        return float(quantity[:-1]) / 1000
    scale = {"Mi": 1024, "Gi": 1}
    return float(quantity[:-2]) / scale[quantity[-2:]]
