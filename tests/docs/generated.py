"""The parts of pages that are written from the Plan and from the components.

A page holds `<!-- generated: NAME ARGUMENT -->` and `<!-- end -->`; between them stands what the function
of that name gives. After a change: .venv/bin/python tests/docs/generated.py
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from freehold.catalog.models import load_models
from freehold.cli.plan_what_if import apply
from freehold.cluster.preflight import needs
from freehold.config import load_stack, parse_stack
from freehold.config.loader import load_tree
from freehold.config.stack import KvCache
from freehold.config.target import EksTarget
from freehold.planning.forecast import Forecast
from freehold.planning.plan import Plan, PoolPlan, make_plan

if __name__ == "__main__":  # as a script its folder is the path's first, as a module it is `docs`
    import optimizations  # pyright: ignore[reportMissingImports]
    from components import described, listed  # pyright: ignore[reportMissingImports]
    from pages import DOCS, ROOT, pages  # pyright: ignore[reportMissingImports]
else:
    from . import optimizations
    from .components import described, listed
    from .pages import DOCS, ROOT, pages

_BLOCK = re.compile(
    r"(<!-- generated: (?P<name>[a-z-]+) ?(?P<argument>\S*) -->\n)(?P<text>.*?)(<!-- end -->)",
    re.DOTALL,
)


@cache
def planned(name: str) -> Plan:
    return make_plan(name, load_stack(name, ROOT))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


# --- The plan ----------------------------------------------------------------------------------------


def pools(name: str) -> str:
    """What runs where, and what it holds."""
    plan = planned(name)
    return table(
        ("pool", "model", "weights", "runs on", "split", "holds at once", "GiB a GPU"),
        [_pool(pool) for pool in plan.pools],
    )


def _pool(pool: PoolPlan) -> tuple[str, ...]:
    placement, sizing = pool.placement, pool.sizing
    assert placement and sizing
    split = f"TP{placement.tensor_parallel}"
    split += f", PP{placement.pipeline_parallel}" if placement.pipeline_parallel > 1 else ""
    if sizing.kv_cache_tokens is None:
        holds = f"texts to {sizing.context:,} tokens"
    else:
        holds = f"{sizing.max_concurrency} requests of {sizing.context:,} tokens"
    memory = sizing.memory
    return (
        f"`{pool.name}`",
        str(pool.model),
        placement.quantization,
        f"{placement.nodes} x {placement.instance_type} ({placement.gpu})",
        split,
        holds,
        f"{memory.weights:.1f} weights, {memory.kv_cache:.1f} KV cache, of {memory.available:.1f}",
    )


def predicted(name: str) -> str:
    """The figures that the load test is held to."""
    rows = []
    for pool in planned(name).pools:
        forecast = pool.predicted
        if forecast is None:
            continue
        rows += [
            (f"`{pool.name}` median TTFT", _ms(forecast.median_ttft_ms, forecast.ttft_band)),
            (f"`{pool.name}` median TPOT", _ms(forecast.median_tpot_ms, forecast.tpot_band)),
            (f"`{pool.name}` median ITL", f"{forecast.median_itl_ms:,.0f} ms"),
            (f"`{pool.name}` output tokens a second", f"{forecast.output_throughput:,.0f}"),
            (f"`{pool.name}` all tokens a minute", f"{forecast.total_token_throughput * 60:,.0f}"),
            (f"`{pool.name}` requests a minute", f"{forecast.request_throughput * 60:,.1f}"),
            (f"`{pool.name}` requests in flight", f"{forecast.concurrency:,.1f}"),
            (f"`{pool.name}` basis", forecast.basis),
        ]
    return table(("at the planned load", "predicted"), rows)


def _ms(value: float, band: tuple[float, float]) -> str:
    low, high = (value * factor for factor in band)
    return f"{value:,.0f} ms (likely {low:,.0f} to {high:,.0f})"


def price(name: str) -> str:
    """The bill by item."""
    cost = planned(name).cost
    assert cost
    rows = [
        (item.name, f"{item.usd_per_hour:,.3f}", f"{item.usd_per_month:,.0f}")
        for item in cost.items
    ]
    rows.append(
        ("**GPUs only**", f"{cost.gpu_usd_per_hour:,.3f}", f"{cost.gpu_usd_per_month:,.0f}")
    )
    rows.append(("**all in**", f"{cost.usd_per_hour:,.3f}", f"{cost.usd_per_month:,.0f}"))
    for change in cost.changes:
        rows.append((f"with {change.name}: {change.note}", "", f"{change.usd_per_month:,.0f}"))
    return table(("item", "$ an hour", "$ a month"), rows)


def box(name: str) -> str:
    """What `pulumi up` buys, before anybody types it."""
    plan = planned(name)
    cost = plan.cost
    assert cost
    nodes = [f"{group.nodes} x {group.instance_type}" for group in plan.node_groups]
    longest = max(pool.sizing.startup.total for pool in plan.pools if pool.sizing) / 60
    lines = [
        '!!! warning "Before you type `pulumi up`"',
        "",
        "    - **Creates** a VPC, an EKS cluster, system nodes, GPU nodes "
        f"({', '.join(nodes)}), a load balancer, an S3 bucket for weights, and what runs in the cluster.",
        f"    - **Costs** ${cost.usd_per_hour:,.2f} an hour from the first minute, "
        f"${cost.usd_per_month:,.0f} a month if it stays.",
        f"    - **Takes** about 15 minutes for the cluster and {longest:,.0f} for the largest model to "
        "be ready (estimates; no account was at hand to measure them).",
        f"    - **Needs quota**: {'; '.join(_quotas(plan))}.",
        f"    - **Goes away** by `pulumi destroy -s {name} --exclude-protected`, after "
        "`target.deletion_protection: false` is deployed. The bucket with the weights stays "
        "([teardown](../teardown.md)).",
    ]
    return "\n".join(lines) + "\n"


def _quotas(plan: Plan) -> list[str]:
    """What `freehold preflight` wants of the account: quotas, and Capacity Blocks to be bought."""
    assert isinstance(plan.target, EksTarget)
    wanted = []
    for need in needs(plan, plan.target):
        if quota := re.match(r'quota "(.+)" (\(.+\)) in \S+: at least (.+)', need.what):
            wanted.append(f"{quota[1]} {quota[2]}: {quota[3]}")
        elif block := re.match(r"a Capacity Block of .+(?= for node group)", need.what):
            wanted.append(block[0])
    return wanted


def tiers(_: str) -> str:
    """The three presets beside one another."""
    rows = []
    for name in ("small", "medium", "large"):
        plan = planned(name)
        chat = next(pool for pool in plan.pools if pool.role == "generate")
        assert chat.placement and chat.sizing and chat.predicted and plan.cost
        rows.append(
            (
                f"[{name}]({name}.md)",
                f"{chat.model} {chat.placement.quantization}",
                f"{chat.sizing.context:,}",
                f"{chat.placement.nodes} x {chat.placement.instance_type}",
                _tiers_of(plan.cache),
                _short(chat.predicted),
                f"{plan.cost.usd_per_month:,.0f}",
            )
        )
    head = ("tier", "model", "context", "on", "KV cache", "predicted medians", "$ a month, all in")
    return table(head, rows)


def _tiers_of(cache_: KvCache | None) -> str:
    named = ["GPU"]
    if cache_:
        named.append("host memory")
        named += ["NVMe"] if cache_.nvme_gib else []
        named += ["Redis"] if cache_.redis else []
    return ", ".join(named)


def _short(forecast: Forecast) -> str:
    return f"TTFT {forecast.median_ttft_ms:,.0f} ms, TPOT {forecast.median_tpot_ms:,.0f} ms"


# --- The catalog -------------------------------------------------------------------------------------


def models(role: str) -> str:
    """What the catalog knows, by size."""
    rows = []
    for name, model in sorted(load_models().items(), key=lambda item: item[1].parameters):
        if model.role != role:
            continue
        formats = sorted({checkpoint.quantization for checkpoint in model.checkpoints})
        rows.append(
            (
                f"`{name}`",
                f"{model.parameters / 1e9:,.1f}",
                f"{model.active_parameters / 1e9:,.1f}",
                f"{model.max_context:,}",
                ", ".join(formats),
                model.licence + (" (gated)" if model.gated else ""),
            )
        )
    head = ("model", "billion weights", "used a token", "context", "published formats", "licence")
    return table(head, rows)


def what_if(argument: str) -> str:
    """A preset's chat pool with other values: `medium:concurrency=12;quantization=int4`."""
    name, _, variants = argument.partition(":")
    tree = {key: value for key, value in load_tree(name, ROOT)[0].items() if key != "budget"}
    plans = [(f"`{name}`", planned(name))]
    for changes in variants.split(";"):
        plan = make_plan(name, parse_stack(apply(tree, changes), name))
        plans.append((f"with `{changes}`", plan))
    head = ("plan", "runs on", "full contexts at once", "TTFT", "TPOT", "$ a month, all in")
    return table(head, [(title, *_compared(plan)) for title, plan in plans])


