"""Envoy's side of the endpoint picker: `ext_proc`, after the Endpoint Picker Protocol of the Gateway
API Inference Extension, so that another picker that speaks it can take its place."""

from __future__ import annotations

from .clusters import grpc_cluster
from .model import Address
from .names import BODY, LOT, PICKER_FILTER, SESSION, Json, typed

CLUSTER = "picker"

# The most a frozen picker adds to a request until its health check ejects it. A healthy one answers
# in 1 to 2 ms (measured 2026-11-23, Python picker, Envoy 1.40, bodies up to 200 KB).
MESSAGE_TIMEOUT_SECONDS = 0.05
# Ejected after two failed checks, back after one good one.
_CHECK_SECONDS = 0.25


def endpoint_picker() -> Json:
    """Sends headers and the whole body, takes back the worker's address and the body's model. With the
    picker away the request goes on without (`failure_mode_allow`)."""
    return typed(
        PICKER_FILTER,
        "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": CLUSTER}},
        failure_mode_allow=True,
        message_timeout=f"{MESSAGE_TIMEOUT_SECONDS}s",
        processing_mode={
            "request_header_mode": "SEND",
            "request_body_mode": "BUFFERED",
            "response_header_mode": "SEND",
            "response_body_mode": "NONE",
        },
        # Who served in the end, which after a retry need not be the picker's first choice.
        response_attributes=["upstream.address"],
        metadata_options={"receiving_namespaces": {"untyped": [BODY]}},
        # All that the picker needs; above all not the key.
        forward_rules={
            "allowed_headers": {"patterns": [{"exact": name} for name in (":path", SESSION, LOT)]}
        },
    )


def picker_cluster(*addresses: Address) -> Json:
    return grpc_cluster(CLUSTER, list(addresses), _CHECK_SECONDS)
