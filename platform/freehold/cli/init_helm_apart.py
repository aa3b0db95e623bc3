"""The chart's two models for prefill and decode as one pool that reads and writes in separate workers."""

from __future__ import annotations

from dataclasses import replace
from os.path import commonprefix

from .init_helm_pools import MODELS, Pool
from .init_values import Values

_READS, _WRITES = "kv_producer", "kv_consumer"
_LOGIC = "routerSpec.routingLogic"


def join_apart(values: Values, pools: list[Pool], *, local: bool) -> None:
    """Put each pair of the same model together, in place of its prefill pool.

    What the chart says of a part that stays alone is dropped: every pool does both by itself.
    """
    roles = {
        str(model.get("name")): values.take(f"{MODELS}[{place}].lmcacheConfig.kvRole")
        for place, model in enumerate(values.maps(MODELS))
    }
    joined: set[str] = set()
    for reads in [pool for pool in pools if roles.get(pool.chart_name) == _READS and not local]:
        for writes in [pool for pool in pools if roles.get(pool.chart_name) == _WRITES]:
            if writes.tree["model"] == reads.tree["model"]:
                pools.remove(writes)
                joined |= {reads.chart_name, writes.chart_name}
                _join(values, reads, writes)
                break
    alone = "a laptop has no GPU for it" if local else "no other model is its counterpart"
    alone += ": the pool reads and writes in the same workers"
    for place, (name, role) in enumerate(roles.items()):
        path = f"{MODELS}[{place}].lmcacheConfig.kvRole"
        if name in joined:
            values.note(path, "kept", "disaggregated: how many workers read, how many write")
        elif role is not None:
            values.note(path, "dropped", alone)
    if values.look(_LOGIC) == "disaggregated_prefill":
        text = "disaggregated: vllm-router pairs the pool's workers" if joined else alone
        values.note(_LOGIC, "kept" if joined else "dropped", text)


def _join(values: Values, reads: Pool, writes: Pool) -> None:
    ours, theirs = reads.tree["name"], writes.tree["name"]
    name = commonprefix([ours, theirs]).rstrip("-") or ours
    values.notes[:] = [
        replace(note, path=note.path.replace(f"pools.{ours}.", f"pools.{name}."))
        for note in values.notes
        if not note.path.startswith(f"pools.{theirs}.")
    ]
    text = f"{ours} and {theirs} are one pool, with the engine block of {ours}"
    values.note(f"pools.{name}.disaggregated", "added", text)
    reads.tree.pop("policy", None)  # the router before its workers spreads by load
    reads.tree["name"] = name
    reads.tree["disaggregated"] = {
        "prefill_replicas": reads.pins.pop("replicas", 1),
        "decode_replicas": writes.pins.pop("replicas", 1),
    }
    reads.context = max(reads.context or 0, writes.context or 0) or None
