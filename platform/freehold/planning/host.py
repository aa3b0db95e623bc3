"""What engines need of a node beside its GPUs, so that their pods do schedule."""

from __future__ import annotations

from dataclasses import dataclass

from freehold.catalog.instances import Instance
from freehold.config.cache import KvCache
from freehold.config.stack import ModelPool

# One each for the API server, the engine core and every GPU worker, all of which poll (vLLM
# docs/design/arch_overview.md). A pooling engine answers in one step and waits in between: one.
_ENGINE_VCPU, _WORKER_VCPU, _POOLING_VCPU = 2.0, 1.0, 1.0
# API server and engine core, resident (measured on vLLM 0.32's CPU build, 2026-11-23: 0.9 + 1.4);
# a GPU worker's CUDA libraries and pinned buffers have not been measured: 2 GiB are set aside.
_ENGINE_GIB, _WORKER_GIB = 2.3, 2.0
# LMCache's server beside the memory that it is given (resident, measured 2026-11-23).
_CACHE_SERVER_GIB, _CACHE_SERVER_VCPU = 0.5, 0.5

# What a node keeps: EKS reserves 0.06 vCPU and falling a core, 255 MiB + 11 MiB a possible pod, and
# evicts below 100 MiB (amazon-eks-ami nodeadm); DaemonSets (VPC CNI, kube-proxy, device plugin, DCGM
# exporter, node monitoring) ask 0.3 vCPU and 0.5 GiB together.
_DAEMONS_VCPU, _DAEMONS_GIB = 0.3, 0.5
# Images and logs lie on the node's own disk too; the engine's image is 20 GB unpacked.
_IMAGES_GIB = 60


@dataclass(frozen=True)
class HostNeed:
    """Requests of a replica's pod."""

    vcpu: float
    ram_gib: float
    nvme_gib: float = 0.0
    """Of the node's own disk."""

    def __add__(self, other: HostNeed) -> HostNeed:
        return HostNeed(
            self.vcpu + other.vcpu,
            self.ram_gib + other.ram_gib,
            self.nvme_gib + other.nvme_gib,
        )


def engine_need(pool: ModelPool, gpus: int, cache: KvCache | None) -> HostNeed:
    """One replica on `gpus` GPUs, its LMCache sidecar included where it has one."""
    if pool.role != "generate":
        return HostNeed(_POOLING_VCPU, _ENGINE_GIB + _WORKER_GIB * gpus)
    offload = pool.engine.kv_offload_gib or 0.0
    need = HostNeed(_ENGINE_VCPU + _WORKER_VCPU * gpus, _ENGINE_GIB + _WORKER_GIB * gpus + offload)
    if cache is None or pool.disaggregated:  # whose KV cache goes to the other workers alone
        return need
    return need + HostNeed(
        _CACHE_SERVER_VCPU, _CACHE_SERVER_GIB + cache.host_memory_gib, cache.nvme_gib or 0.0
    )


def allocatable(instance: Instance) -> HostNeed:
    """What pods of ours may ask for on this node."""
    reserved_vcpu = 0.06 + 0.01 * (instance.vcpu > 1) + 0.005 * min(2, max(0, instance.vcpu - 2))
    reserved_vcpu += 0.0025 * max(0, instance.vcpu - 4)
    reserved_gib = (255 + 11 * instance.max_pods + 100) / 1024
    # The kernel and firmware keep 4 % of what the specification says (g6e.xlarge: 30.8 of 32 GiB).
    return HostNeed(
        instance.vcpu - reserved_vcpu - _DAEMONS_VCPU,
        instance.ram_gib * 0.96 - reserved_gib - _DAEMONS_GIB,
        instance.nvme_gb * 1e9 / 2**30 - _IMAGES_GIB,
    )


def replicas_that_fit(instance: Instance, need: HostNeed) -> int:
    """By CPU, memory and disk alone."""
    has = allocatable(instance)
    fits = min(has.vcpu / need.vcpu, has.ram_gib / need.ram_gib)
    if need.nvme_gib:
        fits = min(fits, has.nvme_gib / need.nvme_gib)
    return max(0, int(fits))
