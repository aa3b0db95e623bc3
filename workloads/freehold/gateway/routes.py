"""The route table: exact paths only, then the body's model, then who may; everything else refused."""

from __future__ import annotations

from collections.abc import Iterator

from .bedrock import bedrock_route
from .endpoints import ALL, MODELS, endpoints_of
from .filters import serve_as, without_body
from .model import ApiKey, Gateway, Pool, Role
from .names import (
    BODY,
    DESTINATION,
    ENGINE_HOST,
    FAULT,
    MODEL,
    NOT_JSON,
    POOL,
    PREFIX,
    RBAC,
    SESSION,
    TENANT,
    WORKER,
    Json,
    metadata_is,
    metadata_present,
)
from .refusals import UNAVAILABLE, direct, error, set_header
from .rollout import drew, moved_names, share_of
from .sealing import spoilt, unsealed

# OpenAI's field says when a model was made; it must not change from one answer to the next.
_CREATED = 1_700_000_000
# What vLLM obeys in a header, meant for a router in front of it: who is served before others, by which
# data-parallel rank, and that the answer tell the engine's load (vLLM 0.32).
_ORDERS = ("x-vllm-priority", "x-data-parallel-rank", "endpoint-load-metrics-format")
_KIND: dict[Role, str] = {
    "generate": "a generating model",
    "embed": "an embedding model",
    "rerank": "a reranking model",
}


def route_configuration(gateway: Gateway) -> Json:
    door = {
        "name": "door",
        "domains": ["*"],
        "routes": [*_routes(gateway)],
        "request_headers_to_remove": ["authorization", *_ORDERS],
    }
    return {"name": "door", "virtual_hosts": [door]}


def _routes(gateway: Gateway) -> Iterator[Json]:
    """First match wins. The body's model is known only once the filters have read the body; until
    then a request stands on the last of its path's routes."""
    yield _tunnel_refusal()
    yield from _model_list(gateway.pools)
    yield from _method_refusals()
    yield from _body_refusals(gateway.sealed)
    for key in gateway.keys:
        yield from _tenant_refusals(key, gateway.pools)
    if gateway.sealed:
        yield {"match": {**_paths(ALL), "dynamic_metadata": unsealed()}, **direct(503, UNAVAILABLE)}
    for pool in gateway.pools:
        yield from _pool_routes(pool, gateway.newcomer(pool))
        yield _wrong_endpoint(pool)
    yield from _model_refusals(gateway.pools)
    yield from _path_refusals()


def _tunnel_refusal() -> Json:
    """Envoy refuses `CONNECT` as soon as a route matches it (no other does: it has no path), and else
    waits for the end of a body that never ends."""
    refusal = error("This gateway opens no tunnel.", "method_not_allowed")
    return {"match": {"connect_matcher": {}}, **direct(405, refusal)}


def _model_list(pools: tuple[Pool, ...]) -> Iterator[Json]:
    """Answered here, from what is configured: exactly the names that clients may put in `model`."""
    data = [
        {
            "id": name,
            "object": "model",
            "created": _CREATED,
            "owned_by": "freehold",
            "root": pool.aliases.get(name, name),
            "parent": pool.name if name in pool.models[1:] else None,
        }
        for pool in pools
        for name in pool.names
    ]
    yield {
        "match": {"path": MODELS, "headers": [_method("GET")]},
        **direct(200, {"object": "list", "data": data}),
        **without_body(),
    }


def _method_refusals() -> Iterator[Json]:
    """Other methods on known paths. What an engine forgets cannot be fetched: see /v1/responses."""
    for paths, method in (((MODELS,), "GET"), (ALL, "POST")):
        yield {
            "match": {**_paths(paths), "headers": [_method(method, invert=True)]},
            **direct(
                405,
                error(f"This path takes {method} only.", "method_not_allowed"),
                {"allow": method},
            ),
            **without_body(),
        }
    yield {
        "match": {"prefix": "/v1/responses/"},
        **direct(
            404,
            error(
                "Responses are not stored: workers keep nothing between requests, so a response can "
                "be neither fetched nor cancelled. POST /v1/responses, and close the connection to "
                "cancel.",
                "response_not_found",
            ),
        ),
        **without_body(),
    }


def _body_refusals(sealed: bool) -> Iterator[Json]:
    not_json = direct(
        400,
        error(
            "The body must be JSON, sent with `Content-Type: application/json`.",
            "invalid_json",
        ),
    )
    json_type = {"safe_regex": {"regex": r"(?i)application/json\s*(;.*)?"}}
    other_type = {
        "name": "content-type",
        "string_match": json_type,
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }
    yield {
        "match": {**_paths(ALL), "headers": [other_type]},
        **not_json,
        **without_body(),
    }
    yield {"match": {**_paths(ALL), "dynamic_metadata": [_fault(NOT_JSON)]}, **not_json}
    if sealed:
        yield {"match": {**_paths(ALL), "dynamic_metadata": spoilt()}, **not_json}


def _tenant_refusals(key: ApiKey, pools: tuple[Pool, ...]) -> Iterator[Json]:
    if key.models is None:
        return
    names = [name for pool in pools for name in pool.names]
    forbidden = [name for name in names if name not in key.models]
    if forbidden:
        yield {
            "match": {
                **_paths(ALL),
                "dynamic_metadata": [
                    metadata_is(RBAC, TENANT, [key.tenant]),
                    metadata_is(BODY, MODEL, forbidden),
                ],
            },
            **direct(
                404,
                error(
                    "The model in the body is not for this key; this key may use: "
                    f"{', '.join(key.models)}.",
                    "model_not_allowed",
                ),
            ),
        }