def _compared(plan: Plan) -> tuple[str, ...]:
    chat = next(pool for pool in plan.pools if pool.role == "generate")
    placement, forecast = chat.placement, chat.predicted
    assert placement and chat.sizing and forecast and plan.cost
    split = f"TP{placement.tensor_parallel}"
    split += f", PP{placement.pipeline_parallel}" if placement.pipeline_parallel > 1 else ""
    return (
        f"{placement.nodes} x {placement.instance_type}, {placement.quantization}, {split}",
        f"{chat.sizing.max_concurrency}",
        f"{forecast.median_ttft_ms:,.0f} ms",
        f"{forecast.median_tpot_ms:,.0f} ms",
        f"{plan.cost.usd_per_month:,.0f}",
    )


# What LLMfit 1.1.18 (crates.io) answers for the presets' chat models on the presets' GPUs, run 2026-11-24:
# `llmfit --profile FILE concurrency MODEL --quant Q8_0 --context N` and `... plan ...`. The profile gives all
# GPUs' memory as one pool, and one GPU's bandwidth and FLOPS, since it has no word for several.
_LLMFIT = {"small": (12, 21.7), "medium": (7, 14.0), "large": (94, 66.9)}


def llmfit(_: str) -> str:
    """LLMfit's answers beside the plan's, on the same GPUs."""
    rows = []
    for name, (sessions, alone) in _LLMFIT.items():
        chat = next(pool for pool in planned(name).pools if pool.role == "generate")
        placement, sizing = chat.placement, chat.sizing
        assert placement and sizing
        pins = (
            f"instance_type={placement.instance_type},tensor_parallel={placement.tensor_parallel}"
        )
        tree = load_tree(name, ROOT)[0]
        one = make_plan(name, parse_stack(apply(tree, f"concurrency=1,{pins}"), name))
        forecast = next(pool.predicted for pool in one.pools if pool.name == chat.name)
        assert forecast
        rows.append(
            (
                f"{chat.model} in 8 bits on {placement.instance_type}, {sizing.context:,} tokens",
                f"{sessions}",
                f"{sizing.max_concurrency}",
                f"{alone:.0f}",
                f"{1000 / forecast.median_tpot_ms:.0f}",
            )
        )
    head = ("case", "sessions, LLMfit", "the plan", "tokens a second alone, LLMfit", "the plan")
    return table(head, rows)


