"""The command line is vLLM's: the same flags, the same refusals."""

from __future__ import annotations

import subprocess
import sys

import pytest

from freehold.config.engine import EngineOptions, LoraAdapter, NgramSpeculation
from freehold.config.errors import FreeholdError
from freehold.engine.command_line import command_line
from freehold.engine.settings import EngineSettings, LmcacheTransfer
from freehold.simulator.settings import Settings, settings_of


def settings(*arguments: str, **environment: str) -> Settings:
    return settings_of(arguments, environment)


def test_everything_that_freehold_writes_is_taken_and_means_the_same() -> None:
    options = EngineOptions(
        dtype="bfloat16",
        kv_cache_dtype="fp8",
        tensor_parallel=4,
        max_model_len=8192,
        memory_share=0.9,
        block_size=32,
        max_num_seqs=64,
        max_num_batched_tokens=4096,
        prefix_caching=False,
        speculation=NgramSpeculation(method="ngram", num_speculative_tokens=3),
        tool_call_parser="hermes",
        lora=[LoraAdapter(name="law", path="/adapters/law")],
        max_queued_requests=100,
        shutdown_timeout=7,
        enforce_eager=True,
    )
    line = command_line(
        EngineSettings(
            model="org/model",
            served_name="chat",
            role="generate",
            options=options,
            kv_transfer=LmcacheTransfer(port=5999),
        )
    )
    found = settings(*line, "--host", "127.0.0.1", "--port", "9")
    limits = found.limits
    assert (found.model, found.names, found.port) == ("org/model", ("chat",), 9)
    assert (limits.block_size, limits.max_num_seqs, limits.max_model_len) == (32, 64, 8192)
    assert (limits.max_num_batched_tokens, limits.draft_tokens) == (4096, 3)
    assert not limits.prefix_caching and limits.max_queued_requests == 100
    assert found.adapters == {"law": "/adapters/law"} and found.max_loras == 1
    assert found.shared_tier and found.shared_tier.address == ("127.0.0.1", 5999)
    assert found.shutdown_timeout == 7 and found.request_id_headers
    assert found.auto_tool_choice and found.prompt_tokens_details


@pytest.mark.parametrize(
    ("role", "expected"), [("generate", "generate"), ("embed", "embed"), ("rerank", "classify")]
)
def test_the_role_follows_from_the_command_line(role: str, expected: str) -> None:
    line = command_line(EngineSettings("m", "m", role, EngineOptions()))  # type: ignore[arg-type]
    assert settings(*line).role == expected


@pytest.mark.parametrize(
    "wrong",
    [
        ["--no-such-flag"],
        ["--port", "eighty"],
        ["--dtype", "float7"],
        ["--max-model-len", "12q"],
        ["--speculative-config", "{broken"],
        ["--max-num-seqs"],
        ["--enforce-eager=maybe"],
    ],
)
def test_what_vllm_s_parser_refuses_is_refused_with_code_2(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        settings("--model", "m", *wrong)
    assert refused.value.code == 2
    assert wrong[0].partition("=")[0] in capsys.readouterr().err


def test_sizes_and_underscores_are_read_as_vllm_reads_them() -> None:
    assert settings("m", "--max_model_len=4k").limits.max_model_len == 4000
    assert settings("m", "--max-model-len", "4K").limits.max_model_len == 4096


def test_a_context_that_does_not_fit_its_kv_cache_is_refused() -> None:
    with pytest.raises(FreeholdError, match="needs 8192 tokens of KV cache, there is room for 160"):
        settings("m", "--max-model-len", "8192", "--num-gpu-blocks-override", "10")


def test_a_misspelt_scenario_is_refused(tmp_path: object) -> None:
    path = f"{tmp_path}/scenario.json"
    with open(path, "w") as file:
        file.write('{"fault": true}')
    with pytest.raises(FreeholdError, match=r"unknown key 'fault'; allowed: .*faults"):
        settings("m", FREEHOLD_SIMULATOR=path)


def test_neither_vllm_nor_torch_nor_numpy_is_loaded_by_a_replica_without_a_plan() -> None:
    script = (
        "import sys, freehold.simulator.__main__ as m, freehold.simulator.api\n"
        "heavy = {'vllm', 'torch', 'numpy', 'pulumi', 'prometheus_client'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
