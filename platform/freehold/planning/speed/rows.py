"""Rows of measured or asked-for configurations: what their columns say, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from freehold.catalog.gpus import Gpu, find_gpu
from freehold.catalog.models import ModelSpec, find_model

from .closed_loop import Loop, closed_loop
from .deployment import Deployment, Load
from .work import kv_bytes_per_token

COLUMNS = (
    "system",
    "model",
    "precision",
    "isl",
    "osl",
    "concurrency",
    "tp",
    "pp",
    "attention_dp",
    "moe_ep",
)


@dataclass(frozen=True)
class Row:
    """One configuration under one load; `moe_ep` and `attention_dp` 1 where the cell is empty."""

    system: str
    model: str
    precision: str
    input_tokens: float
    output_tokens: float
    concurrency: float
    tensor_parallel: int
    pipeline_parallel: int
    attention_data_parallel: int
    expert_parallel: int

    @classmethod
    def read(cls, cells: Mapping[str, str]) -> Row:
        """Raises ValueError naming the column of a number that is none, or not above 0."""
        return cls(
            system=cells["system"].strip(),
            model=cells["model"].strip(),
            precision=cells["precision"].strip().lower(),
            input_tokens=_number(cells, "isl"),
            output_tokens=_number(cells, "osl"),
            concurrency=_number(cells, "concurrency"),
            tensor_parallel=_count(cells, "tp"),
            pipeline_parallel=_count(cells, "pp"),
            attention_data_parallel=_count(cells, "attention_dp"),
            expert_parallel=_count(cells, "moe_ep"),
        )


def _number(cells: Mapping[str, str], column: str) -> float:
    try:
        value = float(cells[column])
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f'{column} is "{cells[column]}"; a number above 0 is wanted')
    return value


def _count(cells: Mapping[str, str], column: str) -> int:
    """A degree of parallelism; an empty cell is 1."""
    if not cells[column].strip():
        return 1
    value = _number(cells, column)
    if value != int(value):
        raise ValueError(f'{column} is "{cells[column]}"; a whole number is wanted')
    return int(value)


# Share of the GPU's memory that the engine takes, and what it needs of that beside weights and KV
# cache. No column shows either; these two make the measured rows that ran out of KV cache run out
# of it (Qwen3-32B at 4096 tokens on two H100, Llama-3.1-70B at 8192 on one H200).
_MEMORY_SHARE = 0.93
_OTHER_BYTES = 5e9

# Rows whose server admits fewer requests than come, by a setting that no column shows: (model, GPU)
# -> requests. gpt-oss-120b at concurrency 512 on H100: TTFT is 4.1 request lifetimes in every row,
# the median wait of 512 requests through 64 places, one burst.
_HIDDEN_LIMITS = {("gpt-oss-120b", "H100"): 64}


def loop_of(row: Row) -> tuple[Deployment, Loop] | None:
    """What runs in this row, and its closed loop; None where model, GPU or precision is unknown."""
    model, gpu = find_model(row.model), find_gpu(row.system)
    weights = _weights(model, row.precision) if model else None
    if model is None or gpu is None or weights is None:
        return None
    limit = _HIDDEN_LIMITS.get((model.name, gpu.name))
    limited = limit is not None and row.concurrency > limit
    deployment = _deployment(row, model, gpu, weights, limit if limited else None)
    load = Load(row.input_tokens, row.output_tokens, row.concurrency)
    return deployment, closed_loop(deployment, load, limited=limited)


def _weights(model: ModelSpec, precision: str) -> str | None:
    """The catalog's word for a precision column; an empty cell is the model as published."""
    if not precision:
        return model.native
    if precision == "fp4":
        return "mxfp4" if model.native == "mxfp4" else "nvfp4"
    known = {"fp16": "bf16", "bfloat16": "bf16", "float16": "bf16"}
    word = known.get(precision, precision)
    return word if word in ("bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4") else None


def _deployment(
    row: Row, model: ModelSpec, gpu: Gpu, weights: str, max_num_seqs: int | None
) -> Deployment:
    """Data parallelism is left out: the rows give concurrency and GPUs for one of its ranks.

    MiniMax-M2.5 with dp 4 and ep 16 measures what tp 4 and ep 4 does. Qwen3-235B on one GPU does
    not fit there: its experts are spread over ranks that no column shows, at least over as many as
    hold it.
    """
    gpus = row.tensor_parallel * row.pipeline_parallel
    experts_over = min(row.expert_parallel, row.tensor_parallel)
    room = gpu.memory_mib * 2**20 * _MEMORY_SHARE - _OTHER_BYTES
    held = model.weights(weights).total
    hidden = 1
    while model.moe and held / (gpus * hidden) > room:
        hidden *= 2
    if hidden > 1:
        experts_over = row.tensor_parallel * hidden
    deployment = Deployment(
        model=model,
        gpu=gpu,
        weights=weights,
        # Not shown either: FP8 models are measured with FP8 KV cache, all others with 16 bits.
        kv_dtype="fp8" if weights == "fp8" else "bf16",
        tensor_parallel=row.tensor_parallel,
        pipeline_parallel=row.pipeline_parallel,
        expert_parallel=experts_over,
        max_num_seqs=max_num_seqs,
    )
    if hidden > 1:
        return deployment  # how much KV cache its ranks have is unknown too
    tokens = (room - held / gpus) * row.pipeline_parallel / kv_bytes_per_token(deployment)
    return Deployment(**{**vars(deployment), "kv_budget_tokens": max(1, int(tokens))})


@cache
def measured_rows() -> tuple[dict[str, str], ...]:
    """The catalog's measured rows, each cell as text; see `catalog/measured/README.md`."""
    import csv

    rows: list[dict[str, str]] = []
    folder = files("freehold.catalog").joinpath("measured")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".csv"):
            rows += csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(rows)
