"""Every refusal: an OpenAI error object with the right status and a message that helps."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .model import ApiKey, Gateway, Pool
from .names import BODY, MODEL, RBAC, TENANT, Json, cel, lua, metadata_is

# Seconds after which a client that met a full queue may try again: engines free a place with each
# request they end, so soon.
BUSY_RETRY_SECONDS = 1


def error(message: str, code: str, kind: str = "invalid_request_error") -> Json:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def direct(status: int, body: Json, headers: dict[str, str] | None = None) -> Json:
    """The part of a route that answers by itself, with JSON."""
    return {
        "direct_response": {"status": status, "body": {"inline_string": json.dumps(body)}},
        "response_headers_to_add": [
            set_header(name, value)
            for name, value in {"content-type": "application/json", **(headers or {})}.items()
        ],
    }


def set_header(name: str, value: str) -> Json:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def retry_after_seconds(key: ApiKey, replicas: int) -> int:
    """When a tenant's bucket holds the next request: they are handed out evenly over the minute."""
    assert key.requests_per_minute is not None
    return -(-60 * replicas // key.requests_per_minute)


UNAVAILABLE = error(
    "No worker can take this request now: all are busy or away. Try again shortly.",
    "service_unavailable",
    "server_error",
)


def local_replies(gateway: Gateway) -> Json:
    """What Envoy's own filters refuse, put in OpenAI's words. The first mapper that fits counts.

    The refusals of the routes pass through here too, so no mapper may match a status of theirs."""
    limited = [key for key in gateway.keys if key.requests_per_minute is not None]
    max_body_bytes, replicas = gateway.max_body_bytes, gateway.replicas
    return {
        "mappers": [
            *_malformed(),
            _mapper(
                _status(403),  # the RBAC filter's, and nobody else's
                error(
                    "This request carries no valid API key: send the header "
                    "`Authorization: Bearer <key>`.",
                    "invalid_api_key",
                    "authentication_error",
                ),
                status=401,
                headers={"www-authenticate": "Bearer"},
            ),
            _mapper(
                _status(413),
                error(
                    f"The request body is larger than {max_body_bytes} bytes, the most that this "
                    "gateway takes.",
                    "request_too_large",
                ),
            ),
            *(
                _mapper(
                    _both(_status(429), _tenant(key.tenant)),
                    error(
                        f"This key may make {key.requests_per_minute} requests a minute.",
                        "rate_limit_exceeded",
                        "rate_limit_error",
                    ),
                    headers={"retry-after": str(retry_after_seconds(key, replicas))},
                )
                for key in limited
            ),
            *(_without_workers(pool) for pool in gateway.pools if pool.start_seconds is not None),
            _mapper(_status(500, "GE"), UNAVAILABLE, status=503),
        ]
    }


def _malformed() -> Iterator[Json]:
    """What Envoy refuses before a route or a filter of ours has seen it."""
    switches = error("This gateway opens no tunnel and switches to no protocol.", "upgrade_refused")
    yield _mapper(_details("== 'upgrade_failed'"), switches, status=400)
    large = error("The headers are larger than 60 KiB, or more than 100.", "headers_too_large")
    yield _mapper(_status(431), large)
    malformed = error("This is not well-formed HTTP/1.1 or HTTP/2.", "bad_request")
    # 501: a transfer coding other than `chunked`. It is the client's mistake, not the gateway's.
    yield _mapper(_status(501), malformed, status=400)
    for code in (400, 408, 426):
        yield _mapper(_both(_status(code), _details("!= 'direct_response'")), malformed)
    nowhere = error("No such path.", "path_not_found")  # `OPTIONS *`
    yield _mapper(_both(_status(404), _details("!= 'direct_response'")), nowhere)


def _without_workers(pool: Pool) -> Json:
    """The pool is at zero: Envoy knows of no host ("UH")."""
    nobody = {"response_flag_filter": {"flags": ["UH"]}}
    asked = {
        "metadata_filter": {
            "matcher": metadata_is(BODY, MODEL, pool.names),
            "match_if_key_not_found": False,
        }
    }
    headers = {"retry-after": str(pool.start_seconds)}
    return _mapper(_both(nobody, asked), UNAVAILABLE, status=503, headers=headers)


# An engine's own 503 (its queue is full), after the retry: the same object as Envoy's, and when to try
# again. vLLM sends no Retry-After.
_BUSY_LUA = f"""
function envoy_on_response(handle)
  if handle:headers():get(":status") ~= "503" then return end
  handle:body(true):setBytes([[{json.dumps(UNAVAILABLE)}]])
  handle:headers():replace("content-type", "application/json")
  if handle:headers():get("retry-after") then return end
  handle:headers():replace("retry-after", "{BUSY_RETRY_SECONDS}")
end
"""


def busy_engines() -> Json:
    return lua("busy", _BUSY_LUA)


def _mapper(
    when: Json, body: Json, status: int | None = None, headers: dict[str, str] | None = None
) -> Json:
    mapper: Json = {
        "filter": when,
        "body": {"inline_string": json.dumps(body)},
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }
    if status:
        mapper["status_code"] = status
    if headers:
        mapper["headers_to_add"] = [set_header(*header) for header in headers.items()]
    return mapper


def _status(code: int, op: str = "EQ") -> Json:
    value = {"default_value": code, "runtime_key": "freehold.unused"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _tenant(tenant: str) -> Json:
    matcher = metadata_is(RBAC, TENANT, [tenant])
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _details(comparison: str) -> Json:
    """What answered, in Envoy's words: "direct_response" is a route of ours."""
    return cel(f"response.code_details {comparison}")


def _both(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}
