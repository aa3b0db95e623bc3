"""`freehold init --from-helm`: production-stack's chart values as a stack file, key by key.

docs/decisions/0050-production-stack-mapping.md maps that stack's parts to ours.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freehold.config import FreeholdError

from .init_answers import Answers, add_target, demand, explain_pool, refuse_unused
from .init_draft import Draft, KeyPath
from .init_helm_apart import join_apart
from .init_helm_pools import MODELS, Pool, read_pools
from .init_tasks import tier_of
from .init_values import Note, Values, chart_name, read_values

# routingLogic -> our policy, and what is different about it. None: as it is.
_POLICIES: dict[str, tuple[str, str | None]] = {
    "roundrobin": ("round_robin", None),
    "session": ("session", "policy session: the header is x-session-id, whatever sessionKey says"),
    "prefixaware": (
        "prefix",
        "policy prefix, with a bound on load: without one every prompt that shares a beginning "
        "goes to one worker",
    ),
    "kvaware": (
        "prefix",
        "policy prefix: the gateway remembers which worker has read what; the controller that "
        "kvaware asks sees no chat request",
    ),
}
_PINS = ("tensor_parallel", "pipeline_parallel", "replicas")


@dataclass(frozen=True)
class Converted:
    """The stack file, and a note for every key of the values."""

    draft: Draft
    notes: tuple[Note, ...]

    @property
    def pins(self) -> bool:
        return any("placement" in pool for pool in self.draft.tree["pools"])

    def without_pins(self, refusal: str) -> Converted:
        """The same with replicas and parallelism left to the plan, because of its refusal."""
        tree = copy.deepcopy(self.draft.tree)
        for pool in tree["pools"]:
            pool.pop("placement", None)
        why = (refusal.splitlines()[1:] or [refusal])[0].strip()
        notes = tuple(
            Note(note.path, "corrected", f"left to the plan; as given it is refused: {why}")
            if note.text in _PINS
            else note
            for note in self.notes
        )
        return Converted(replace(self.draft, tree=tree), notes)


def convert_file(path: Path, answers: Answers, command: str) -> Converted:
    """Convert a values file; `answers` say what the chart cannot: where, users, budget.

    Raises FreeholdError when the file is none of that chart's, or serves no model.
    """
    return convert_values(read_values(path), str(path), answers, command)


def convert_values(
    tree: Mapping[str, Any], source: str, answers: Answers, command: str
) -> Converted:
    """The same of values that are read already; `source` names them in messages."""
    if answers.where == "laptop":
        refuse_unused(answers)
    values = Values(tree)
    if not isinstance(values.look(MODELS), list):
        raise FreeholdError(
            f"--from-helm {source}: has no list {MODELS}: these are no values of {chart_name()} "
            "that serve a model"
        )
    cache: dict[str, Any] = {}
    pools = read_pools(values, cache)
    if not pools:
        raise FreeholdError(f"--from-helm {source}: every model in {MODELS} is switched off")
    _route(values, pools)
    join_apart(values, pools, local=answers.where == "laptop")
    _adapters(values, pools)
    made = _assemble(values, answers, pools, cache)
    made.heading = (f"Written by `{command}`, from {chart_name()} values.", *made.heading)
    return Converted(made, (*values.notes, *values.rest()))


def account(notes: Sequence[Note]) -> str:
    """Every key, by what became of it; what a reader must look at comes last."""
    lines: list[str] = []
    for what, title in (
        ("kept", "taken over"),
        ("dropped", "dropped"),
        ("added", "added: the chart does not say it, check it"),
        ("corrected", "corrected"),
    ):
        listed = [note for note in notes if note.what == what]
        if listed:
            lines.append(f"{title} ({len(listed)})")
            lines += _by_reason(listed) if what == "dropped" else _one_by_one(listed)
            lines.append("")
    return "\n".join(lines)


def _one_by_one(notes: Sequence[Note]) -> list[str]:
    return [f"  {_short(note.path)}: {note.text}" for note in notes]


def _by_reason(notes: Sequence[Note]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for note in notes:
        reasons.setdefault(note.text, []).append(_short(note.path))
    return [
        line for why, paths in reasons.items() for line in (f"  {why}", f"    {', '.join(paths)}")
    ]


def _short(path: str) -> str:
    """Models are what most lines are about: `modelSpec[0].name` says enough."""
    return path.removeprefix("servingEngineSpec.") if path.startswith(MODELS) else path


# --- What is beside the models -----------------------------------------------------------------------


def _route(values: Values, pools: list[Pool]) -> None:
    path = "routerSpec.routingLogic"
    logic = values.take(path)
    if logic is None:
        return
    logic = str(logic)
    if logic == "disaggregated_prefill":
        return  # join_apart speaks of it
    if logic not in _POLICIES:
        values.note(path, "dropped", f"{logic}: the stack file has no key for it; policy prefix")
        return
    policy, different = _POLICIES[logic]
    values.note(path, "corrected" if different else "kept", different or f"policy {policy}")
    header = values.take("routerSpec.sessionKey")
    if header is not None:
        used = policy == "session"
        text = f"clients send x-session-id, not {header}" if used else "no session policy"
        values.note("routerSpec.sessionKey", "corrected" if used else "dropped", text)
    for pool in pools:
        pool.tree["policy"] = policy


def _adapters(values: Values, pools: list[Pool]) -> None:
    for place, adapter in enumerate(values.maps("loraAdapters")):
        path = f"loraAdapters[{place}]"
        source = adapter.get("adapterSource")
        base, source = adapter.get("baseModel"), source if isinstance(source, dict) else {}
        pool = next((one for one in pools if base in (one.chart_name, one.tree["model"])), None)
        where = source.get("adapterPath") or source.get("repository")
        if pool is None or not where:
            values.note(path, "dropped", f"no pool serves {base}, or the adapter has no path")
            continue
        name = source.get("adapterName") or adapter.get("name")
        pool.tree.setdefault("engine", {}).setdefault("lora", []).append(
            {"name": name, "path": where}
        )
        values.note(path, "kept", f"engine.lora of {pool.tree['name']}")


def _assemble(values: Values, answers: Answers, pools: list[Pool], cache: dict[str, Any]) -> Draft:
    local = answers.where == "laptop"
    trees = [
        _laptop_pool(pool) if local else _cluster_pool(values, pool, answers) for pool in pools
    ]
    tree: dict[str, Any] = {}
    comments: dict[KeyPath, str] = {}
    if local:
        tree["target"] = {"kind": "local"}
    else:
        tree["tier"] = tier_of(max(pool["context"] for pool in trees))
        add_target(tree, comments, answers)
        values.notes.append(Note("target", "added", f"{answers.where}, by --where"))
        for place, pool in enumerate(trees):
            explain_pool(comments, place, answers, pool)
    tree["pools"] = trees
    if _cache(values, cache, local=local):
        tree["cache"] = cache
    tree["gateway"] = _gateway(values, local=local)
    if answers.usd_per_month:
        tree["budget"] = {"usd_per_month": answers.usd_per_month}
    return Draft(("What each key means: docs/config.md.",), tree, comments)


def _gateway(values: Values, *, local: bool) -> dict[str, Any]:
    """The router's part: there is always a gateway, and two of it on a cluster."""
    for path in ("routerSpec.enableRouter", "servingEngineSpec.enableEngine"):
        switch = values.take(path)
        if switch is not None:
            what = "kept" if switch else "corrected"
            values.note(path, what, "a stack has engines and a gateway")
    gateway: dict[str, Any] = {"keys": [{"tenant": "default"}]}
    path = "routerSpec.replicaCount"
    given = values.number(path)
    if given is not None and local:
        values.note(path, "dropped", "a laptop runs one gateway")
    elif given is not None:
        gateway["replicas"] = min(max(2, given), 16)
        what = "kept" if gateway["replicas"] == given else "corrected"
        values.note(path, what, f"gateway.replicas {gateway['replicas']}")
    return gateway


