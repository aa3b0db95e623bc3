"""Answers that a gateway found bad: Envoy's access log of these alone (`freehold.gateway.reports`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from envoy.service.accesslog.v3 import als_pb2

from freehold.gateway.model import join_address

from .fleet import Fleet

# Generated classes are made at import time, out of sight of a type checker.
_messages: Any = als_pb2

decode: Callable[[bytes], Any] = _messages.StreamAccessLogsMessage.FromString


def takes_reports(fleet: Fleet) -> Callable[[AsyncIterator[Any], object], Awaitable[bytes]]:
    """The service's one method. It ends the stream after each message, so that Envoy opens the next one to
    the picker that is active then."""

    async def take(reports: AsyncIterator[Any], _: object) -> bytes:
        async for report in reports:
            for entry in report.http_logs.log_entry:
                suspect(fleet, entry.common_properties)
            break
        return b""

    return take


def suspect(fleet: Fleet, properties: Any) -> None:
    address = properties.upstream_remote_address.socket_address
    worker = fleet.at(
        properties.upstream_cluster, join_address(address.address, address.port_value)
    )
    if worker:
        worker.suspect = True
