"""Fit the constants on the catalog's measured rows and write them to `constants.json`.

    python -m freehold.planning.speed.calibrate

Global constants are drawn to what hardware of this kind does, model and system effects to zero,
each with the spread below: a model with few rows stays near the global law. Deterministic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import least_squares
from .closed_loop import Loop, latency
from .constants import MODEL_EFFECTS, SYSTEM_EFFECTS, Band, Constants, Effects, Global
from .rows import Row, loop_of, measured_rows
from .stacked import select, stack

# Constant -> (where it is expected, how far from there it may be as a standard deviation of its
# logarithm). Efficiencies: what GPUs reach in practice; times: tens of microseconds a launch.
PRIORS = {
    "dense_bandwidth": (0.8, 0.2),
    "expert_bandwidth": (0.6, 0.3),
    "kv_bandwidth": (0.7, 0.3),
    "decode_compute": (0.6, 0.5),
    "expert_spread": (0.8, 0.15),
    "step_s": (1e-3, 1.0),
    "layer_s": (4e-5, 0.7),
    "moe_layer_s": (4e-5, 0.5),
    "sequence_s": (1e-5, 1.0),
    "all_reduce": (1.0, 0.4),
    "prefill_dense": (0.6, 0.4),
    "prefill_expert": (0.35, 0.4),
    "prefill_attention": (0.5, 0.5),
    "prefill_tp": (0.9, 0.1),
    "expert_width": (200.0, 0.7),
    "interference": (0.8, 0.1),
    "hidden_reads": (0.5, 0.7),
    "request_s": (0.02, 0.7),
    "first_steps": (2.0, 0.5),
    "queue": (0.08, 0.5),
    "queue_exponent": (0.9, 0.15),
    "wait": (0.6, 0.3),
    "limited_decode": (0.6, 0.5),
}
EFFECT_SPREADS = {
    "decode": 0.3,
    "decode_tp": 0.06,
    "growth": 0.4,
    "prefill": 0.4,
    "prefill_tp": 0.3,
    "first_token": 0.5,
    "queue_exponent": 0.3,
    "interference": 0.6,
    "system_decode": 0.12,
    "system_prefill": 0.15,
}
# Runs of one configuration that were measured twice differ by 1 % (TPOT) to 7 % (TTFT).
NOISE = 0.03


@dataclass(frozen=True)
class Measured:
    """Measured rows as arrays: one entry a row, in the order of the file."""

    loop: Loop
    model: np.ndarray
    gpu: np.ndarray
    weights: np.ndarray
    group: np.ndarray
    """The configuration: rows of one group differ in concurrency alone."""
    ttft: np.ndarray
    tpot: np.ndarray
    """Seconds."""


def load_measured() -> Measured:
    """Every row of the catalog. A row that the catalog cannot read is an error, never skipped."""
    loops, keys, groups, times = [], [], [], []
    for cells in measured_rows():
        known = loop_of(Row.read(cells))
        if known is None:
            raise ValueError(f"unknown model, system or precision in measured row {cells}")
        deployment, loop = known
        loops.append(loop)
        keys.append((deployment.model.name, deployment.gpu.name, deployment.weights))
        names = ("system", "model", "tp", "pp", "attention_dp", "moe_ep", "isl", "osl")
        groups.append("|".join(cells[name] for name in names))
        times.append((float(cells["ttft_ms"]) / 1e3, float(cells["tpot_ms"]) / 1e3))
    model, gpu, weights = (np.array(column) for column in zip(*keys, strict=True))
    ttft, tpot = (np.array(column) for column in zip(*times, strict=True))
    return Measured(stack(loops), model, gpu, weights, np.array(groups), ttft, tpot)


@dataclass(frozen=True)
class Layout:
    """Where each parameter stands in the vector that is fitted."""

    models: tuple[str, ...]
    systems: tuple[str, ...]

    @property
    def start(self) -> np.ndarray:
        at = [np.log(expected) for expected, _ in PRIORS.values()]
        return np.array(at + [0.0] * len(self._effect_spreads()))

    @property
    def spread(self) -> np.ndarray:
        return np.array([spread for _, spread in PRIORS.values()] + self._effect_spreads())

    def _effect_spreads(self) -> list[float]:
        return [EFFECT_SPREADS[name] for name in MODEL_EFFECTS for _ in self.models] + [
            EFFECT_SPREADS[name] for name in SYSTEM_EFFECTS for _ in self.systems
        ]

    def constants(self, x: np.ndarray) -> Global:
        values = np.exp(x[: len(PRIORS)])
        return Global(**dict(zip(PRIORS, (float(value) for value in values), strict=True)))

    def tables(self, x: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Effect -> one value a model; effect -> one value a system."""
        at = len(PRIORS)
        tables = []
        for names, keys in ((MODEL_EFFECTS, self.models), (SYSTEM_EFFECTS, self.systems)):
            table = {}
            for name in names:
                table[name] = x[at : at + len(keys)]
                at += len(keys)
            tables.append(table)
        return tables[0], tables[1]


