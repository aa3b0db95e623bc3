"""Who may come in, and how often: Envoy's RBAC and local rate limit filters.

Envoy's `api_key_auth` would be shorter, but is alpha in 1.40; RBAC is stable and hardened against
untrusted clients, and leaves the name of the rule that matched, which is the tenant, where routes,
limits and the access log read it."""

from __future__ import annotations

from .model import ApiKey, Gateway
from .names import RBAC, TENANT, Json, any_proto, typed


def authentication(keys: tuple[ApiKey, ...]) -> Json:
    """Lets in the exact header of a known key and refuses everything else (as a 401: refusals)."""
    header = any_proto("envoy.type.matcher.v3.HttpRequestHeaderMatchInput")
    tree = {
        "input": {
            "name": "authorization",
            "typed_config": {**header, "header_name": "authorization"},
        },
        "exact_match_map": {
            "map": {f"Bearer {key.secret}": _action(key.tenant, "ALLOW") for key in keys}
        },
    }
    return typed(
        RBAC,
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        matcher={"matcher_tree": tree, "on_no_match": _action("nobody", "DENY")},
    )


def _action(name: str, action: str) -> Json:
    config = any_proto("envoy.config.rbac.v3.Action", name=name, action=action)
    return {"action": {"name": name, "typed_config": config}}


def rate_limits(gateway: Gateway) -> Json:
    """One token bucket for each tenant with a limit: a minute's worth at once, then evenly.

    Envoy counts for itself alone, so each replica gets its share of the limit."""
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    tenant = {"metadata_key": {"key": RBAC, "path": [{"key": TENANT}]}, "descriptor_key": "tenant"}
    return typed(
        "envoy.filters.http.local_ratelimit",
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="keys",
        filter_enabled=always,
        filter_enforced=always,
        always_consume_default_token_bucket=False,
        # Applies to tenants without a limit of their own: as good as none.
        token_bucket=_bucket(2**31, 1.0),
        rate_limits=[{"actions": [{"metadata": tenant}]}],
        descriptors=[
            {
                "entries": [{"key": "tenant", "value": key.tenant}],
                "token_bucket": _bucket(*_share(key.requests_per_minute, gateway.replicas)),
            }
            for key in gateway.keys
            if key.requests_per_minute is not None
        ],
    )


def _share(requests_per_minute: int, replicas: int) -> tuple[int, float]:
    """Bucket size and seconds a minute's worth takes to refill, for one of `replicas` gateways."""
    size = max(1, requests_per_minute // replicas)
    return size, 60.0 * size * replicas / requests_per_minute


def _bucket(size: int, refill_seconds: float) -> Json:
    return {
        "max_tokens": size,
        "tokens_per_fill": size,
        "fill_interval": f"{refill_seconds:.3f}s",
    }
