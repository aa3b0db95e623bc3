"""Pools that Bedrock serves, from a cluster: only the gateway runs, and signs with its pods' own role."""

from __future__ import annotations

from freehold.config.bedrock import BedrockTarget
from freehold.gateway.model import Hosted, Pool
from freehold.gateway.rollout import rollout_of
from freehold.planning.plan import HostedModel, Plan, PoolPlan

# In Envoy's official image (its Dockerfile installs ca-certificates).
_TRUSTED_CA = "/etc/ssl/certs/ca-certificates.crt"


def hosted_pool(plan: Plan, pool: PoolPlan, hosted: HostedModel) -> Pool:
    host, port = address_of(plan)
    return Pool(
        name=pool.name,
        role=pool.role,
        models=(pool.name,),
        aliases=dict.fromkeys(pool.aliases, pool.name),
        hosted=Hosted(hosted.id, hosted.region, host, _TRUSTED_CA, port, "pod_identity"),
        rollout=rollout_of(pool.rollout),
    )


def address_of(plan: Plan) -> tuple[str, int]:
    assert isinstance(plan.target, BedrockTarget)
    return plan.target.address


def runs_engines(plan: Plan) -> bool:
    return any(pool.hosted is None for pool in plan.pools)