def fit(data: Measured, rows: np.ndarray) -> Constants:
    """Constants fitted on the rows where `rows` is true. Bands are left empty."""
    systems = np.array([f"{m} on {g}" for m, g in zip(data.model, data.gpu, strict=True)])
    layout = Layout(tuple(sorted(set(data.model[rows]))), tuple(sorted(set(systems[rows]))))
    model_at = np.array([layout.models.index(name) for name in data.model[rows]])
    system_at = np.array([layout.systems.index(name) for name in systems[rows]])
    loop = select(data.loop, rows)
    wanted = np.log(np.concatenate([data.ttft[rows], data.tpot[rows]]))

    def residuals(x: np.ndarray) -> np.ndarray:
        by_model, by_system = layout.tables(x)
        own: dict[str, Any] = {name: values[model_at] for name, values in by_model.items()}
        own |= {name: values[system_at] for name, values in by_system.items()}
        effects = Effects(**own)
        found = latency(layout.constants(x), effects, loop)
        return np.log(np.concatenate([found.ttft, found.tpot])) - wanted

    x = least_squares.fit(residuals, layout.start, layout.spread, noise=NOISE)
    by_model, by_system = layout.tables(x)
    return Constants(
        general=layout.constants(x),
        models=_by_key(layout.models, by_model),
        systems=_by_key(layout.systems, by_system),
        measured=frozenset(
            f"{m} {w} on {g}"
            for m, w, g in zip(data.model[rows], data.weights[rows], data.gpu[rows], strict=True)
        ),
        bands={},
    )


def _by_key(keys: tuple[str, ...], tables: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    return {
        key: {name: float(values[index]) for name, values in tables.items()}
        for index, key in enumerate(keys)
    }


def predicted(data: Measured, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
    """TTFT and TPOT in seconds for every row."""
    known = [constants.effects(m, g) for m, g in zip(data.model, data.gpu, strict=True)]
    columns: dict[str, Any] = {
        name: np.array([getattr(effect, name) for effect in known])
        for name in Effects.__dataclass_fields__
    }
    effects = Effects(**columns)
    found = latency(constants.general, effects, data.loop)
    return found.ttft, found.tpot


def held_out(data: Measured, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TTFT and TPOT of every row, predicted by constants fitted on the rows with other labels."""
    ttft, tpot = np.zeros(len(label)), np.zeros(len(label))
    for value in sorted(set(label)):
        out = label == value
        found = predicted(data, fit(data, ~out))
        ttft[out], tpot[out] = found[0][out], found[1][out]
    return ttft, tpot


def folds(data: Measured, seed: int, count: int = 5) -> np.ndarray:
    """A fold for every row; all rows of one configuration are in the same."""
    groups = sorted(set(data.group))
    order = np.random.default_rng(seed).permutation(len(groups))
    fold = {groups[at]: index % count for index, at in enumerate(order)}
    return np.array([fold[group] for group in data.group])


def band(data: Measured, ttft: np.ndarray, tpot: np.ndarray) -> Band:
    """Factors on a prediction between which nine of ten measured values lie."""

    def factors(ratio: np.ndarray) -> tuple[float, float]:
        low, high = np.quantile(ratio, [0.05, 0.95])
        return round(float(low), 3), round(float(high), 3)

    return Band(ttft=factors(data.ttft / ttft), tpot=factors(data.tpot / tpot))


def calibrate() -> Constants:
    """Fit on all rows; bands from cross-validation and from leaving a model or a system out."""
    data = load_measured()
    final = fit(data, np.ones(len(data.ttft), dtype=bool))
    bands = {
        "measured": band(data, *held_out(data, folds(data, seed=0))),
        "new_model": band(data, *held_out(data, data.model)),
        "new_gpu": band(data, *held_out(data, data.gpu)),
    }
    return Constants(final.general, final.models, final.systems, final.measured, bands)


def as_json(constants: Constants) -> str:
    def rounded(values: dict[str, float]) -> dict[str, float]:
        return {name: float(f"{value:.5g}") for name, value in values.items()}

    held = {
        "made_by": "python -m freehold.planning.speed.calibrate, from catalog/measured/*.csv",
        "general": rounded(vars(constants.general)),
        "models": {key: rounded(dict(row)) for key, row in constants.models.items()},
        "systems": {key: rounded(dict(row)) for key, row in constants.systems.items()},
        "measured": sorted(constants.measured),
        "bands": {key: vars(value) for key, value in constants.bands.items()},
    }
    return json.dumps(held, indent=2) + "\n"


def main() -> None:
    path = Path(__file__).with_name("constants.json")
    path.write_text(as_json(calibrate()), encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
