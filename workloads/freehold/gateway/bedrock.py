"""Pools whose model Bedrock serves: the same door, but requests leave signed for AWS.

Bedrock answers OpenAI's Chat Completions under `/openai/v1` of its runtime endpoint. What `model` takes
there, and why the name is rewritten, is in docs/decisions/0060-bedrock.md.
"""

from __future__ import annotations

from .model import Credentials, Hosted, Pool, is_ip
from .names import DESTINATION, LOT, PREFIX, SESSION, WORKER, Json, any_proto, typed

_SERVICE = "bedrock"
"""What SigV4 signs for; the host is `bedrock-runtime`."""
_PATH = "/openai/v1/chat/completions"
# Below the minute after which load balancers close what idles (AWS's default): no request is sent into a
# connection that is just being closed.
_IDLE_CONNECTION_SECONDS = 30
# Ours, the client's address, and whatever a client may have put where the signature goes.
_NOT_SENT = (
    SESSION,
    WORKER,
    PREFIX,
    DESTINATION,
    LOT,
    "cookie",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
)

# A request that has not begun to be answered, and a refusal for want of capacity (503). Not 429: that
# is the account's quota, and trying again at once makes it worse.
_RETRY = {
    "retry_on": "connect-failure,refused-stream,reset-before-request,retriable-status-codes",
    "retriable_status_codes": [503],
    "num_retries": 1,
}


def bedrock_route(pool: Pool, hosted: Hosted) -> Json:
    """Where a request of the pool goes; signed by the cluster, once for each attempt."""
    return {
        "route": {
            "cluster": pool.name,
            "timeout": "0s",  # an answer takes as long as it takes
            "host_rewrite_literal": hosted.authority,
            "prefix_rewrite": _PATH,  # the one path that the route matches
            "retry_policy": _RETRY,
        },
        "request_headers_to_remove": list(_NOT_SENT),
    }


def bedrock_cluster(pool: Pool, hosted: Hosted, max_body_bytes: int) -> Json:
    """TLS to Bedrock, its certificate checked. No health check: each would be a bill or a refusal."""
    address = {"socket_address": {"address": hosted.host, "port_value": hosted.port}}
    by_name = {
        "type": "LOGICAL_DNS",
        "respect_dns_ttl": True,
        "dns_lookup_family": "V4_PREFERRED",
    }
    return {
        "name": pool.name,
        **({"type": "STATIC"} if is_ip(hosted.host) else by_name),
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": pool.name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        # The body is part of what is signed, so it is held whole; beyond this it would be a 413.
        "per_connection_buffer_limit_bytes": max_body_bytes,
        "transport_socket": _tls(hosted),
        "typed_extension_protocol_options": _signed(hosted),
    }


def _tls(hosted: Hosted) -> Json:
    name = {"san_type": "IP_ADDRESS" if is_ip(hosted.host) else "DNS"}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": any_proto(
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            **({} if is_ip(hosted.host) else {"sni": hosted.host}),
            common_tls_context={
                "validation_context": {
                    "trusted_ca": {"filename": hosted.trusted_ca},
                    "match_typed_subject_alt_names": [{**name, "matcher": {"exact": hosted.host}}],
                }
            },
        ),
    }


def _signed(hosted: Hosted) -> Json:
    """After the route has put everything in its place: what is signed is what is sent."""
    signing = typed(
        "envoy.filters.http.aws_request_signing",
        "envoy.extensions.filters.http.aws_request_signing.v3.AwsRequestSigning",
        service_name=_SERVICE,
        region=hosted.region,
        credential_provider=_CREDENTIALS[hosted.credentials],
        # Envoy may still change these.
        match_excluded_headers=[{"prefix": "x-envoy-"}, {"exact": "x-request-id"}],
    )
    codec = typed(
        "envoy.filters.http.upstream_codec",
        "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    )
    options = any_proto(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": f"{_IDLE_CONNECTION_SECONDS}s"},
        http_filters=[signing, codec],
    )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}


# Only these are asked: on a laptop nobody answers at the address of an instance's metadata.
_CREDENTIALS: dict[Credentials, Json] = {
    "own": {
        "custom_credential_provider_chain": True,
        "environment_credential_provider": {},
        "credentials_file_provider": {},
    },
    "pod_identity": {
        "custom_credential_provider_chain": True,
        "container_credential_provider": {},
    },
}