# --- README and CONTRIBUTING -------------------------------------------------------------------------

# Rows of docs/comparison.md by how they begin: where stacks differ most, ours and not ours.
_TELLING = (
    "code that makes network",
    "impossible combinations",
    "prefix-aware routing",
    "embeddings and reranking",
    "a lost cache",
    "price by item",
    "the whole topology rehearsed",
    "load test with a verdict",
    "alerts",
    "separate prefill",
    "one replica over several",
    "scale to zero",
    "has carried traffic",
)
_NAMES = "production-stack, AIBrix, llm-d, KServe, KubeAI, Dynamo"


def comparison(_: str) -> str:
    """The telling rows, without their notes, as seen from the README."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DOCS / "comparison.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    telling = []
    for start in _TELLING:
        feature, *cells = next(row for row in rows if row[0].startswith(start))
        ours, *others = cells
        telling.append((feature, ours.replace("../", ""), *(cell[:1] for cell in others)))
    return table(("", "Freehold", *_NAMES.split(", ")), telling)


def packages(_: str) -> str:
    """Every package by what its docstring says of it: the layout, as it is."""
    rows = []
    for source in ("platform", "workloads", "observability", "loadtests"):
        for file in sorted((ROOT / source / "freehold").glob("*/__init__.py")):
            words = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
            assert words, f"{file} has no docstring"
            folder = f"{source}/freehold/{file.parent.name}"
            rows.append((f"[`{folder}/`]({folder})", words))
    return table(("package", "what it is"), rows)


GENERATORS: dict[str, Callable[[str], str]] = {
    "pools": pools,
    "predicted": predicted,
    "price": price,
    "box": box,
    "tiers": tiers,
    "models": models,
    "what-if": what_if,
    "llmfit": llmfit,
    "comparison": comparison,
    "packages": packages,
    "component": described,
    "components": listed,
    "rehearsed": lambda topic: table(*optimizations.rehearsed(topic)),
    "guessed": lambda _: table(*optimizations.guessed()),
    "cache-tiers": lambda name: table(*optimizations.tiers(name)),
}


def written(text: str) -> str:
    """A page's text with every generated part anew."""

    def replaced(found: re.Match[str]) -> str:
        return f"{found[1]}{GENERATORS[found['name']](found['argument'])}{found[5]}"

    return _BLOCK.sub(replaced, text)


def pages_with_parts() -> list[Path]:
    return [page for page in pages() if _BLOCK.search(page.read_text())]


def main() -> Any:
    for page in pages_with_parts():
        text = page.read_text()
        if (new := written(text)) != text:
            page.write_text(new)
            sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    main()
