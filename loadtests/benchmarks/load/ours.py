"""Our generator by itself on a server: N streams at once, and its CPU. Prints JSON; run.py calls it."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

import gevent

from freehold.load.client import Call, StreamingClient
from freehold.load.metrics import measure
from freehold.load.record import RequestRecord


def main() -> None:
    url, streams, rounds, tokens = sys.argv[1], *map(int, sys.argv[2:5])
    model = sys.argv[5]
    client = StreamingClient(url, os.environ.get("FREEHOLD_API_KEY"))
    body = {
        "max_completion_tokens": tokens,
        "stream": True,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    records: list[RequestRecord] = []

    def user(place: int) -> None:
        gevent.sleep(place / streams * 0.2)
        for number in range(rounds):
            text = " ".join(f"w{(place * rounds + number) * 7 % 1999 + n}" for n in range(32))
            own = {**body, "messages": [{"role": "user", "content": text}]}
            records.append(client.send(Call("chat", "/v1/chat/completions", model, own)))

    cpu, began = time.process_time(), time.perf_counter()
    gevent.joinall([gevent.spawn(user, place) for place in range(streams)])
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    found = measure(records)
    events = sum(len(record.itls) + 1 for record in records)
    print(
        json.dumps(
            {
                "completed": found.completed,
                "input_tokens": found.total_input_tokens / max(found.completed, 1),
                "events_per_second": events / seconds,
                "cpu_us_per_event": cpu / events * 1e6,
                "median_ttft_ms": found.ttft.median,
                "median_itl_ms": found.itl.median,
                "max_concurrent_requests": found.max_concurrent_requests,
                "median_tpot_ms": statistics.median(r.tpot or 0.0 for r in records) * 1000,
            }
        )
    )


if __name__ == "__main__":
    main()
