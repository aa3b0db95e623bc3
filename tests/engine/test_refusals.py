"""What is refused, in which words; and that nothing is refused that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.engine.checks import refusals

from .combinations import Axes, Case, refused_pairs, starts
from .judging import judged
from .wrong import WRONG, Wrong


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.case.name)
def test_a_wrong_combination_is_refused_once_with_key_value_and_mend(
    wrong: Wrong, models: Path
) -> None:
    reasons = judged(wrong.case, models)
    assert len(reasons) == 1, reasons
    for part in wrong.says:
        assert part in reasons[0]


# Of all pairs of values of all axes, those that do not go together; vLLM refuses each of them too.
_FLOAT32 = {
    frozenset({"dtype float32", f"quantization {method}"})
    for method in ("fp8", "fp8_per_tensor", "fp8_per_block", "int8")
}
_REFUSED_PAIRS = {
    "llama on cuda": _FLOAT32,
    "qwen on cuda": _FLOAT32,
    "deepseek on cuda": _FLOAT32,
    "llama on cpu": {frozenset({"dtype float32", "quantization int8"})},
}


@pytest.mark.parametrize(("case", "axes"), [pytest.param(*s, id=s[0].name) for s in starts()])
def test_of_all_pairs_of_options_only_known_ones_are_refused(
    case: Case, axes: Axes, models: Path
) -> None:
    refused = refused_pairs(case, axes, lambda tried: not judged(tried, models))
    if case.model == "deepseek_fp8":
        assert {next(iter(pair - {"dtype float32"})) for pair in refused}
        assert all("dtype float32" in pair for pair in refused)
    else:
        assert refused == _REFUSED_PAIRS.get(case.name, set())


def test_without_the_models_config_only_the_settings_are_judged(models: Path) -> None:
    settings = Case("", "llama", {"tensor_parallel": 3}).settings(models)
    assert refusals(settings, None) == []
    settings = Case("", "llama", {"extra_args": ["--port", "1"]}).settings(models)
    assert len(refusals(settings, None)) == 1


def test_overrides_of_the_config_are_judged_with_it(models: Path) -> None:
    longer = {"max_position_embeddings": 32768}
    case = Case("", "llama", {"max_model_len": 32768, "hf_overrides": longer})
    assert judged(case, models) == []
    case = Case("", "llama", {"tensor_parallel": 3, "hf_overrides": {"num_attention_heads": 6}})
    assert judged(case, models) == []
