"""`extends`: a stack on top of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from freehold.config import FreeholdError, load_stack
from freehold.config.inheritance import merge

from .trees import EKS

TREES = st.recursive(
    st.integers() | st.text("abc", max_size=3) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "kind", "users", "concurrency"]), inner)
    ),
    max_leaves=12,
)


def write(folder: Path, name: str, stack: dict[str, Any]) -> None:
    document = {"config": {"freehold:stack": stack}}
    (folder / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump(document))


def test_a_stack_takes_over_what_it_does_not_say(tmp_path: Path) -> None:
    write(tmp_path, "base", EKS)
    write(tmp_path, "prod", {"extends": "base", "ha": True, "target": {"region": "us-east-1"}})
    stack = load_stack("prod", tmp_path)
    assert stack.ha and stack.pools[0].model == "llama-3.1-8b"
    assert load_stack("base", tmp_path).ha is False


def test_pools_merge_by_name_and_new_ones_go_last(tmp_path: Path) -> None:
    write(tmp_path, "base", EKS)
    pools = [
        {"name": "embed", "role": "embed", "model": "bge-m3", "context": 8192},
        {"name": "chat", "demand": {"users": 50}},
    ]
    write(tmp_path, "prod", {"extends": "base", "pools": pools})
    stack = load_stack("prod", tmp_path)
    assert [pool.name for pool in stack.pools] == ["chat", "embed"]
    demand = stack.pools[0].demand
    # Users take the place of concurrency; the lengths stay.
    assert demand and demand.users == 50 and demand.concurrency is None
    assert demand.input_tokens == 2000


def test_a_pool_can_be_taken_out(tmp_path: Path) -> None:
    embed = {"name": "embed", "role": "embed", "model": "bge-m3", "context": 8192}
    write(tmp_path, "base", {**EKS, "pools": [*EKS["pools"], embed]})
    write(tmp_path, "prod", {"extends": "base", "pools": [{"name": "embed", "remove": True}]})
    assert [pool.name for pool in load_stack("prod", tmp_path).pools] == ["chat"]


def test_another_member_of_a_union_starts_anew(tmp_path: Path) -> None:
    block = {"kind": "reservation", "id": "cr-0123456789abcdef0", "zone": "us-east-1a"}
    write(tmp_path, "base", {**EKS, "capacity": block})
    write(tmp_path, "prod", {"extends": "base", "capacity": {"kind": "spot"}})
    assert load_stack("prod", tmp_path).capacity.kind == "spot"


def test_three_generations(tmp_path: Path) -> None:
    write(tmp_path, "one", EKS)
    write(tmp_path, "two", {"extends": "one", "tier": "small"})
    write(tmp_path, "three", {"extends": "two", "ha": True})
    stack = load_stack("three", tmp_path)
    assert stack.tier == "small" and stack.ha


def test_mistakes_name_both_files(tmp_path: Path) -> None:
    write(tmp_path, "base", EKS)
    write(tmp_path, "prod", {"extends": "base", "hah": True})
    with pytest.raises(FreeholdError, match=r"Pulumi\.prod\.yaml on Pulumi\.base\.yaml"):
        load_stack("prod", tmp_path)


def test_a_circle_and_an_unknown_base_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", {"extends": "b"})
    write(tmp_path, "b", {"extends": "a"})
    with pytest.raises(FreeholdError, match="in a circle"):
        load_stack("a", tmp_path)
    write(tmp_path, "c", {"extends": "bb"})
    with pytest.raises(FreeholdError, match=r'no stack "bb".*did you mean "b"'):
        load_stack("c", tmp_path)


@given(TREES)
def test_nothing_on_top_changes_nothing(tree: Any) -> None:
    assert merge(tree, {}) == tree if isinstance(tree, dict) else merge(tree, {}) == {}


@given(TREES)
def test_a_tree_on_itself_is_itself(tree: Any) -> None:
    # Both ways to say a load at once are a mistake of that tree; merging must not hide it.
    assert merge(tree, tree) == tree


@given(TREES, TREES)
def test_what_is_above_is_always_there(below: Any, above: Any) -> None:
    merged = merge(below, above)
    if not isinstance(above, dict):
        assert merged == above
        return
    for key, value in above.items():
        assert key in merged
        if not isinstance(value, dict):
            assert merged[key] == value
