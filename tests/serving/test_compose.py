"""A stack as a whole: several on one cluster, what is waited for, what comes back."""

from __future__ import annotations

import dataclasses

from freehold.planning.plan import Plan
from freehold.serving.names import Names
from freehold.serving.probes import progress_seconds

from .programs import STACKS, changed_plan, plan_of, program_of, run
from .recorded import Program, value_of


def renamed(plan: Plan, stack: str) -> Plan:
    return dataclasses.replace(plan, stack=stack)


def places(program: Program) -> set[tuple[str, str, str]]:
    return {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for item in program.objects
    }


def test_two_stacks_share_a_cluster() -> None:
    one = run(renamed(plan_of("onprem"), "team-a"))
    other = run(renamed(plan_of("onprem"), "team-b"))
    assert not places(one) & places(other)


def test_a_stack_s_name_may_be_anything_that_a_file_may_be_called() -> None:
    assert Names("Team.A_2026").models == "team-a-2026-models"


def test_each_stack_tells_where_it_is_and_each_tenant_s_key() -> None:
    for stack in STACKS:
        deployed = program_of(stack).result
        assert value_of(deployed.base_url).endswith("/v1")
        assert [*deployed.keys] == ["default"]
        assert deployed.names.monitoring == f"{stack}-monitoring"


def test_a_rollout_that_stops_the_only_worker_is_warned_of() -> None:
    def warned(program: Program) -> set[str]:
        return {
            line.partition(":")[0]
            for line in program.result.warnings
            if "a rollout stops it" in line
        }

    assert warned(program_of("small")) == {"chat", "embed", "rerank"}
    two = changed_plan(
        "medium", {"pools": [{"name": "chat", "placement": {"replicas": 2}}], "budget": None}
    )
    assert "chat" not in warned(run(two))


def test_a_large_model_s_start_fits_what_a_rollout_may_take() -> None:
    """Pulumi's own patience is ten minutes; a rollout of R1 takes longer."""
    (chat,) = (pool for pool in plan_of("large").pools if pool.name == "chat")
    assert chat.sizing
    seconds = program_of("large").one("Deployment", "chat")["spec"]["progressDeadlineSeconds"]
    assert seconds == progress_seconds(chat.sizing.startup, 325) > 600


def test_nothing_runs_before_its_network_is_closed() -> None:
    """Objects are registered in an order that their dependencies allow: policies, then pods."""
    for stack in STACKS:
        kinds = [item["kind"] for item in program_of(stack).objects]
        last_policy = len(kinds) - 1 - kinds[::-1].index("NetworkPolicy")
        assert last_policy < min(kinds.index("Deployment"), len(kinds))
