"""One JSON line a request: who, what, where, how long. Never a prompt, never a key."""

from __future__ import annotations

from .names import BODY, MODEL, RBAC, TENANT, Json, typed

_FIELDS = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "tenant": f"%DYNAMIC_METADATA({RBAC}:{TENANT})%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:PATH)%",  # without the query, where a client may have put anything
    "model": f"%DYNAMIC_METADATA({BODY}:{MODEL})%",
    "pool": "%UPSTREAM_CLUSTER%",
    "worker": "%UPSTREAM_HOST_NAME%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "first_byte_ms": "%RESPONSE_DURATION%",
    "duration_ms": "%DURATION%",
}


def access_log(path: str) -> Json:
    return typed(
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=path,
        log_format={"json_format": _FIELDS, "omit_empty_values": False},
    )
