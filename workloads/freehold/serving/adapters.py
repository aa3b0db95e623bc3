"""LoRA adapters of an S3 store: copied to the node's disk before the engine starts.

vLLM streams models and drafts from a bucket, and reads adapters from folders alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Identity, ModelSource
from freehold.planning.plan import PoolPlan

from .pods import empty_dir, memory, mount, variables_from
from .security import container_security

_FOLDER = "/adapters"
_VOLUME = "adapters"
# A bound: disk counts when written. The largest that vLLM takes is of rank 512: in every linear layer of
# a 70B model (Llama's shapes) 6.6 billion numbers, 25 GiB where they were saved in 32 bits.
_GIB_EACH = 25.0


def adapter_folder(name: str) -> str:
    """Where the engine finds an adapter that the stack file calls `name`."""
    return f"{_FOLDER}/{name}"


def fetched_adapters(pool: PoolPlan, source: ModelSource) -> list[str]:
    """Adapters that are copied before the engine starts, as the stack file calls them, each once."""
    if source.kind != "s3":
        return []
    named = [adapter.path for adapter in pool.settings.options.lora]
    return [*dict.fromkeys(name for name in named if name in source.companions)]


def adapters_container(
    names: Sequence[str], source: ModelSource, identity: Identity, image: pulumi.Input[str]
) -> k8s.core.v1.ContainerArgs:
    """The init container; it reads the store as the engine does, and asks for less than the engine."""
    environment: dict[str, pulumi.Input[str]] = {
        **source.environment,
        # vLLM's image asks for every GPU of its node.
        "NVIDIA_VISIBLE_DEVICES": "void",
    }
    return k8s.core.v1.ContainerArgs(
        name="adapters",
        image=image,
        command=["python3", "-m", "freehold.engine.fetch_adapters"],
        args=[word for name in names for word in (source.companions[name], adapter_folder(name))],
        env=[k8s.core.v1.EnvVarArgs(name=key, value=value) for key, value in environment.items()],
        env_from=variables_from(identity),
        # A copy of 300 MiB took 125 MiB of memory at most (measured 2026-11-24).
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": "250m", "memory": "256Mi"}, limits={"memory": "1Gi"}
        ),
        security_context=container_security(),
        volume_mounts=[mount(_VOLUME, _FOLDER)],
    )


def adapters_mount() -> k8s.core.v1.VolumeMountArgs:
    """The engine's."""
    return mount(_VOLUME, _FOLDER, read_only=True)


def adapters_volume(names: Sequence[str]) -> k8s.core.v1.VolumeArgs:
    return empty_dir(_VOLUME, memory(_GIB_EACH * len(names)))
