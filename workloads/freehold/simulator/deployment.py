"""The plan's deployment as JSON, so that a replica's scenario file can name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from freehold.catalog.gpus import load_gpus
from freehold.catalog.models import find_model
from freehold.config.errors import FreeholdError
from freehold.planning.speed import Deployment, Factors, Speculation


def to_json(deployment: Deployment) -> dict[str, Any]:
    """Model and GPU by their names in the catalog; the rest as it is."""
    described = asdict(deployment)
    return described | {"model": deployment.model.name, "gpu": deployment.gpu.name}


def from_json(described: Mapping[str, Any]) -> Deployment:
    """Raises FreeholdError for a model or a GPU that the catalog has not."""
    fields = dict(described)
    model = find_model(fields.pop("model"))
    gpu = load_gpus().get(fields.pop("gpu"))
    if model is None or gpu is None:
        missing = f"model {described['model']}" if model is None else f"GPU {described['gpu']}"
        raise FreeholdError(f"{missing} is not in the catalog: its speed is not known")
    speculation = Speculation(**fields.pop("speculation", {}))
    factors = Factors(**fields.pop("factors", {}))
    return Deployment(model=model, gpu=gpu, speculation=speculation, factors=factors, **fields)
