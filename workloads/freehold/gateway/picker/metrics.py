"""What the picker tells about itself: Prometheus metrics, and whether it is alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from freehold.gateway.model import Address

from .fleet import Fleet

PICKS = Counter(
    "freehold_picker_picks",
    "Requests sent to a worker, by what decided: prefix (its cache has a part), session, or new",
    ["pool", "worker", "reason"],
)
CHUNKS = Counter("freehold_picker_prompt_chunks", "Chunks of 256 bytes in prompts", ["pool"])
MATCHED = Counter(
    "freehold_picker_matched_chunks", "Chunks that the picked worker has probably cached", ["pool"]
)
ELSEWHERE = Counter(
    "freehold_picker_served_elsewhere",
    "Requests that another worker served than was picked: it was busy or away",
    ["pool"],
)
ILL = Counter(
    "freehold_picker_worker_ill",
    "Times that a worker answered worse than its peers: it fails, or is slow",
    ["pool", "worker", "why"],
)


class FleetCollector(Collector):
    """Read from the fleet when asked, so that workers that left leave the metrics too."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[GaugeMetricFamily]:
        labels = ["pool", "worker"]
        in_flight = GaugeMetricFamily(
            "freehold_picker_in_flight", "Requests in flight", labels=labels
        )
        up = GaugeMetricFamily("freehold_picker_worker_up", "1 if it may be picked", labels=labels)
        for worker in self._fleet.workers():
            in_flight.add_metric([worker.pool, worker.name], worker.in_flight)
            up.add_metric([worker.pool, worker.name], float(worker.up and not worker.left_out))
        yield from (in_flight, up)


@asynccontextmanager
async def serve_http(address: Address, fleet: Fleet) -> AsyncIterator[None]:
    """`/health` and `/metrics` over the same event loop that picks: it answers if that one does."""
    collector = FleetCollector(fleet)
    REGISTRY.register(collector)
    server = await asyncio.start_server(_answer, *address)
    try:
        yield
    finally:
        server.close()
        REGISTRY.unregister(collector)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        # A scrape's request is a few hundred bytes; who sends none in 5 s is no scraper.
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1]
        status, kind, body = b"404 Not Found", b"text/plain", b""
        if path == b"/metrics":
            status, kind, body = b"200 OK", CONTENT_TYPE_LATEST.encode(), generate_latest()
        elif path == b"/health":
            status = b"200 OK"
        writer.write(
            b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, kind, len(body), body)
        )
        await writer.drain()
    except (OSError, TimeoutError, IndexError, EOFError, asyncio.LimitOverrunError, ValueError):
        pass
    finally:
        writer.close()
