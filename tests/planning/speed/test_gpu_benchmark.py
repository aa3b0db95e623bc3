"""The parts of the GPU benchmark that need no GPU: the model's shape, the log, the rows."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tokenizers import Tokenizer

from freehold.catalog.models import from_config_json, load_models
from freehold.config import FreeholdError
from freehold.planning.speed.predict import predict_row
from freehold.planning.speed.rows import Row

FOLDER = Path(__file__).parents[3] / "loadtests" / "benchmarks" / "gpu"


def load(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


results, shape = load("results"), load("shape")

ASKED = {
    "system": "l40s",
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "precision": "bf16",
    "input_tokens": 1024,
    "output_tokens": 256,
    "tensor_parallel": 1,
    "pipeline_parallel": 1,
}
RESULT = {
    "max_concurrency": 16,
    "completed": 160,
    "failed": 0,
    "median_ttft_ms": 151.2,
    "median_tpot_ms": 28.4,
}


@pytest.mark.parametrize(
    "name",
    ["llama-3.1-8b", "qwen3-8b", "mixtral-8x7b", "qwen3-235b-a22b", "deepseek-r1", "gpt-oss-20b"],
)
def test_the_shape_has_the_model_s_parameters(name: str) -> None:
    model = load_models()[name]
    made = from_config_json(shape.config_of(model), name)
    assert made.parameters == pytest.approx(model.parameters, rel=0.01)
    assert set(made.attention) == set(model.attention)


def test_a_shape_without_a_plain_architecture_is_refused() -> None:
    with pytest.raises(FreeholdError, match=r"gemma-4-31b .* --model-config"):
        shape.config_of(load_models()["gemma-4-31b"])


def test_a_prompt_of_random_tokens_keeps_its_length(tmp_path: Path) -> None:
    shape.write_folder({"model_type": "llama"}, tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = [5, 17, 4242, 8000] * 64
    assert tokenizer.encode(tokenizer.decode(ids)).ids == ids
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "llama"}


def test_the_engine_s_log_gives_its_memory() -> None:
    log = """(Worker_TP0) INFO Model loading took 7.49 GiB memory and 3.1 seconds
(Worker_TP1) INFO Model loading took 7.51 GiB memory and 3.2 seconds
(Worker_TP0) INFO Available KV cache memory: 29.10 GiB
(EngineCore) INFO GPU KV cache size: 476,752 tokens"""
    found = results.memory_from_log(log)
    assert found == results.EngineMemory(weights_gib=7.51, kv_tokens=476_752, kv_gib=29.1)
    assert results.memory_from_log("nothing") == results.EngineMemory(None, None, None)


def test_rows_are_read_back_by_calibration(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    row = results.row_of(ASKED, RESULT, "0.32.0", "2026-11-24")
    results.append(path, row)
    results.append(path, row)
    header, first, second = path.read_text().splitlines()
    assert header.split(",") == list(results.COLUMNS)
    assert first == second
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    assert (cells["ttft_ms"], cells["tpot_ms"]) == ("151.2", "28.4")
    assert predict_row(Row.read(cells)) is not None


def test_a_run_with_failures_gives_no_row() -> None:
    with pytest.raises(ValueError, match="3 requests failed"):
        results.row_of(ASKED, RESULT | {"failed": 3}, "0.32.0", "2026-11-24")


def test_columns_are_those_of_the_catalog_s_rows() -> None:
    catalog = FOLDER.parents[2] / "platform" / "freehold" / "catalog" / "measured"
    header = (catalog / "measured_vllm_hopper.csv").read_text().splitlines()[0]
    assert header.split(",") == list(results.COLUMNS)
