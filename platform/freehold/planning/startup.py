"""Seconds from no node to the first token, by item. Estimates: probes get a multiple of them."""

from __future__ import annotations

from dataclasses import dataclass

from .options import Option, Placed

# From the request for an instance until its node is Ready. Nobody has measured it for this
# release's AMI: a working figure, to be replaced by the first real start.
_NODE_SECONDS = 120.0
# A packed image of 9.5 GB took 334 s to pull and unpack with containerd's defaults
# (terraform-aws-eks-blueprints ml-container-cache, 2026-04).
_IMAGE_GB, _PLAIN_PULL_SECONDS = 9.5, 334.0
# Parallel pull is ignored on sizes below 2xlarge; above it the disk's 1,000 MiB/s or the network
# bounds it (amazon-eks-ami FastImagePull, 2026-07).
_PARALLEL_PULL_VCPU, _PARALLEL_PULL_GBPS = 8, 1.05
# Weights stream from S3 at what the network gives, at most 3 GB/s (Run:ai Model Streamer's
# benchmark, 2024-10: 15 GB in 4.9 s), and no network gives more than four fifths of its name.
_STREAM_GBPS, _NETWORK_YIELD = 3.0, 0.8
# Llama 3.1 8B on an L40S with nothing cached: imports and engine 94 s, Dynamo 10, compilation 42,
# CUDA graphs 54 (tensorfuse.io/docs/blogs/reducing_gpu_cold_start, 2025-09-01).
_IMPORT_SECONDS, _COMPILE_SECONDS, _GRAPH_SECONDS = 94.0, 52.0, 54.0


@dataclass(frozen=True)
class Startup:
    """Seconds, one after the other."""

    node: float
    image: float
    weights: float
    warm_up: float

    @property
    def total(self) -> float:
        return self.node + self.image + self.weights + self.warm_up


def startup(option: Option, placed: Placed, *, owned: bool = False) -> Startup:
    """Of one pool's replica on a fresh node; machines of an existing cluster are there already."""
    instance = option.offer.instance
    network = instance.network_gbps / 8 * _NETWORK_YIELD
    if instance.vcpu >= _PARALLEL_PULL_VCPU:
        image = _IMAGE_GB / min(network, _PARALLEL_PULL_GBPS)
    else:
        image = max(_PLAIN_PULL_SECONDS, _IMAGE_GB / network)
    size = placed.wanted.model.weights(placed.fit.engine.weights).total / 1e9
    warm_up = _IMPORT_SECONDS
    if not placed.fit.engine.eager and placed.wanted.model.role == "generate":
        warm_up += _COMPILE_SECONDS + _GRAPH_SECONDS
    return Startup(
        node=0.0 if owned else _NODE_SECONDS,
        image=image,
        weights=size / min(network, _STREAM_GBPS),
        warm_up=warm_up,
    )
