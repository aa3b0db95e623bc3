"""The container that runs an engine: the laptop's command line, on a cluster's files and GPUs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Identity, ModelSource, Scheduling
from freehold.config.cache import KvCache
from freehold.config.engine import DraftModelSpeculation, Eagle3Speculation
from freehold.config.errors import FreeholdError
from freehold.engine.command_line import command_line
from freehold.engine.settings import EngineSettings, LmcacheTransfer
from freehold.planning.host import HostNeed
from freehold.planning.plan import PoolPlan

from .adapters import adapter_folder, adapters_mount, adapters_volume, fetched_adapters
from .drain import Drain
from .kv_cache import cache_need, on_nodes
from .names import ENGINE_PORT, NIXL_DATA_PORTS, NIXL_PORT
from .pods import cpu, empty_dir, memory, mount, variables_from
from .probes import liveness_probe, readiness_probe, startup_probe
from .security import container_security

SourceKind = Literal["s3", "pvc", "hub"]
_WITH_MODEL = (DraftModelSpeculation, Eagle3Speculation)
MODULE = "vllm.entrypoints.openai.api_server"
_MODELS = "/models"
_HOME = "/home/freehold"
# The host memory that the plan sets aside for a GPU worker has not been measured (planning/host.py):
# twice as much before an engine is killed for it, so that only a leak ends so.
_MEMORY_LIMIT_FACTOR = 2
# NCCL and vLLM's message queues between ranks: 160 MiB a queue (vLLM 0.32, VLLM_MQ_MAX_CHUNK_BYTES_MB
# times ten chunks) and some tens of MiB a pair of ranks. It is a bound: memory counts when written.
_SHM_GIB_PER_RANK = 2.0
# Compiled graphs and kernels, tokenizers.
_HOME_GIB = 20.0


def engine_arguments(
    settings: EngineSettings,
    kind: SourceKind,
    uri: str,
    companions: Mapping[str, str],
    drain: Drain,
) -> list[str]:
    """vLLM's arguments, from the builder that the laptop uses, for weights at `uri` of a source."""
    options = settings.options
    speculation = options.speculation
    if isinstance(speculation, _WITH_MODEL):
        draft = _place(kind, companions.get(speculation.model)) or speculation.model
        speculation = speculation.model_copy(update={"model": draft})
    lora = [
        adapter.model_copy(update={"path": _adapter_place(kind, adapter.path, companions)})
        if adapter.path in companions
        else adapter
        for adapter in options.lora
    ]
    settings = dataclasses.replace(
        settings,
        model=_place(kind, uri) or uri,
        # A folder and a prefix hold one revision; the hub has many.
        revision=settings.revision if kind == "hub" else None,
        load_format="runai_streamer" if kind == "s3" else settings.load_format,
        options=options.model_copy(
            update={
                "shutdown_timeout": drain.engine,
                "speculation": speculation,
                "lora": lora,
            }
        ),
    )
    return [*command_line(settings), "--host", "0.0.0.0", "--port", str(ENGINE_PORT)]


def _place(kind: SourceKind, uri: str | None) -> str | None:
    """As the engine sees it: a claim is mounted."""
    return f"{_MODELS}/{uri.strip('/')}" if kind == "pvc" and uri else uri


def _adapter_place(kind: SourceKind, name: str, companions: Mapping[str, str]) -> str | None:
    """vLLM takes adapters from folders alone, so those of a bucket are copied to one."""
    return adapter_folder(name) if kind == "s3" else _place(kind, companions[name])


def check_companions(pool: PoolPlan, source: ModelSource) -> None:
    """Refuse a draft model or adapter that no engine of this pool could read at start."""
    if source.kind == "hub":
        return
    speculation = pool.settings.options.speculation
    named = [speculation.model] if isinstance(speculation, _WITH_MODEL) else []
    named += [adapter.path for adapter in pool.settings.options.lora]
    away = [name for name in named if name not in source.companions and not name.startswith("/")]
    if away:
        raise FreeholdError(
            f"pool {pool.name}: {', '.join(away)} is not in the store that engines of this target read "
            "from: name a repository of the hub (ORG/NAME), which lies there beside the model, or a "
            "folder of the image (/...)"
        )


def engine_container(
    pool: PoolPlan,
    cache: KvCache | None,
    source: ModelSource,
    identity: Identity,
    scheduling: Scheduling,
    image: pulumi.Input[str],
    drain: Drain,
) -> k8s.core.v1.ContainerArgs:
    assert pool.sizing is not None
    arguments = pulumi.Output.all(source.uri, dict(source.companions)).apply(
        lambda known: engine_arguments(pool.settings, source.kind, known[0], known[1], drain)
    )
    return k8s.core.v1.ContainerArgs(
        name="engine",
        image=image,
        command=["python3", "-m", MODULE],
        args=arguments,
        env=[*_environment(source), *_handover_environment(pool)],
        # Most models of the hub need no token, so nobody need make the Secret.
        env_from=variables_from(identity, optional=source.kind == "hub"),
        ports=[k8s.core.v1.ContainerPortArgs(name="http", container_port=ENGINE_PORT)],
        startup_probe=startup_probe(pool.sizing.startup),
        readiness_probe=readiness_probe(),
        liveness_probe=liveness_probe(),
        lifecycle=k8s.core.v1.LifecycleArgs(
            pre_stop=k8s.core.v1.LifecycleHandlerArgs(
                sleep=k8s.core.v1.SleepActionArgs(seconds=drain.pre_stop)
            )
        ),
        resources=_resources(pool, cache, scheduling),
        security_context=container_security(),
        volume_mounts=[*_mounts(pool, source)],
    )


