"""The routes of a replica, and what happens before any of them: keys, JSON, faults, refusals."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from . import admin, errors, generation, pooling, tokenization
from .engine import BusyError
from .http import Exchange, Handler
from .prompts import PromptError
from .replica import Replica

Endpoint = Callable[[Replica, Exchange, Mapping[str, Any]], None]

_GENERATE: dict[str, Endpoint] = {
    "/v1/chat/completions": generation.chat,
    "/v1/completions": generation.completions,
    "/v1/messages": generation.messages,
    "/v1/responses": generation.responses,
}
_EMBED: dict[str, Endpoint] = {"/v1/embeddings": pooling.embeddings}
# An embedding model scores pairs by the likeness of their vectors: vLLM serves these for both.
_SCORE: dict[str, Endpoint] = {
    "/v1/rerank": pooling.rerank,
    "/v2/rerank": pooling.rerank,
    "/rerank": pooling.rerank,
    "/v1/score": pooling.score,
    "/score": pooling.score,
}
_TOKENS: dict[str, Endpoint] = {
    "/tokenize": tokenization.tokenize,
    "/detokenize": tokenization.detokenize,
}
_BY_ROLE: dict[str, dict[str, Endpoint]] = {
    "generate": _GENERATE | _TOKENS,
    "embed": _EMBED | _SCORE | _TOKENS,
    "classify": _SCORE | _TOKENS,
}
# What vLLM guards with its `--api-key`; the rest it leaves open.
_GUARDED = ("/v1", "/v2", "/inference", "/cohere")


def handler_of(replica: Replica) -> Handler:
    """What a connection calls with each request."""
    endpoints = _BY_ROLE[replica.settings.role]
    plain = admin.routes(replica)
    keys = [hashlib.sha256(key.encode()).digest() for key in replica.settings.api_keys]

    def handle(exchange: Exchange) -> None:
        if keys and exchange.path.startswith(_GUARDED) and not _authorized(exchange, keys):
            return errors.unauthorized(exchange)
        if endpoint := endpoints.get(exchange.path):
            if exchange.method != "POST":
                return errors.wrong_method(exchange)
            return _post(replica, exchange, endpoint)
        methods = plain.get(exchange.path)
        if methods is None:
            return errors.not_found(exchange)
        answer = methods.get(exchange.method)
        return answer(exchange) if answer else errors.wrong_method(exchange)

    return handle


def _authorized(exchange: Exchange, keys: list[bytes]) -> bool:
    scheme, _, secret = exchange.headers.get("authorization", "").partition(" ")
    given = hashlib.sha256(secret.encode()).digest()
    known = [secrets.compare_digest(given, key) for key in keys]
    return scheme.lower() == "bearer" and any(known)


def _post(replica: Replica, exchange: Exchange, endpoint: Endpoint) -> None:
    try:
        body = orjson.loads(exchange.body)
    except orjson.JSONDecodeError:
        return errors.no_json(exchange)
    if not isinstance(body, dict):
        return errors.no_json(exchange)
    if replica.faults.dead:
        return errors.internal(exchange, "EngineCore encountered an issue.")
    exchange.fault = replica.fault_for(body)
    match exchange.fault:
        case "error":
            return errors.internal(exchange, "Simulated fault")
        case "hang":
            return None
        case "crash":
            return replica.crash()
    try:
        endpoint(replica, exchange, body)
    except PromptError as error:
        errors.bad_request(exchange, str(error), error.param)
    except BusyError as error:
        errors.busy(exchange, error.reason)
    return None
