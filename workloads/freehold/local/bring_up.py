"""The order of a start: models, checks, tools, files, processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from freehold.config import FreeholdError
from freehold.engine.checks import refusals
from freehold.engine.companions import read_companions
from freehold.planning.plan import Plan, PoolPlan

from . import runtime, simulated
from .compose import compose, compose_hosted, compose_simulated
from .home import StackHome
from .models import LocalModel, resolve
from .process import ProcessSpec
from .progress import Progress
from .statedir import StateDir, read_json
from .tools import find_tools


def bring_up(plan: Plan, home: StackHome, report: Callable[[str], None]) -> dict[str, LocalModel]:
    """Make the plan run on this machine and wait until all of it is healthy.

    Returns each pool's model. Raises FreeholdError before anything starts when it cannot work.
    """
    home.prepare()
    models = {pool.name: resolve(pool, home.models, report) for pool in plan.pools}
    _refuse_what_cannot_run(plan, models)
    specs = compose(
        plan,
        {name: model.settings for name, model in models.items()},
        _tools(plan, home, report),
        home,
    )
    with Progress() as progress:
        runtime.apply(specs, home.folder, progress)
    return models


def bring_up_simulated(
    plan: Plan, home: StackHome, report: Callable[[str], None], window_divisor: float = 1.0
) -> dict[str, LocalModel]:
    """The same with simulated engines: any stack, whatever it is planned for."""
    home.prepare()
    wanted = ["prometheus"] if plan.observability.prometheus else []
    specs = compose_simulated(plan, find_tools(wanted, home.tools, report), home, window_divisor)
    with Progress() as progress:
        runtime.apply(specs, home.folder, progress)
    return simulated.notes(plan)


def bring_up_hosted(
    plan: Plan, home: StackHome, report: Callable[[str], None]
) -> dict[str, LocalModel]:
    """Only the gateway, before models that Bedrock serves."""
    home.prepare()
    specs = compose_hosted(plan, home)
    if _signs_otherwise(specs, home):
        report("other AWS credentials than before: the gateway starts anew")
        runtime.down(home.folder)
    with Progress() as progress:
        runtime.apply(specs, home.folder, progress)
    return {pool.name: _hosted_note(pool) for pool in plan.pools}


def _signs_otherwise(specs: list[ProcessSpec], home: StackHome) -> bool:
    """Its supervisor knows the credentials of the command that started it, and no others."""
    wished = read_json(StateDir.at(home.folder).desired).get("processes", [])
    before = {process["name"]: process["env"] for process in wished}
    return any(dict(spec.env) != before.get(spec.name, dict(spec.env)) for spec in specs)


def _hosted_note(pool: PoolPlan) -> LocalModel:
    assert pool.hosted
    hosted = pool.hosted
    return LocalModel(pool.settings, f"{hosted.id}, by {hosted.provider} in {hosted.region}")


def _refuse_what_cannot_run(plan: Plan, models: dict[str, LocalModel]) -> None:
    """All reasons of all pools at once, each with its pool."""
    reasons = []
    for pool in plan.pools:
        model = models[pool.name]
        config = _config_of(model.path)
        companions = read_companions(model.settings)
        why = refusals(model.settings, config, companions=companions, device="cpu")
        reasons += [f"pool {pool.name}: {reason}" for reason in why]
    if reasons:
        raise FreeholdError(
            f"stack {plan.stack} cannot run:\n" + "\n".join(f"  {reason}" for reason in reasons)
        )


def _config_of(model: Path) -> dict[str, object]:
    return json.loads((model / "config.json").read_text(encoding="utf-8"))


def _tools(plan: Plan, home: StackHome, report: Callable[[str], None]) -> dict[str, Path]:
    """What no Python package carries; libnuma is linked by vLLM's CPU build."""
    wanted = ["libnuma.so.1"]
    if plan.cache and plan.cache.redis:
        wanted.append("redis-server")
    if plan.observability.prometheus:
        wanted.append("prometheus")
    return find_tools(wanted, home.tools, report)
