"""vLLM's error objects (`entrypoints/serve/exception_handling`, 0.32)."""

from __future__ import annotations

from http import HTTPStatus

import orjson

from .http import Exchange

_BUSY = {
    "max_num_queued_reqs": "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance.",
    "max_num_queued_tokens": "The engine has reached its prefill token backlog limit. "
    "Please try again later or on a different instance.",
}


def body(message: str, kind: str, status: int, param: str | None = None) -> bytes:
    error = {"message": message, "type": kind, "param": param, "code": status}
    return orjson.dumps({"error": error})


def bad_request(exchange: Exchange, message: str, param: str | None = None) -> None:
    exchange.respond(400, body(message, "BadRequestError", 400, param))


def missing(exchange: Exchange, name: str) -> None:
    """A field that must be there, in the words of the validation in front of vLLM's handlers."""
    problem = {"type": "missing", "loc": f"body.{name}", "msg": "Field required"}
    exchange.respond(400, body(str([problem]), "Bad Request", 400, f"body.{name}"))


def no_json(exchange: Exchange) -> None:
    exchange.respond(400, body("JSON decode error: the body is no JSON object", "Bad Request", 400))


def unknown_model(exchange: Exchange, model: str, served: str) -> None:
    message = f"The model `{model}` does not exist. Valid aliases: {served}."
    exchange.respond(404, body(message, "NotFoundError", 404, "model"))


def busy(exchange: Exchange, reason: str) -> None:
    exchange.respond(503, body(_BUSY[reason], HTTPStatus.SERVICE_UNAVAILABLE.phrase, 503))


def internal(exchange: Exchange, message: str = "Internal server error") -> None:
    exchange.respond(500, body(message, "InternalServerError", 500))


def not_found(exchange: Exchange) -> None:
    exchange.respond(404, body("Not Found", "Not Found", 404))


def wrong_method(exchange: Exchange) -> None:
    exchange.respond(405, body("Method Not Allowed", "Method Not Allowed", 405))


def unauthorized(exchange: Exchange) -> None:
    exchange.respond(401, b'{"error":"Unauthorized"}')