def _pool_routes(pool: Pool, newcomer: Pool | None) -> Iterator[Json]:
    """Aliases first, since their bodies are rewritten; a pinned worker before the pool's choice, and the
    newcomer's share between them."""
    endpoints = _paths(endpoints_of(pool))
    for names, extra in _groups(pool):
        match = {**endpoints, **_asks_for(names)}
        for worker in pool.workers:
            yield {
                "match": {**match, "headers": [_header(WORKER, worker.name)]},
                **_to(pool, pinned=True),
                "request_headers_to_add": [set_header(DESTINATION, worker.address)],
                **extra,
            }
        if pool.workers:
            known = ", ".join(worker.name for worker in pool.workers)
            yield {
                "match": {**match, "headers": [{"name": WORKER, "present_match": True}]},
                **direct(
                    404,
                    error(
                        f"`{WORKER}` names no worker of {pool.name}; it has: {known}.",
                        "worker_not_found",
                    ),
                ),
            }
        if newcomer and (moved := moved_names(pool, names)):
            yield from _share(pool, newcomer, moved)
        yield {"match": match, **_to(pool), **extra}


def _asks_for(names: list[str]) -> Json:
    return {"dynamic_metadata": [metadata_is(BODY, MODEL, names)]}


def _share(pool: Pool, newcomer: Pool, names: list[str]) -> Iterator[Json]:
    """The newcomer's part of the requests for these names, with the name that its own workers know."""
    assert newcomer.rollout is not None
    paths = tuple(path for path in endpoints_of(pool) if path in endpoints_of(newcomer))
    hosted = newcomer.hosted
    if share := share_of(newcomer.rollout):
        yield {
            "match": {**_paths(paths), **_asks_for(names), "headers": [drew(share)]},
            **_to(newcomer),
            **(serve_as(hosted.model, unsealed=True) if hosted else serve_as(newcomer.models[0])),
        }


def _groups(pool: Pool) -> Iterator[tuple[list[str], Json]]:
    """Names that are routed alike, with what their routes have besides."""
    if pool.hosted:
        yield list(pool.names), serve_as(pool.hosted.model, unsealed=True)
        return
    yield list(pool.models), {}
    for alias, served in pool.aliases.items():
        yield [alias], serve_as(served)


def _to(pool: Pool, *, pinned: bool = False) -> Json:
    """Sends a request to a pool; the answer says to which."""
    said = {"response_headers_to_add": [set_header(POOL, pool.name)]}
    if pool.hosted:
        return {**bedrock_route(pool, pool.hosted), **said}
    return {"route": _action(pool, retry=not pinned), **said}


def _action(pool: Pool, retry: bool) -> Json:
    action: Json = {
        "cluster": pool.name,
        "timeout": "0s",  # an answer takes as long as it takes
        "host_rewrite_literal": ENGINE_HOST,
        "hash_policy": [
            {"header": {"header_name": SESSION}, "terminal": True},
            {"header": {"header_name": PREFIX}},
        ],
    }
    if retry:
        action["retry_policy"] = _RETRY
    return action


# Only what a worker has not begun: connections that fail and refusals (503). Once, elsewhere.
_RETRY = {
    "retry_on": "connect-failure,refused-stream,reset-before-request,retriable-status-codes",
    "retriable_status_codes": [503],
    "num_retries": 1,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3"
                ".PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}


def _wrong_endpoint(pool: Pool) -> Json:
    served = ", ".join(endpoints_of(pool))
    message = f"{pool.name} is {_KIND[pool.role]}; it is served by {served}."
    return {
        "match": {**_paths(ALL), "dynamic_metadata": [metadata_is(BODY, MODEL, pool.names)]},
        **direct(400, error(message, "wrong_endpoint_for_model")),
    }


def _model_refusals(pools: tuple[Pool, ...]) -> Iterator[Json]:
    names = tuple(name for pool in pools for name in pool.names)
    yield {
        "match": {**_paths(ALL), "dynamic_metadata": [metadata_present(BODY, MODEL)]},
        **direct(
            404,
            error(f"No such model; this gateway serves: {', '.join(names)}.", "model_not_found"),
        ),
    }
    yield {
        "match": _paths(ALL),
        **direct(
            400,
            error(
                f"The body has no `model`; this gateway serves: {', '.join(names)}.",
                "model_required",
            ),
        ),
    }


def _path_refusals() -> Iterator[Json]:
    served = ", ".join((MODELS, *ALL))
    yield {
        "match": {"prefix": "/"},
        **direct(404, error(f"No such path; this gateway serves: {served}.", "path_not_found")),
        **without_body(),
    }


def _paths(paths: tuple[str, ...]) -> Json:
    """Exactly these paths, as sent: nothing is normalised, so no other spelling of a path matches."""
    if len(paths) == 1:
        return {"path": paths[0]}
    return {"safe_regex": {"regex": "|".join(path.replace(".", r"\.") for path in paths)}}


def _header(name: str, value: str) -> Json:
    return {"name": name, "string_match": {"exact": value}}


def _method(method: str, invert: bool = False) -> Json:
    return {**_header(":method", method), "invert_match": invert}


def _fault(fault: str) -> Json:
    return metadata_is(BODY, FAULT, [fault])
