"""`extends`: one stack file on top of another."""

from __future__ import annotations

from typing import Any

# Keys that say which member of a union a map is: another member starts anew.
_TAGS = ("kind", "method")
# Ways to say the same thing, of which one may be used: saying another forgets the one below.
_EITHER: tuple[tuple[frozenset[str], ...], ...] = (
    (
        frozenset({"users", "think_seconds"}),
        frozenset({"concurrency"}),
        frozenset({"requests_per_minute", "tokens_per_minute"}),
    ),
    (frozenset({"public_cidrs"}), frozenset({"runner"})),
    (frozenset({"certificate_arn"}), frozenset({"secret"})),
)


def merge(below: Any, above: Any) -> Any:
    """What `above` says, and what it leaves unsaid from `below`.

    Maps merge key by key. Pools merge by their name, new ones go last, and `remove: true` takes one
    out. Any other value, lists included, replaces what was there.
    """
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    if any(tag in above and above[tag] != below.get(tag, above[tag]) for tag in _TAGS):
        return above
    merged = {key: value for key, value in below.items() if key not in _forgotten(above)}
    for key, value in above.items():
        if key == "pools" and _named(below.get(key)) and _named(value):
            merged[key] = _merge_pools(below[key], value)
        elif key in merged:
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _forgotten(above: dict[str, Any]) -> set[str]:
    """Keys below that stand for something that `above` says in another way."""
    return {
        key
        for ways in _EITHER
        for said in ways
        if said & above.keys()
        for way in ways
        if way is not said
        for key in way - above.keys()
    }


def _named(pools: Any) -> bool:
    return isinstance(pools, list) and all(
        isinstance(pool, dict) and isinstance(pool.get("name"), str) for pool in pools
    )


def _merge_pools(below: list[dict[str, Any]], above: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pools = {pool["name"]: pool for pool in below}
    for pool in above:
        name = pool["name"]
        if pool.get("remove") is True and name in pools:
            del pools[name]
        else:
            pools[name] = merge(pools[name], pool) if name in pools else pool
    return list(pools.values())
