"""Rollouts and pools that are taken apart: what cannot be is refused with its place and its mend."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.config import FreeholdError, parse_stack

from .trees import EKS, LOCAL, changed

NEXT = {**EKS["pools"][0], "name": "chat-next", "rollout": {"of": "chat", "percent": 5}}


def rolled_out(**paths: Any) -> dict[str, Any]:
    """The EKS stack with a second pool that takes 5 % of the first's requests, changed."""
    return changed({**EKS, "pools": [EKS["pools"][0], NEXT]}, **paths)


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(FreeholdError) as caught:
        parse_stack(tree, "Pulumi.x.yaml")
    return str(caught.value)


@pytest.mark.parametrize("percent", [0, 0.25, 5, 100])
def test_a_share_from_nothing_to_all(percent: float) -> None:
    stack = parse_stack(rolled_out(pools__1__rollout__percent=percent), "x")
    assert stack.pools[1].rollout and stack.pools[1].rollout.percent == percent


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pools__1__rollout__percent": 101}, "pools[1].rollout.percent: must be less than or"),
        ({"pools__1__rollout__percent": -1}, "pools[1].rollout.percent: must be greater than or"),
        ({"pools__1__rollout__of": "chatt"}, 'there is no pool "chatt" (did you mean "chat"?)'),
        ({"pools__1__rollout__of": "chat-next"}, "is this very pool"),
        ({"pools__1__context": 4096}, "pools[1].context: 4096 is less than the 8192 of chat"),
        (
            {"pools__0__rollout": {"of": "chat-next", "percent": 1}},
            '"chat-next" is being rolled out itself: say of: chat',
        ),
    ],
)
def test_a_rollout_that_leads_nowhere(change: dict[str, Any], words: str) -> None:
    assert words in refusal(rolled_out(**change))


def test_a_rollout_to_another_role() -> None:
    embed = {"name": "embed", "role": "embed", "model": "bge-m3", "context": 8192}
    tree = {**EKS, "pools": [EKS["pools"][0], {**embed, "rollout": {"of": "chat", "percent": 5}}]}
    assert '"chat" has role generate, embed has embed' in refusal(tree)


def test_one_rollout_at_a_time() -> None:
    third = {**NEXT, "name": "chat-other"}
    tree = {**EKS, "pools": [EKS["pools"][0], NEXT, third]}
    assert '"chat" already gives a share to chat-next' in refusal(tree)


def test_a_laptop_rolls_out_too() -> None:
    pools = [LOCAL["pools"][0], {**LOCAL["pools"][0], "name": "b", "rollout": NEXT["rollout"]}]
    assert parse_stack({**LOCAL, "pools": pools}, "x").pools[1].rollout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pools__0__policy": "prefix"}, "pools[0].policy: does not go with disaggregated"),
        ({"pools__0__gpu_group": "a"}, "pools[0].gpu_group: does not go with disaggregated"),
        (
            {"pools__0__placement__replicas": 3},
            "pin disaggregated.prefill_replicas and decode_replicas",
        ),
        ({"pools__0__placement__pipeline_parallel": 2}, "NIXL moves no KV cache of pipeline"),
        ({"pools__0__engine__kv_offload_gib": 8}, "the KV cache goes from worker to worker"),
        ({"pools__0__disaggregated__prefill_replicas": 0}, "greater than or equal to 1"),
        (
            {"hours": {"days": ["mon"], "start": "08:00", "stop": "18:00"}},
            "hours: does not go with disaggregated (pool chat)",
        ),
    ],
)
def test_what_does_not_go_with_parts(change: dict[str, Any], words: str) -> None:
    tree = changed(EKS, pools__0__disaggregated={})
    assert parse_stack(tree, "x").pools[0].disaggregated
    assert words in refusal(changed(tree, **change))


def test_parts_are_for_gpus_and_for_text() -> None:
    assert "needs GPUs" in refusal(changed(LOCAL, pools__0__disaggregated={}))
    embed = {"name": "embed", "role": "embed", "model": "bge-m3", "context": 8192}
    assert 'does not go with role "embed"' in refusal(
        {**EKS, "pools": [{**embed, "disaggregated": {}}]}
    )
