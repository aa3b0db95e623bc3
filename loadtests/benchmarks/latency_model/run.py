"""How far the latency model is off on measured rows that it was not fitted on.

    python loadtests/benchmarks/latency_model/run.py [--out DIR]

(a) 5-fold cross-validation, repeated with several assignments of folds; no configuration (system, model,
tp, pp, dp, ep, isl, osl) is in two folds. (b) One model left out, and one system left out: what a user with
a new model or GPU gets. Every row of the catalog counts, repeats and outliers too. About a minute.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from freehold.planning.speed import calibrate
from freehold.planning.speed.calibrate import Measured

SEEDS = range(10)

# AIConfigurator 0.12 on rows like these (275 Hopper rows of seven models, 2026-11-23): TTFT median and mean,
# TPOT median and mean, in percent.
PEER = (32, 40, 14, 25)
AIM = (8, 16, 5, 9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="folder for latency_model.json")
    options = parser.parse_args()
    data = calibrate.load_measured()
    results = measure(data)
    show(results)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "latency_model.json").write_text(json.dumps(results, indent=2) + "\n")


def measure(data: Measured) -> list[dict[str, Any]]:
    """Errors by way of holding out, overall and by model."""
    repeats = [
        errors(data, *calibrate.held_out(data, calibrate.folds(data, seed))) for seed in SEEDS
    ]
    results = [summary(f"5 folds, assignment {seed}", *found) for seed, found in enumerate(repeats)]
    together = [np.concatenate(column) for column in zip(*repeats, strict=True)]
    results.append(summary("5 folds, all assignments", together[0], together[1]))
    for model in sorted(set(data.model)):
        rows = np.tile(data.model == model, len(SEEDS))
        results.append(summary(f"    {model}", together[0][rows], together[1][rows]))
    for what, label in (("model", data.model), ("system", data.gpu)):
        ttft, tpot = errors(data, *calibrate.held_out(data, label))
        results.append(summary(f"one {what} left out", ttft, tpot))
        for name in sorted(set(label)):
            results.append(summary(f"    {name}", ttft[label == name], tpot[label == name]))
    return results


def errors(data: Measured, ttft: np.ndarray, tpot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Absolute errors in percent of what was measured."""
    return 100 * np.abs(ttft / data.ttft - 1), 100 * np.abs(tpot / data.tpot - 1)


def summary(name: str, ttft: np.ndarray, tpot: np.ndarray) -> dict[str, Any]:
    known = np.isfinite(ttft) & np.isfinite(tpot)
    return {
        "name": name,
        "rows": len(ttft),
        "coverage_percent": 100 * float(np.mean(known)),
        "ttft_median": float(np.median(ttft)),
        "ttft_mean": float(np.mean(ttft)),
        "tpot_median": float(np.median(tpot)),
        "tpot_mean": float(np.mean(tpot)),
    }


def show(results: list[dict[str, Any]]) -> None:
    print(f"{'error in %':<30} {'rows':>5} {'coverage':>8}   TTFT median  mean   TPOT median  mean")
    for line in results:
        print(
            f"{line['name']:<30} {line['rows']:>5} {line['coverage_percent']:>7.0f}%"
            f" {line['ttft_median']:>13.1f} {line['ttft_mean']:>5.1f}"
            f" {line['tpot_median']:>13.1f} {line['tpot_mean']:>5.1f}"
        )
    for name, (ttft, ttft_mean, tpot, tpot_mean) in (
        ("aim of the 5 folds", AIM),
        ("AIConfigurator 0.12, published", PEER),
    ):
        print(
            f"{name:<30} {'':>14} {ttft:>13.1f} {ttft_mean:>5.1f} {tpot:>13.1f} {tpot_mean:>5.1f}"
        )


if __name__ == "__main__":
    main()
