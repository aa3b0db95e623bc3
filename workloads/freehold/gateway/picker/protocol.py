"""Envoy's ext_proc messages, to and from plain values. What is said follows the Endpoint Picker Protocol
of the Gateway API Inference Extension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2

from freehold.gateway.names import BODY, DESTINATION, LOT, LOTS, PICKER_FILTER, SESSION

# Generated classes are made at import time, out of sight of a type checker.
_core: Any = base_pb2
_messages: Any = external_processor_pb2


@dataclass(frozen=True)
class RequestHeaders:
    session: str | None
    lot: int | None = None


@dataclass(frozen=True)
class RequestBody:
    content: bytes


@dataclass(frozen=True)
class ResponseHeaders:
    upstream: str
    """Address of the worker that answers."""


Message = RequestHeaders | RequestBody | ResponseHeaders


def decode(data: bytes) -> Message:
    message = _messages.ProcessingRequest.FromString(data)
    match message.WhichOneof("request"):
        case "request_headers":
            headers = message.request_headers
            lot = _header(headers, LOT)
            return RequestHeaders(_header(headers, SESSION), int(lot) if lot else None)
        case "request_body":
            return RequestBody(message.request_body.body)
        case _:
            attributes = message.attributes[PICKER_FILTER]
            return ResponseHeaders(attributes.fields["upstream.address"].string_value)


def goes_on(message: Message) -> bytes:
    """Nothing to say: the request goes on as it is."""
    match message:
        case RequestHeaders():
            return _HEADERS_GO_ON
        case RequestBody():
            return _BODY_GOES_ON
        case ResponseHeaders():
            return _ANSWER_GOES_ON


def routed(
    known: dict[str, Any], addresses: Sequence[str], *, lot_taken_back: bool = False
) -> bytes:
    """Where to (the second address is for a retry), and what is known of the body, so that Envoy need not
    parse it again. Without an address the choice is Envoy's. A lot that is taken back is in no share."""
    response = _messages.ProcessingResponse(request_body=_messages.BodyResponse())
    response.dynamic_metadata.update({BODY: known})
    common = response.request_body.response
    common.clear_route_cache = True
    if lot_taken_back:
        _set(common, LOT, str(LOTS))
    if addresses:
        _set(common, DESTINATION, ",".join(addresses))
    else:
        # Envoy looks for the route again only where a header changes (seen with 1.40).
        common.header_mutation.remove_headers.append(DESTINATION)
    return response.SerializeToString()


def _set(common: Any, name: str, value: str) -> None:
    common.header_mutation.set_headers.append(
        _core.HeaderValueOption(
            header=_core.HeaderValue(key=name, raw_value=value.encode()),
            append_action=_core.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
    )


def _header(message: Any, name: str) -> str | None:
    for header in message.headers.headers:
        if header.key == name:
            return header.raw_value.decode(errors="replace") or None
    return None


def _response(**kind: Any) -> bytes:
    return _messages.ProcessingResponse(**kind).SerializeToString()


_HEADERS_GO_ON = _response(request_headers=_messages.HeadersResponse())
_BODY_GOES_ON = _response(request_body=_messages.BodyResponse())
_ANSWER_GOES_ON = _response(response_headers=_messages.HeadersResponse())
