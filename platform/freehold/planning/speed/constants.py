"""The fitted constants: what they mean, and the committed file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Global:
    """Constants of every model and GPU. Efficiencies are shares of the data sheet."""

    dense_bandwidth: float
    """Share of memory bandwidth when reading dense weights."""
    expert_bandwidth: float
    """The same for routed experts, whose small pieces read worse."""
    kv_bandwidth: float
    decode_compute: float
    """Share of the peak FLOP/s in a decode step."""
    expert_spread: float
    """How differently tokens choose experts: as many as tokens**spread independent ones."""
    step_s: float
    """Seconds of every step: scheduling and sampling."""
    layer_s: float
    """Seconds of every layer: kernel launches and gaps."""
    moe_layer_s: float
    """More of it in a layer with experts: routing, sorting, gathering."""
    sequence_s: float
    """Seconds of a step for each sequence: scheduling, sampling, sending."""
    all_reduce: float
    """Times the measured all-reduce alone (imbalance and synchronisation)."""
    prefill_dense: float
    """Share of the peak FLOP/s when computing prompts, dense models."""
    prefill_expert: float
    """The same for models with experts, before `expert_width`."""
    prefill_attention: float
    prefill_tp: float
    """Prefill speeds up as tensor_parallel ** this."""
    expert_width: float
    """Columns at which a rank's piece of an expert reaches half of its efficiency."""
    interference: float
    """Share of a prefill's time that decoding sequences see."""
    hidden_reads: float
    """Weight reads that a prefill in the same step hides, in decode steps."""
    request_s: float
    """Seconds of a request outside the engine: HTTP, templating, tokenising."""
    first_steps: float
    """Decode steps between arrival and first token: the step under way and those in the pipe."""
    queue: float
    queue_exponent: float
    """A request waits for queue * (concurrency**exponent - 1) prefills of others."""
    wait: float
    """Times the mean wait of a closed loop that is over its capacity."""
    limited_decode: float
    """Times the TPOT in measured rows whose server limit no column shows (`rows.py`)."""


@dataclass(frozen=True)
class Effects:
    """How one measured model differs from the global constants: natural logarithms, 0 if unknown."""

    decode: float = 0.0
    decode_tp: float = 0.0
    """Exponent of tensor_parallel / 4 in the decode step."""
    growth: float = 0.0
    """How the decode step grows with the batch."""
    prefill: float = 0.0
    prefill_tp: float = 0.0
    first_token: float = 0.0
    queue_exponent: float = 0.0
    interference: float = 0.0
    system_decode: float = 0.0
    """The model on one GPU against the model on all."""
    system_prefill: float = 0.0


MODEL_EFFECTS = (
    "decode",
    "decode_tp",
    "growth",
    "prefill",
    "prefill_tp",
    "first_token",
    "queue_exponent",
    "interference",
)
SYSTEM_EFFECTS = ("system_decode", "system_prefill")


@dataclass(frozen=True)
class Band:
    """Measured over predicted: nine of ten held-out rows lie between these factors."""

    ttft: tuple[float, float]
    tpot: tuple[float, float]


@dataclass(frozen=True)
class Constants:
    general: Global
    models: Mapping[str, Mapping[str, float]]
    systems: Mapping[str, Mapping[str, float]]
    """Keyed `<model> on <GPU>`."""
    measured: frozenset[str]
    """`<model> <weights> on <GPU>` with measured rows."""
    bands: Mapping[str, Band]
    """`measured`, `new_model`, `new_gpu`: from cross-validation and from leaving one out."""

    def effects(self, model: str, gpu: str) -> Effects:
        """What is known of this model, and of it on this GPU; zeros where nothing is."""
        known = {**self.models.get(model, {}), **self.systems.get(f"{model} on {gpu}", {})}
        return Effects(**known)

    def measured_models(self) -> frozenset[str]:
        return frozenset(self.models)

    def measured_gpus(self) -> frozenset[str]:
        return frozenset(key.split(" on ")[1] for key in self.systems)


@cache
def load_constants() -> Constants:
    """The constants that `python -m freehold.planning.speed.calibrate` wrote."""
    text = files("freehold.planning.speed").joinpath("constants.json").read_text(encoding="utf-8")
    held = json.loads(text)
    return Constants(
        general=Global(**held["general"]),
        models=held["models"],
        systems=held["systems"],
        measured=frozenset(held["measured"]),
        bands={
            name: Band(tuple(band["ttft"]), tuple(band["tpot"]))
            for name, band in held["bands"].items()
        },
    )
