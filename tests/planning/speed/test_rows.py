"""What the columns of a row say, what they hide, and what is refused."""

from __future__ import annotations

import pytest

from freehold.planning.speed.predict import predict_row
from freehold.planning.speed.rows import Row, loop_of

CELLS = {
    "system": "h100_sxm",
    "model": "openai/gpt-oss-120b",
    "precision": "fp4",
    "isl": "1024",
    "osl": "1024",
    "concurrency": "64",
    "tp": "2",
    "pp": "1",
    "attention_dp": "",
    "moe_ep": "1",
}


def row(**changes: str) -> Row:
    return Row.read(CELLS | changes)


def test_precision_is_the_catalog_s_quantization() -> None:
    def weights(**changes: str) -> str:
        known = loop_of(row(**changes))
        assert known
        return known[0].weights

    assert weights() == "mxfp4"
    assert weights(precision="") == "mxfp4"
    assert weights(model="Qwen/Qwen3-32B", precision="") == "bf16"
    assert weights(model="Qwen/Qwen3-32B", precision="fp4") == "nvfp4"
    assert weights(model="Qwen/Qwen3-32B", precision="FP16") == "bf16"


def test_what_the_catalog_does_not_know_has_no_prediction() -> None:
    assert predict_row(row(model="nobody/Nothing-1B")) is None
    assert predict_row(row(system="tpu_v9")) is None
    assert predict_row(row(precision="fp3")) is None


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("isl", "many", 'isl is "many"; a number above 0'),
        ("concurrency", "0", 'concurrency is "0"'),
        ("concurrency", "nan", 'concurrency is "nan"'),
        ("osl", "", 'osl is ""'),
        ("tp", "1.5", 'tp is "1.5"; a whole number'),
    ],
)
def test_a_cell_that_is_no_number_is_named(column: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row(**{column: value})


def test_data_parallel_is_per_rank_in_the_rows() -> None:
    """MiniMax-M2.5 with dp 4 and ep 16 was measured like tp 4 and ep 4."""
    one = row(model="MiniMaxAI/MiniMax-M2.5", precision="fp8", tp="4", moe_ep="4")
    many = row(
        model="MiniMaxAI/MiniMax-M2.5", precision="fp8", tp="4", moe_ep="16", attention_dp="4"
    )
    assert predict_row(one) == predict_row(many)


def test_a_model_that_does_not_fit_has_its_experts_elsewhere() -> None:
    """Qwen3-235B in FP8 is 236 GB: one H200 of 141 GB holds it only with hidden ranks."""
    cells = {"system": "h200_sxm", "model": "Qwen/Qwen3-235B-A22B-FP8", "precision": "fp8"}
    one, four = loop_of(row(**cells, tp="1")), loop_of(row(**cells, tp="4"))
    assert one and four
    assert one[0].expert_parallel == 2
    assert one[0].kv_budget_tokens is None
    assert four[0].expert_parallel == 1
    assert four[0].kv_budget_tokens


def test_the_hidden_server_limit_is_known() -> None:
    """gpt-oss-120b on H100 at 512: 64 run, the others wait for about four lifetimes."""
    free, limited = predict_row(row(concurrency="64")), predict_row(row(concurrency="512"))
    assert free and limited
    lifetime = limited[0] / (1024 * limited[1])
    assert 3 < lifetime < 8
    assert limited[0] > 50 * free[0]
    known = loop_of(row(concurrency="512"))
    assert known and known[0].max_num_seqs == 64