def _cache(values: Values, cache: dict[str, Any], *, local: bool) -> bool:
    """The cache server of the chart is one process that holds all; ours is Redis behind LMCache."""
    path = "cacheserverSpec.enabled"
    enabled = values.take(path)
    if enabled is not None:
        values.note(
            path,
            "corrected" if enabled else "kept",
            "cache.redis: Redis behind each worker's LMCache" if enabled else "no cache.redis",
        )
    if cache and not enabled:
        cache["redis"] = None
    elif enabled:
        cache.setdefault("host_memory_gib", 1.0)
        cache["redis"] = {
            "memory_gib": 0.5 if local else 4
        }  # a system node of 8 GiB has 4.8 for it
        values.notes.append(
            Note("cache.redis.memory_gib", "added", f"{cache['redis']['memory_gib']}: size it")
        )
    return bool(cache)


def _cluster_pool(values: Values, pool: Pool, answers: Answers) -> dict[str, Any]:
    tree = dict(pool.tree)
    placement = {key: pool.pins[key] for key in _PINS if key in pool.pins}
    if placement:
        tree["placement"] = placement
    if pool.context is None:
        longest = replace(answers, wanted=tree["model"]).longest
        values.notes.append(
            Note(f"pools.{tree['name']}.context", "added", f"{longest}; vLLM would take all it can")
        )
    tree["context"] = pool.context or replace(answers, wanted=tree["model"]).longest
    if tree["role"] == "generate":
        tree["demand"] = demand(answers, tree["context"])
        users = tree["demand"]["users"]
        values.notes.append(
            Note(
                f"pools.{tree['name']}.demand",
                "added",
                f"{users} users; say --users, measure the rest",
            )
        )
    return tree


def _laptop_pool(pool: Pool) -> dict[str, Any]:
    tree = copy.deepcopy(pool.tree)
    engine = tree.setdefault("engine", {})
    engine |= {key: value for key, value in pool.pins.items() if key != "replicas"}
    if "replicas" in pool.pins:
        tree["replicas"] = pool.pins["replicas"]
    if pool.context:
        engine["max_model_len"] = pool.context
    return tree
