"""What docs/plan.md and docs/config.md say is so: the presets' table, every key, every option.

Regenerate the table: .venv/bin/python tests/planning/test_docs.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from freehold.cli.plan import command
from freehold.config import load_stack
from freehold.config.engine import EngineOptions
from freehold.config.stack import KvCache, Stack
from freehold.planning.plan import Plan, PoolPlan, make_plan

ROOT = Path(__file__).parents[2]
PLAN_MD = ROOT / "docs" / "plan.md"
CONFIG_MD = ROOT / "docs" / "config.md"
PRESETS = ("small", "medium", "large")


def plan(name: str) -> Plan:
    return make_plan(name, load_stack(name, ROOT))


def table() -> list[str]:
    """The rows of the presets' table, from the plans."""
    return [row(plan_, pool) for plan_ in map(plan, PRESETS) for pool in plan_.pools]


def row(plan: Plan, pool: PoolPlan) -> str:
    placement = pool.placement
    assert placement
    split = f"TP{placement.tensor_parallel}, PP{placement.pipeline_parallel}"
    if plan.node_groups and any(
        len(g.pools) > 1 and pool.name in g.pools for g in plan.node_groups
    ):
        split = f"one GPU with {', '.join(sharing(plan, pool))}"
    speculation = pool.settings.options.speculation
    cells = [
        f"`{plan.stack}`",
        f"`{pool.name}`",
        pool.model or pool.settings.model,
        placement.quantization,
        f"{placement.nodes} x {placement.instance_type}",
        split,
        speculation.method if speculation else "-",
        tiers(plan.cache) if pool.role == "generate" else "-",
        placement.capacity.replace("_", " "),
    ]
    return f"| {' | '.join(cells)} |"


def sharing(plan: Plan, pool: PoolPlan) -> list[str]:
    group = next(group for group in plan.node_groups if pool.name in group.pools)
    return [f"`{name}`" for name in group.pools if name != pool.name]


def tiers(cache: KvCache | None) -> str:
    named = ["GPU"]
    if cache:
        named.append(f"LMCache {cache.host_memory_gib:g} GiB")
        named += [f"NVMe {cache.nvme_gib:g} GiB"] if cache.nvme_gib else []
        named += [f"Redis {cache.redis.memory_gib:g} GiB"] if cache.redis else []
    return ", ".join(named)


def test_the_table_of_presets_is_what_is_planned() -> None:
    documented = [line for line in PLAN_MD.read_text().splitlines() if line.startswith("| `")]
    assert [line for line in documented if line.count("|") == 10] == table()


def test_every_feature_is_on_in_a_preset() -> None:
    plans = [plan(name) for name in PRESETS]
    pools = [pool for one in plans for pool in one.pools]
    placements = [pool.placement for pool in pools if pool.placement]
    assert any(p.quantization != "bf16" for p in placements)
    assert any(p.tensor_parallel > 1 for p in placements)
    assert any(pool.settings.options.speculation for pool in pools)
    assert any(one.cache and one.cache.redis for one in plans)
    assert {"embed", "rerank"} <= {pool.role for pool in pools}
    assert {plan.tier for plan in plans} == set(PRESETS)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from models_in(part)


def keys(model: type[BaseModel]) -> set[str]:
    """Every key below a model, but those of the engine, which have their own page."""
    if model is EngineOptions:
        return set()
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            found |= keys(inner)
    return found


def test_every_key_of_a_stack_file_is_documented() -> None:
    documented = set(re.findall(r"`([a-z0-9_]+)`", CONFIG_MD.read_text()))
    documented |= set(re.findall(r"`([a-z]+): ", CONFIG_MD.read_text()))
    assert keys(Stack) - documented == set()


def test_every_option_is_documented_and_exists() -> None:
    documented = set(re.findall(r"--[a-z][a-z-]+", PLAN_MD.read_text()))
    options = {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
    assert documented == options


@pytest.mark.parametrize("page", [PLAN_MD, CONFIG_MD])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if target.startswith("components/"):
            continue  # the engine's page is its own part's
        assert (page.parent / target).exists(), target


def write() -> None:
    lines = PLAN_MD.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| stack | pool |")) + 2
    end = next(i for i in range(start, len(lines)) if not lines[i])
    PLAN_MD.write_text("\n".join([*lines[:start], *table(), *lines[end:]]) + "\n")


if __name__ == "__main__":
    write()
