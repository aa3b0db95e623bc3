"""The Envoy v3 bootstrap of a gateway, as data that is JSON at once."""

from __future__ import annotations

from .access_log import access_log
from .bedrock import bedrock_cluster
from .clusters import plain_cluster, pool_cluster
from .filters import http_filters, router
from .model import Address, Certificate, Gateway, Pool
from .names import Json, any_proto, typed
from .overload import listener_bounds, overload_manager, timeouts
from .picking import picker_cluster
from .refusals import local_replies
from .reports import bad_answers
from .routes import route_configuration
from .usage import usage_counters

_ADMIN = "admin"
# All that the admin port answers: no configuration dump (it holds the keys), no switches.
_ADMIN_PATHS = r"/ready|/stats(/prometheus)?(\?.*)?"
_DRAIN_PATH = r"|/drain_listeners(\?.*)?"
# The list of served paths is one regular expression of 107 RE2 steps; Envoy's own limit is 100.
_RUNTIME = {"re2.max_program_size.error_level": 1000}


def bootstrap(gateway: Gateway) -> Json:
    """The whole configuration. It holds the keys: write it where only its owner can read it."""
    door = _listener("door", (gateway.host, gateway.port), _door(gateway), gateway.certificate)
    listeners = [{**door, **listener_bounds()}]
    clusters = [_cluster(pool, gateway) for pool in gateway.pools]
    if gateway.picker:
        standby = [gateway.picker_standby] if gateway.picker_standby else []
        clusters.append(picker_cluster(gateway.picker, *standby))
    if gateway.stats:
        stats = _listener("stats", gateway.stats, _stats())
        # Probes and scrapes get in when the door is full.
        listeners.append({**stats, "ignore_global_conn_limit": True})
        clusters.append(plain_cluster(_ADMIN, ("127.0.0.1", gateway.admin_port)))
    admin_paths = _ADMIN_PATHS + (_DRAIN_PATH if gateway.drainable else "")
    return {
        "node": {"id": "gateway", "cluster": "freehold"},
        "admin": {
            "address": _address(("127.0.0.1", gateway.admin_port)),
            "allow_paths": [{"safe_regex": {"regex": admin_paths}}],
            "ignore_global_conn_limit": True,
        },
        "overload_manager": overload_manager(),
        "layered_runtime": {"layers": [{"name": "static", "static_layer": _RUNTIME}]},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _cluster(pool: Pool, gateway: Gateway) -> Json:
    if pool.hosted:
        return bedrock_cluster(pool, pool.hosted, gateway.max_body_bytes)
    return pool_cluster(pool)


def _door(gateway: Gateway) -> Json:
    return _connection_manager(
        "door",
        route_config=route_configuration(gateway),
        http_filters=http_filters(gateway),
        local_reply_config=local_replies(gateway),
        access_log=[
            access_log(gateway.access_log),
            *usage_counters(),
            *([bad_answers()] if gateway.picker else []),
        ],
        early_header_mutation_extensions=[_strip_internal_headers()],
        # Paths are matched as sent (exact ones only), so there is nothing to normalise.
        normalize_path=False,
        merge_slashes=False,
        # The client's own x-request-id, or a new one, all the way down and back.
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        use_remote_address=True,
        server_header_transformation="PASS_THROUGH",
        **timeouts(),
    )


def _stats() -> Json:
    routes = [
        {"match": {"path": path}, "route": {"cluster": _ADMIN}}
        for path in ("/ready", "/stats/prometheus")
    ]
    virtual_host = {"name": "stats", "domains": ["*"], "routes": routes}
    return _connection_manager(
        "stats", route_config={"virtual_hosts": [virtual_host]}, http_filters=[router()]
    )


def _strip_internal_headers() -> Json:
    """What only Envoy and the picker may say is dropped before anything reads it."""
    prefixes = ("x-gateway-", "x-envoy-")
    return typed(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in prefixes],
    )


def _listener(
    name: str,
    address: Address,
    connection_manager: Json,
    certificate: Certificate | None = None,
) -> Json:
    chain: Json = {"filters": [connection_manager]}
    if certificate:
        chain["transport_socket"] = _tls(certificate)
    return {"name": name, "address": _address(address), "filter_chains": [chain]}


def _tls(certificate: Certificate) -> Json:
    pair = {
        "certificate_chain": {"filename": certificate.chain},
        "private_key": {"filename": certificate.key},
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": any_proto(
            "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context={"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]},
        ),
    }


def _connection_manager(name: str, **fields: object) -> Json:
    return typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        **fields,
    )


def _address(address: Address) -> Json:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}
