"""Prompts that one replica reads and another answers: what vLLM's NIXL connector does, without the bytes."""

from __future__ import annotations

import json
import time

from .conftest import Fleet, Server

PROMPT = [{"role": "user", "content": "word " * 2000}]
READ = {"do_remote_decode": True, "do_remote_prefill": False}
# 2,000 tokens of 128 KiB at a quarter of a gigabyte a second take about a second.
LINK = {"bytes_per_token": 131072, "gigabytes_per_second": 0.25}


def replica(fleet: Fleet, role: str) -> Server:
    config = {"kv_connector": "NixlConnector", "kv_role": role}
    return fleet.start("--kv-transfer-config", json.dumps(config), handover=LINK)


def test_what_was_read_elsewhere_is_fetched_and_not_computed(fleet: Fleet) -> None:
    reader, writer = replica(fleet, "kv_producer"), replica(fleet, "kv_consumer")
    body = {"model": "chat", "messages": PROMPT}
    read = reader.post(
        "/v1/chat/completions", json={**body, "max_tokens": 1, "kv_transfer_params": READ}
    )
    handed = read.json()["kv_transfer_params"]
    assert handed["do_remote_prefill"] and handed["remote_engine_id"]
    prompt = read.json()["usage"]["prompt_tokens"]

    start = time.monotonic()
    wrote = writer.post(
        "/v1/chat/completions", json={**body, "max_tokens": 5, "kv_transfer_params": handed}
    )
    seconds = time.monotonic() - start
    assert wrote.json()["usage"]["completion_tokens"] == 5
    assert wrote.json()["kv_transfer_params"] is None
    link = prompt * LINK["bytes_per_token"] / (LINK["gigabytes_per_second"] * 1e9)
    assert link < seconds < link + 0.5
    by_source = "vllm:prompt_tokens_by_source_total"
    assert writer.metric(by_source, source="external_kv_transfer") > prompt - 17
    assert writer.metric(by_source, source="local_compute") <= 17


def test_a_prompt_that_nobody_has_read_is_computed(fleet: Fleet) -> None:
    writer = replica(fleet, "kv_consumer")
    answer = writer.post("/v1/chat/completions", json={"model": "chat", "messages": PROMPT})
    assert answer.json()["kv_transfer_params"] is None
    by_source = "vllm:prompt_tokens_by_source_total"
    assert writer.metric(by_source, source="external_kv_transfer") == 0


def test_an_engine_without_the_connector_hands_nothing_over(fleet: Fleet) -> None:
    alone = fleet.start()
    body = {"model": "chat", "messages": PROMPT, "max_tokens": 1, "kv_transfer_params": READ}
    assert alone.post("/v1/chat/completions", json=body).json()["kv_transfer_params"] is None