def _environment(source: ModelSource) -> Iterator[k8s.core.v1.EnvVarArgs]:
    values: dict[str, pulumi.Input[str]] = {
        "HOME": _HOME,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "LMCACHE_TRACK_USAGE": "false",
        "PYTHONHASHSEED": "0",  # prefix hashes must agree between workers
        **source.environment,
    }
    if source.kind != "hub":
        values["HF_HUB_OFFLINE"] = "1"
    for name, value in values.items():
        yield k8s.core.v1.EnvVarArgs(name=name, value=value)
    yield _pod_ip("VLLM_HOST_IP")


def _pod_ip(name: str) -> k8s.core.v1.EnvVarArgs:
    return k8s.core.v1.EnvVarArgs(
        name=name,
        value_from=k8s.core.v1.EnvVarSourceArgs(
            field_ref=k8s.core.v1.ObjectFieldSelectorArgs(field_path="status.podIP")
        ),
    )


def _handover_environment(pool: PoolPlan) -> Iterator[k8s.core.v1.EnvVarArgs]:
    """Where NIXL hands the KV cache from worker to worker, on ports that network policies open."""
    if pool.disaggregation is None:
        return
    first, last = NIXL_DATA_PORTS
    values = {
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(NIXL_PORT),
        "UCX_TCP_PORT_RANGE": f"{first}-{last}",
    }
    if not pool.disaggregation.transfer.measured:
        # What the plan computes with. Left to itself UCX would try a GPU's own way to a pod beside it,
        # which needs what pods do not share.
        values["UCX_TLS"] = "tcp,cuda_copy"
    for name, value in values.items():
        yield k8s.core.v1.EnvVarArgs(name=name, value=value)
    yield _pod_ip("VLLM_NIXL_SIDE_CHANNEL_HOST")


def engine_need(pool: PoolPlan, cache: KvCache | None) -> HostNeed:
    """The engine's part of what the plan sets aside for the pod."""
    assert pool.sizing is not None
    whole = pool.sizing.host
    if not has_cache(pool, cache) or cache is None:
        return whole
    beside = cache_need(cache)
    return HostNeed(
        whole.vcpu - beside.vcpu,
        whole.ram_gib - beside.ram_gib,
        whole.nvme_gib - beside.nvme_gib,
    )


def has_cache(pool: PoolPlan, cache: KvCache | None) -> bool:
    """Whether LMCache's server keeps KV cache for it, beside it or once a node."""
    return cache is not None and isinstance(pool.settings.kv_transfer, LmcacheTransfer)


def has_sidecar(pool: PoolPlan, cache: KvCache | None) -> bool:
    return has_cache(pool, cache) and not on_nodes(cache)


def _resources(
    pool: PoolPlan, cache: KvCache | None, scheduling: Scheduling
) -> k8s.core.v1.ResourceRequirementsArgs:
    assert pool.placement is not None
    need = engine_need(pool, cache)
    gpus = {scheduling.gpu_resource: str(pool.placement.gpus_per_replica)}
    return k8s.core.v1.ResourceRequirementsArgs(
        requests={"cpu": cpu(need.vcpu), "memory": memory(need.ram_gib), **gpus},
        limits={"memory": memory(need.ram_gib * _MEMORY_LIMIT_FACTOR), **gpus},
    )


def _mounts(pool: PoolPlan, source: ModelSource) -> Iterator[k8s.core.v1.VolumeMountArgs]:
    yield mount("home", _HOME)
    yield mount("tmp", "/tmp")
    yield mount("shm", "/dev/shm")
    if source.kind == "pvc":
        yield mount("models", _MODELS, read_only=True)
    if fetched_adapters(pool, source):
        yield adapters_mount()


def engine_volumes(pool: PoolPlan, source: ModelSource) -> list[k8s.core.v1.VolumeArgs]:
    assert pool.placement is not None and pool.sizing is not None
    downloaded = 1.1 * pool.sizing.weights_gib if source.kind == "hub" else 0.0
    volumes = [
        empty_dir("home", memory(_HOME_GIB + downloaded)),
        empty_dir("tmp", "5Gi"),
        empty_dir("shm", memory(_SHM_GIB_PER_RANK * pool.placement.gpus_per_replica), "Memory"),
    ]
    if source.kind == "pvc":
        assert source.claim is not None
        claim = k8s.core.v1.PersistentVolumeClaimVolumeSourceArgs(
            claim_name=source.claim, read_only=True
        )
        volumes.append(k8s.core.v1.VolumeArgs(name="models", persistent_volume_claim=claim))
    if names := fetched_adapters(pool, source):
        volumes.append(adapters_volume(names))
    return volumes
