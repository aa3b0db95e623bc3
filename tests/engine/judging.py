"""Our verdict on a case, with everything that its folders say."""

from __future__ import annotations

from pathlib import Path

from freehold.engine.checks import refusals
from freehold.engine.companions import read_companions

from . import shapes
from .combinations import Case


def judged(case: Case, models: Path) -> list[str]:
    settings = case.settings(models)
    companions = read_companions(settings)
    return refusals(settings, shapes.MODELS[case.model], companions=companions, device=case.device)
