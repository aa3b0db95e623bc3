"""Names that several parts of the Envoy configuration share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

# Dynamic metadata cannot be sent by a client, so what routes is kept there: the body's model, or what
# is wrong with the body. And what the body says of `stream` and of `stream_options.include_usage`.
BODY = "freehold.body"
MODEL, FAULT = "model", "fault"
STREAM, USAGE_ASKED = "stream", "usage-asked"
NOT_JSON, NO_MODEL = "not-json", "no-model"

# Where Envoy's RBAC filter leaves the name of the rule that let a request in: the tenant.
RBAC = "envoy.filters.http.rbac"
TENANT = "enforced_effective_policy_id"

# Endpoint Picker Protocol: where the picker puts the chosen `host:port[,host:port]`.
DESTINATION = "x-gateway-destination-endpoint"
WORKER = "x-freehold-worker"
SESSION = "x-session-id"
# What engines are called in `Host`, whatever a client calls the gateway.
ENGINE_HOST = "engine"
PICKER_AGENT = "freehold-picker"
"""How the picker's own requests to engines call themselves, in place of a browser."""
# Which pool answered.
POOL = "x-freehold-pool"
# Where the client's session, or else chance, falls between 0 and LOTS: below a rollout's share its pool
# answers. Set in every request while there is a rollout.
LOT = "x-gateway-lot"
LOTS = 10_000
# Hash of the body's beginning, for the ring when no picker spoke.
PREFIX = "x-gateway-prefix"


# Filters that routes switch off by name.
BODY_FILTER = "envoy.filters.http.buffer"
PICKER_FILTER = "envoy.filters.http.ext_proc"
SEAL_FILTER = "seal"
USAGE_FILTER = "usage"
ASK_FILTER = "ask for usage"


def any_proto(type_name: str, **fields: Any) -> Json:
    """A `google.protobuf.Any` in JSON form."""
    return {"@type": f"type.googleapis.com/{type_name}", **fields}


def metadata_is(namespace: str, key: str, values: Sequence[str]) -> Json:
    """A metadata matcher: the value at `namespace`, `key` is one of `values`."""
    exact = [{"string_match": {"exact": value}} for value in values]
    value = exact[0] if len(exact) == 1 else {"or_match": {"value_matchers": exact}}
    return {"filter": namespace, "path": [{"key": key}], "value": value}


def metadata_present(namespace: str, key: str) -> Json:
    return {"filter": namespace, "path": [{"key": key}], "value": {"present_match": True}}


def lua(name: str, script: str) -> Json:
    """An HTTP filter that is a script."""
    return typed(
        name,
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": script},
    )


def cel(expression: str) -> Json:
    """A filter of an access log or a local reply: an expression over Envoy's attributes."""
    condition = typed(
        "cel",
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        expression=expression,
    )
    return {"extension_filter": condition}


def typed(name: str, type_name: str, **fields: Any) -> Json:
    """A named extension with its configuration."""
    return {"name": name, "typed_config": any_proto(type_name, **fields)}
