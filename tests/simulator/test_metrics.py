"""Metrics: the pinned vLLM's names, labels, types and buckets, and values that add up."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from freehold.simulator.snapshot import METRICS

from .conftest import Start


def scraped(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_names_labels_types_and_buckets_are_vllm_s(start: Start) -> None:
    server = start(
        *("--max-model-len", "4096", "--enable-lora", "--lora-modules", "law=/x"),
        *("--speculative-config", '{"method":"ngram","num_speculative_tokens":1}'),
    )
    server.chat("hello", max_tokens=5)
    found = scraped(server.get("/metrics").text)
    assert found.pop("process_start_time_seconds").type == "gauge"
    expected = {family["name"]: family for family in json.loads(METRICS.read_text())}
    assert set(found) == set(expected)
    for name, family in expected.items():
        assert found[name].type == family["type"], name
        assert found[name].documentation == family["help"], name
        for sample in found[name].samples:
            assert set(sample.labels) - {"le"} == set(family["labels"]), sample
        if "buckets" in family:
            bounds = [float(s.labels["le"]) for s in found[name].samples if "le" in s.labels]
            assert bounds[:-1] == family["buckets"], name
        if "values" in family:
            other = next(n for n in family["labels"] if n not in ("model_name", "engine"))
            assert [s.labels[other] for s in found[name].samples] == family["values"], name


def test_an_engine_without_speculation_or_adapters_says_nothing_of_them(start: Start) -> None:
    found = scraped(start().get("/metrics").text)
    assert not [name for name in found if "spec_decode" in name or "lora" in name]


def test_token_counts_grow_with_the_longest_request(start: Start) -> None:
    found = scraped(start("--max-model-len", "30000").get("/metrics").text)
    buckets = [
        s.labels["le"] for s in found["vllm:request_prompt_tokens"].samples if "le" in s.labels
    ]
    assert buckets[-3:] == ["10000.0", "20000.0", "+Inf"]


def test_values_add_up(start: Start) -> None:
    server = start("--enable-prompt-tokens-details")
    prompt, answers = "cat " * 100, 3
    usage = [server.chat(prompt, max_tokens=11).json()["usage"] for _ in range(answers)][-1]
    metric = server.metric
    assert metric("vllm:generation_tokens_total") == 11 * answers
    assert metric("vllm:prompt_tokens_total") == usage["prompt_tokens"] * answers
    assert metric("vllm:request_success_total", finished_reason="length") == answers
    assert metric("vllm:inter_token_latency_seconds_count") == 10 * answers
    assert metric("vllm:time_to_first_token_seconds_count") == answers
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert cached == 96
    assert metric("vllm:prefix_cache_hits_total") == 2 * cached
    assert metric("vllm:prefix_cache_queries_total") == usage["prompt_tokens"] * answers
    sources = metric("vllm:prompt_tokens_by_source_total")
    assert sources == metric("vllm:prompt_tokens_total")
    assert metric("vllm:prompt_tokens_by_source_total", source="local_cache_hit") == 2 * cached
    assert metric("vllm:num_requests_running") == metric("vllm:kv_cache_usage_perc") == 0


def test_names_with_quotes_do_not_break_the_exposition(start: Start) -> None:
    server = start("--served-model-name", 'a"b\\c')
    (model,) = {
        sample.labels["model_name"]
        for sample in scraped(server.get("/metrics").text)["vllm:num_requests_running"].samples
    }
    assert model == 'a"b\\c'
