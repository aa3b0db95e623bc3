"""From settings to arguments: exact for what runs, and complete for whatever may be set."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.config.engine import EngineOptions
from freehold.config.stack import Role
from freehold.engine.command_line import command_line
from freehold.engine.settings import (
    EngineSettings,
    KvTransfer,
    LmcacheTransfer,
    NativeOffload,
    NixlTransfer,
)

_ENDING = ["--disable-access-log-for-endpoints", "/health,/metrics", "--enable-request-id-headers"]


def line(
    role: Role = "generate",
    kv_transfer: KvTransfer | None = None,
    model: str = "/models/chat",
    load_format: str | None = None,
    revision: str | None = None,
    **options: Any,
) -> list[str]:
    settings = EngineSettings(
        model=model,
        served_name="chat",
        role=role,
        options=EngineOptions.model_validate(options),
        revision=revision,
        kv_transfer=kv_transfer,
        load_format=load_format,
    )
    return command_line(settings)


def test_a_chat_worker_of_the_laptop() -> None:
    written = line(
        kv_transfer=LmcacheTransfer(port=5570),
        dtype="bfloat16",
        max_model_len=4096,
        kv_cache_gib=0.5,
        enforce_eager=True,
        tool_call_parser="hermes",
        max_queued_requests=64,
        shutdown_timeout=10,
    )
    assert written == [
        *("--model", "/models/chat", "--served-model-name", "chat"),
        *("--dtype", "bfloat16", "--max-model-len", "4096", "--enforce-eager"),
        *("--kv-cache-memory-bytes", "536870912", "--enable-prefix-caching"),
        "--kv-transfer-config",
        '{"kv_connector":"ResilientLMCacheConnector","kv_connector_extra_config":'
        '{"lmcache.mp.heartbeat_interval":1,"lmcache.mp.host":"tcp://127.0.0.1",'
        '"lmcache.mp.mq_timeout":3,"lmcache.mp.port":5570},'
        '"kv_connector_module_path":"freehold.engine.lmcache_connector",'
        '"kv_load_failure_policy":"recompute","kv_role":"kv_both"}',
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--max-num-queued-reqs", "64", "--shutdown-timeout", "10"),
        *_ENDING,
        "--enable-prompt-tokens-details",
    ]


def test_a_worker_on_four_gpus() -> None:
    written = line(
        model="s3://models/llama-70b",
        load_format="runai_streamer",
        quantization="fp8",
        kv_cache_dtype="fp8",
        tensor_parallel=4,
        pipeline_parallel=2,
        memory_share=0.9,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        prefix_caching=False,
        kv_offload_gib=64,
        speculation={"method": "eagle3", "model": "/models/head"},
        reasoning_parser="qwen3",
    )
    assert written == [
        *("--model", "s3://models/llama-70b", "--served-model-name", "chat"),
        *("--load-format", "runai_streamer", "--quantization", "fp8"),
        *("--gpu-memory-utilization", "0.9", "--kv-cache-dtype", "fp8"),
        "--no-enable-prefix-caching",
        *("--tensor-parallel-size", "4", "--pipeline-parallel-size", "2"),
        *("--max-num-seqs", "256", "--max-num-batched-tokens", "8192"),
        *("--kv-offloading-size", "64", "--kv-offloading-backend", "native"),
        "--speculative-config",
        '{"method":"eagle3","model":"/models/head","num_speculative_tokens":3}',
        *("--reasoning-parser", "qwen3"),
        *_ENDING,
        "--enable-prompt-tokens-details",
    ]


@pytest.mark.parametrize(("role", "convert"), [("embed", "embed"), ("rerank", "classify")])
def test_a_pooling_worker(role: Role, convert: str) -> None:
    assert line(role, dtype="float32", memory_share=0.1) == [
        *("--model", "/models/chat", "--served-model-name", "chat"),
        *("--runner", "pooling", "--convert", convert, "--dtype", "float32"),
        *("--gpu-memory-utilization", "0.1"),
        *_ENDING,
    ]


def test_adapters_are_served_under_their_own_names() -> None:
    written = line(lora=[{"name": "sql", "path": "/a"}, {"name": "tone", "path": "b/c"}])
    start = written.index("--enable-lora")
    assert written[start : start + 6] == [
        *("--enable-lora", "--max-loras", "2", "--lora-modules", "sql=/a", "tone=b/c"),
    ]


def test_disaggregated_workers_hand_over_and_take() -> None:
    prefill = line(kv_transfer=NixlTransfer("prefill"))
    decode = line(kv_transfer=NixlTransfer("decode", "cpu", ("LIBFABRIC",)))
    assert _json(prefill, "--kv-transfer-config") == {
        "kv_connector": "NixlConnector",
        "kv_role": "kv_producer",
        "kv_buffer_device": "cuda",
        "kv_load_failure_policy": "fail",
    }
    assert _json(decode, "--kv-transfer-config") == {
        "kv_connector": "NixlConnector",
        "kv_role": "kv_consumer",
        "kv_buffer_device": "cpu",
        "kv_load_failure_policy": "fail",
        "kv_connector_extra_config": {"backends": ["LIBFABRIC"]},
    }


def test_offload_is_the_same_from_the_option_and_from_the_settings() -> None:
    assert line(kv_offload_gib=4) == line(kv_transfer=NativeOffload(gib=4))


# Option -> its flag and a strategy of values that differ from the default.
_SPECULATIONS = st.sampled_from(
    [
        {"method": "ngram"},
        {"method": "draft_model", "model": "org/draft"},
        {"method": "eagle3", "model": "org/head", "draft_tensor_parallel_size": 1},
        {"method": "mtp", "num_speculative_tokens": 2},
    ]
)
_COUNT = st.integers(min_value=16, max_value=10**6)
_NAME = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
_OPTIONS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "dtype": ("--dtype", st.sampled_from(["bfloat16", "float16", "float32"])),
    "quantization": ("--quantization", st.sampled_from(["fp8", "awq", "compressed-tensors"])),
    "kv_cache_dtype": ("--kv-cache-dtype", st.sampled_from(["fp8", "bfloat16"])),
    "tensor_parallel": ("--tensor-parallel-size", st.integers(2, 16)),
    "pipeline_parallel": ("--pipeline-parallel-size", st.integers(2, 16)),
    "max_model_len": ("--max-model-len", _COUNT),
    "memory_share": ("--gpu-memory-utilization", st.floats(0.01, 0.99)),
    "kv_cache_gib": ("--kv-cache-memory-bytes", st.floats(0.1, 100)),
    "kv_offload_gib": ("--kv-offloading-size", st.floats(0.1, 1000)),
    "block_size": ("--block-size", st.integers(1, 256)),
    "max_num_seqs": ("--max-num-seqs", _COUNT),
    "max_num_batched_tokens": ("--max-num-batched-tokens", _COUNT),
    "prefix_caching": ("--no-enable-prefix-caching", st.just(False)),
    "enforce_eager": ("--enforce-eager", st.just(True)),
    "speculation": ("--speculative-config", _SPECULATIONS),
    "tool_call_parser": ("--tool-call-parser", _NAME),
    "reasoning_parser": ("--reasoning-parser", _NAME),
    "chat_template": ("--chat-template", _NAME),
    "lora": (
        "--lora-modules",
        st.lists(st.fixed_dictionaries({"name": _NAME, "path": _NAME}), min_size=1),
    ),
    "max_queued_requests": ("--max-num-queued-reqs", _COUNT),
    "shutdown_timeout": ("--shutdown-timeout", st.integers(0, 600)),
    "hf_overrides": ("--hf-overrides", st.dictionaries(_NAME, st.integers(), min_size=1)),
    "trust_remote_code": ("--trust-remote-code", st.just(True)),
}
_WRITTEN_WITH_ANOTHER = {"max_lora_rank", "extra_args"}
_JSON = ("--speculative-config", "--hf-overrides", "--kv-transfer-config")


def test_the_property_below_knows_every_option() -> None:
    assert _OPTIONS.keys() | _WRITTEN_WITH_ANOTHER == EngineOptions.model_fields.keys()


@given(
    st.fixed_dictionaries({}, optional={name: values for name, (_, values) in _OPTIONS.items()}),
    st.lists(st.from_regex(r"--[a-z]{1,8}(=[0-9])?", fullmatch=True), max_size=3),
)
def test_every_option_that_is_set_is_written_and_extra_args_come_last(
    options: dict[str, Any], extra: list[str]
) -> None:
    written = line(**options, extra_args=extra)
    own = written[: len(written) - len(extra)]
    assert written[len(own) :] == extra
    for name, (flag, _) in _OPTIONS.items():
        assert own.count(flag) == (name in options), name
    for flag in _JSON:
        if flag in own:
            assert isinstance(_json(own, flag), dict)
    assert written == line(**options, extra_args=extra)


def _json(written: list[str], flag: str) -> Any:
    return json.loads(written[written.index(flag) + 1])
