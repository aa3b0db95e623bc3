"""The pinned vLLM's own word: what we pass it takes, and what we refuse it refuses.

Each command line goes through its parser, `create_engine_config()` and the server's own checks, on
a folder with the model's config.json: on a CPU, and as if on an H100 (pinned.py).
"""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.engine import vllm_facts, vllm_flags
from freehold.engine.command_line import command_line

from .combinations import Axes, Case, _of, covering, starts
from .judging import judged
from .pinned import Pinned, Refused
from .wrong import WRONG, Wrong

pytestmark = pytest.mark.vllm

_STARTS = [pytest.param(case, axes, id=case.name) for case, axes in starts()]


@pytest.mark.parametrize(("start", "axes"), _STARTS)
def test_every_pair_of_options_is_taken(
    start: Case, axes: Axes, models: Path, pinned: Pinned
) -> None:
    cases = [*covering(start, axes, lambda case: not judged(case, models))]
    assert cases
    for case in cases:
        _taken(case, models, pinned)


@settings(max_examples=150, derandomize=True)
@given(data=st.data())
def test_whatever_we_let_through_is_taken(
    data: st.DataObject, models: Path, pinned: Pinned
) -> None:
    start, axes = data.draw(st.sampled_from([*starts()]))
    chosen = {axis: data.draw(st.sampled_from(sorted(values))) for axis, values in axes.items()}
    case = _of(start, axes, chosen)
    if not judged(case, models):
        _taken(case, models, pinned)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.case.name)
def test_what_we_refuse_vllm_refuses_unless_the_docs_say_why(
    wrong: Wrong, models: Path, pinned: Pinned
) -> None:
    written = command_line(wrong.case.settings(models))
    if wrong.alone is None:
        with pytest.raises(Refused):
            pinned.config(written, wrong.case.device)
    else:
        pinned.config(written, wrong.case.device)  # the day it refuses, say so in wrong.py


def test_the_settings_arrive(models: Path, pinned: Pinned) -> None:
    """Spot checks that a value lands where it is meant, not only that it is taken."""
    options = {
        "dtype": "float16",
        "quantization": "fp8",
        "kv_cache_dtype": "fp8",
        "tensor_parallel": 2,
        "pipeline_parallel": 2,
        "max_model_len": 2048,
        "kv_cache_gib": 2,
        "kv_offload_gib": 3,
        "prefix_caching": False,
        "speculation": {"method": "ngram", "num_speculative_tokens": 3},
        "lora": ["adapter"],
        "max_queued_requests": 9,
        "shutdown_timeout": 7,
        "extra_args": ["--seed", "5"],
    }
    config = pinned.config(command_line(Case("", "llama", options).settings(models)), "cuda")
    assert str(config.model_config.dtype) == "torch.float16"
    assert config.model_config.quantization == "fp8"
    assert config.model_config.max_model_len == 2048
    assert config.model_config.seed == 5
    assert config.cache_config.cache_dtype == "fp8"
    assert config.cache_config.kv_cache_memory_bytes == 2 * 2**30
    assert config.cache_config.enable_prefix_caching is False
    assert config.parallel_config.tensor_parallel_size == 2
    assert config.parallel_config.pipeline_parallel_size == 2
    assert config.speculative_config.method == "ngram"
    assert config.speculative_config.num_speculative_tokens == 3
    assert config.lora_config.max_loras == 1
    assert config.scheduler_config.max_num_queued_reqs == 9
    assert config.shutdown_timeout == 7
    assert config.kv_transfer_config.kv_connector == "OffloadingConnector"
    assert config.kv_transfer_config.kv_connector_extra_config["cpu_bytes_to_use"] == 3 * 2**30


def test_each_device_is_judged_by_its_own_platform(models: Path, pinned: Pinned) -> None:
    written = command_line(Case("", "llama").settings(models))
    on_cpu, on_cuda = pinned.config(written, "cpu"), pinned.config(written, "cuda")
    assert on_cpu.device_config.device_type == "cpu"
    assert on_cuda.device_config.device_type == "cuda"
    assert on_cuda.parallel_config.worker_cls == "vllm.v1.worker.gpu_worker.Worker"


def test_the_facts_are_the_installed_vllms(pinned: Pinned) -> None:
    from typing import get_args

    from vllm.config.lora import LoRAConfig, MaxLoRARanks
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    assert set(ToolParserManager.list_registered()) == vllm_facts.TOOL_PARSERS
    assert set(ReasoningParserManager.list_registered()) == vllm_facts.REASONING_PARSERS
    assert get_args(MaxLoRARanks) == vllm_facts.LORA_RANKS
    assert LoRAConfig().max_lora_rank == vllm_facts.DEFAULT_LORA_RANK


def test_the_list_of_flags_is_the_installed_vllms(pinned: Pinned) -> None:
    assert vllm_flags.installed() == vllm_flags.arguments(), (
        "run: .venv/bin/python -m freehold.engine.vllm_flags"
    )


def test_checkpoints_take_the_methods_that_we_say(models: Path, pinned: Pinned) -> None:
    """Which --quantization each kind of checkpoint takes on a GPU, tried one by one."""
    from typing import get_args

    from freehold.config.engine import Quantization

    for comes in ("fp8", "awq", "gptq", "compressed-tensors"):
        expected = vllm_facts.CHECKPOINT_TAKES.get(comes, (comes,))
        takes = []
        for method in get_args(Quantization):
            case = Case("", f"llama_{comes}", {"quantization": method})
            try:
                pinned.config(command_line(case.settings(models)), "cuda")
                takes.append(method)
            except Refused:
                pass
        assert sorted(takes) == sorted(expected), comes


@pytest.mark.parametrize("architecture", sorted(vllm_facts.EAGLE3_OVER_PIPELINE))
def test_decoders_hand_on_eagle3s_hidden_states(architecture: str, pinned: Pinned) -> None:
    assert pinned.hands_on_hidden_states(architecture)


def test_another_decoder_does_not(pinned: Pinned) -> None:
    assert not pinned.hands_on_hidden_states("DeepseekV3ForCausalLM")


@pytest.mark.parametrize("architecture", sorted(vllm_facts.MTP_WITHOUT_COUNT))
def test_families_that_need_not_count_their_mtp_layers(architecture: str, pinned: Pinned) -> None:
    assert pinned.drafts_without_a_count(architecture)


def _taken(case: Case, models: Path, pinned: Pinned) -> None:
    written = command_line(case.settings(models))
    try:
        pinned.config(written, case.device)
    except Refused as refused:
        pytest.fail(f"{case.model} on {case.device}: {case.name}\n{written}\n{refused}")
