"""What keeps Envoy on its feet whatever clients do: bounds on memory, connections and waiting. What each is
worth was measured by `loadtests/benchmarks/soak` on 2026-11-24 (Envoy 1.40) and stands in docs/resilience.md.
"""

from __future__ import annotations

from .names import Json, any_proto

# With Envoy's 1 MiB, 500 clients that did not read their answers held 780 MiB of Envoy and 2.2 GiB of the
# kernel. Envoy's guide for the edge has 32 KiB (configuration/best_practices/edge), which costs bodies of
# 200 KB a tenth more CPU, since they come in more pieces (2026-11-24).
BUFFER_BYTES = 128 * 1024

# Twice the 5,000 idle streams that a gateway is to carry. A stream takes 85 KB and two file descriptors, so
# these are 0.8 GiB and 20,000 descriptors.
MAX_CONNECTIONS = 10_000
# From here on each piece that a client sends draws a lot, and who loses is refused (503): of small requests
# few, of bodies in hundreds of pieces nearly all, whose memory is free at once. The chance grows to certainty
# far above the 2 GiB of a gateway's pod (serving/gateway_deployment), so that bodies that are held half-sent
# shut hardly anybody out; refusing all new requests (`stop_accepting_requests`) let twelve of them do so.
SHED_FROM_BYTES = 2**30
SHED_ALL_BYTES = 3 * 2**30
_SHED_POINTS = ("http1_server_abort_dispatch", "http2_server_go_away_and_close_on_dispatch")

# A connection without a request. Longer than clients and load balancers keep theirs (Go's net/http 90 s, an
# ALB and nginx 60 s), so that these close first and no request meets a closing door.
_IDLE_SECONDS = 120
# A whole request, from its first byte: 32 MiB at 2.3 Mbit/s.
_REQUEST_SECONDS = 120
# A client that vanished (a laptop that is shut) sends nothing, not even an end: found after a minute.
_KEEPALIVE = {"idle": 30, "interval": 10, "probes": 3}

# Linux's numbers, from <sys/socket.h> and <netinet/tcp.h>.
_SOL_SOCKET, _SO_KEEPALIVE = 1, 9
_IPPROTO_TCP, _KEEPIDLE, _KEEPINTVL, _KEEPCNT, _NOTSENT_LOWAT = 6, 4, 5, 6, 25

_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"


def overload_manager() -> Json:
    """Where memory is short, requests are refused by lot. Connections over their bound are closed at once."""
    monitors = "envoy.extensions.resource_monitors"
    shed_from = SHED_FROM_BYTES / SHED_ALL_BYTES
    return {
        "refresh_interval": "0.1s",
        "resource_monitors": [
            {
                "name": _HEAP,
                "typed_config": any_proto(
                    f"{monitors}.fixed_heap.v3.FixedHeapConfig",
                    max_heap_size_bytes=SHED_ALL_BYTES,
                ),
            },
            {
                "name": _CONNECTIONS,
                "typed_config": any_proto(
                    f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=MAX_CONNECTIONS,
                ),
            },
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.shrink_heap",
                "triggers": [{"name": _HEAP, "threshold": {"value": shed_from}}],
            }
        ],
        "loadshed_points": [
            {
                "name": f"envoy.load_shed_points.{point}",
                "triggers": [
                    {
                        "name": _HEAP,
                        "scaled": {"scaling_threshold": shed_from, "saturation_threshold": 1.0},
                    }
                ],
            }
            for point in _SHED_POINTS
        ],
    }


def listener_bounds() -> Json:
    """Of the door. What a client does not read stays at the engine, not here and not in the kernel."""
    options = [
        (_SOL_SOCKET, _SO_KEEPALIVE, 1),
        (_IPPROTO_TCP, _KEEPIDLE, _KEEPALIVE["idle"]),
        (_IPPROTO_TCP, _KEEPINTVL, _KEEPALIVE["interval"]),
        (_IPPROTO_TCP, _KEEPCNT, _KEEPALIVE["probes"]),
        (_IPPROTO_TCP, _NOTSENT_LOWAT, BUFFER_BYTES),
    ]
    return {
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "socket_options": [
            {"level": level, "name": name, "int_value": value, "state": "STATE_PREBIND"}
            for level, name, value in options
        ],
    }


def timeouts() -> Json:
    """Of the door's connection manager."""
    return {
        "common_http_protocol_options": {"idle_timeout": f"{_IDLE_SECONDS}s"},
        "request_headers_timeout": "10s",
        "request_timeout": f"{_REQUEST_SECONDS}s",
        # A stream may be silent while its request waits in a queue or a long prompt is read; an hour
        # without a byte is a dead one.
        "stream_idle_timeout": "3600s",
    }
