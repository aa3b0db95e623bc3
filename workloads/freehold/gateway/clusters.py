"""Where requests go: one Envoy cluster a pool, with its policy, its health and its limits."""

from __future__ import annotations

from .model import Address, Policy, Pool, Worker, is_ip
from .names import DESTINATION, ENGINE_HOST, Json, any_proto, typed
from .overload import BUFFER_BYTES

# Envoy's limits are for services that must be protected from it; engines queue and refuse by
# themselves. The default of 1,024 let held requests bypass the picker (seen 2026-11-23, Envoy 1.40).
UNLIMITED = 1_000_000

# Dead workers leave within seconds: a refused connection fails a check at once, so three seconds. One
# that hangs fails after the timeout, which is long because an engine that tokenizes a long prompt may
# not answer for a while and must not be thrown out for that.
_CHECK_INTERVAL_SECONDS = 1
_CHECK_TIMEOUT_SECONDS = 5
_FAILED_CHECKS = 3

# A worker holds at most 1.25 times the mean of requests in flight: the bound that was best or near
# best on every workload measured 2026-11-23.
HASH_BALANCE_FACTOR = 125

# Kept below the 5 s after which vLLM's server closes an idle connection, so that no request is sent
# into one that is just being closed.
_IDLE_CONNECTION_SECONDS = 4


def pool_cluster(pool: Pool) -> Json:
    return {
        "name": pool.name,
        **_endpoints(pool),
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "load_balancing_policy": {"policies": [_chosen_worker(pool.policy)]},
        "circuit_breakers": unlimited(),
        "health_checks": [_health_check(pool.health_path)],
        "outlier_detection": _outlier_detection(),
        # Send to workers that fail their checks only when all do: 1 % is below one in 64.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "typed_extension_protocol_options": _http1(),
        # A machine that vanishes closes no connection; its streams end 25 s later.
        "upstream_connection_options": {
            "tcp_keepalive": {
                "keepalive_time": 10,
                "keepalive_interval": 5,
                "keepalive_probes": 3,
            }
        },
    }


def grpc_cluster(name: str, addresses: list[Address], check_seconds: float) -> Json:
    """One gRPC service, never waited for when it fails its health check. The first address serves
    while it is healthy, then the next."""
    by_priority = [
        {"priority": priority, "lb_endpoints": [{"endpoint": _endpoint(*address)}]}
        for priority, address in enumerate(addresses)
    ]
    return {
        "name": name,
        **_endpoint_type(addresses),
        "connect_timeout": f"{check_seconds}s",
        "load_assignment": {"cluster_name": name, "endpoints": by_priority},
        "circuit_breakers": unlimited(),
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [
            {
                "timeout": f"{check_seconds}s",
                "interval": f"{check_seconds}s",
                "no_traffic_interval": f"{check_seconds}s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        "typed_extension_protocol_options": _protocol({"http2_protocol_options": {}}),
    }


def plain_cluster(name: str, address: Address) -> Json:
    return {
        "name": name,
        **_endpoint_type([address]),
        "load_assignment": _assignment(name, [_endpoint(*address)]),
    }


def unlimited() -> Json:
    limits = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), UNLIMITED
    )
    return {"thresholds": [limits]}


def _endpoints(pool: Pool) -> Json:
    if pool.discovery:
        address = (pool.discovery.hostname, pool.discovery.port)
        endpoints = [_endpoint(*address)]
        return {**_endpoint_type([address]), "load_assignment": _assignment(pool.name, endpoints)}
    return {
        **_endpoint_type([(worker.host, worker.port) for worker in pool.workers]),
        "load_assignment": _assignment(pool.name, [_worker(worker) for worker in pool.workers]),
    }


def _endpoint_type(addresses: list[Address]) -> Json:
    if all(is_ip(host) for host, _ in addresses):
        return {"type": "STATIC"}
    # Pods come and go: their names are looked up again every 5 s, whatever the record's time to live.
    return {"type": "STRICT_DNS", "dns_refresh_rate": "5s", "dns_lookup_family": "V4_PREFERRED"}


def _assignment(name: str, endpoints: list[Json]) -> Json:
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": endpoint} for endpoint in endpoints]}],
    }


def _worker(worker: Worker) -> Json:
    return {**_endpoint(worker.host, worker.port), "hostname": worker.name}


def _endpoint(host: str, port: int) -> Json:
    return {"address": {"socket_address": {"address": host, "port_value": port}}}


def _chosen_worker(policy: Policy) -> Json:
    """The worker that the picker or a pin names; the pool's own policy where none is named."""
    return _lb(
        "override_host.v3.OverrideHost",
        override_host_sources=[{"header": DESTINATION}],
        fallback_policy={"policies": [_balanced(policy)]},
    )


def _balanced(policy: Policy) -> Json:
    match policy:
        case "prefix" | "session":
            bounded = {"hash_balance_factor": HASH_BALANCE_FACTOR}
            return _lb("ring_hash.v3.RingHash", consistent_hashing_lb_config=bounded)
        case "least_request":
            return _lb("least_request.v3.LeastRequest")
        case "round_robin":
            return _lb("round_robin.v3.RoundRobin")


def _lb(type_name: str, **fields: object) -> Json:
    full = f"envoy.extensions.load_balancing_policies.{type_name}"
    return {"typed_extension_config": typed(full, full, **fields)}


def _health_check(path: str) -> Json:
    return {
        "timeout": f"{_CHECK_TIMEOUT_SECONDS}s",
        "interval": f"{_CHECK_INTERVAL_SECONDS}s",
        "no_traffic_interval": f"{_CHECK_INTERVAL_SECONDS}s",
        "unhealthy_threshold": _FAILED_CHECKS,
        "healthy_threshold": 1,
        "http_health_check": {"path": path, "host": ENGINE_HOST},
    }


def _outlier_detection() -> Json:
    """Connections that fail take a worker out at once. Its answers never do, since a full queue (503) is no
    illness; who answers badly is for the picker to find (`picker.illness`)."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "2s",
        "max_ejection_time": "4s",
        "max_ejection_percent": 100,
    }


def _http1() -> Json:
    return _protocol(
        {"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": f"{_IDLE_CONNECTION_SECONDS}s"},
    )


def _protocol(explicit: Json, **fields: object) -> Json:
    options = any_proto(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config=explicit,
        **fields,
    )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
