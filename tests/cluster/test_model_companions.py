"""What engines load beside their model is in the store, and the engine reads it there."""

from __future__ import annotations

import pulumi
import pytest
from program.programs import plan_of, record_cluster, tree

from freehold.cluster.compose import EksPlatform
from freehold.cluster.model_store import stored_models
from freehold.config.target import EksTarget
from freehold.planning.plan import Plan
from freehold.recording import record

DRAFT = "meta-llama/Llama-3.2-1B-Instruct"
HEAD = "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B"
ADAPTER = "acme/llama-3.1-8b-legal"
SPECULATIONS = {
    DRAFT: {"method": "draft_model", "model": DRAFT, "num_speculative_tokens": 4},
    HEAD: {"method": "eagle3", "model": HEAD, "num_speculative_tokens": 4},
}


def plan_with(**engine: object) -> Plan:
    return plan_of(tree("g6e.2xlarge", pools=[{"name": "chat", "engine": engine}]))


def source_of(plan: Plan) -> dict[str, object]:
    """The exported places of a pool's model and of what it loads beside it."""
    settings = plan.target
    assert isinstance(settings, EksTarget)

    def program() -> None:
        made = EksPlatform(plan, settings, engine_tag="test", hub_token=None, gpu_metrics="")
        source = made.platform.target.model_source(plan.pools[0])
        pulumi.export("model", source.uri)
        pulumi.export("companions", dict(source.companions))

    return dict(record(program, stack=plan.stack).exports)


@pytest.mark.parametrize("repository", SPECULATIONS)
def test_a_draft_is_copied_and_read_from_the_store(repository: str) -> None:
    plan = plan_with(speculation=SPECULATIONS[repository])
    jobs = record_cluster(plan).of_type("kubernetes:batch/v1:Job")
    copied = [job.inputs["spec"]["template"]["spec"]["containers"][0]["args"] for job in jobs]
    assert [arguments[0] for arguments in copied] == [plan.pools[0].settings.model, repository]
    assert all("--allow-code" not in arguments for arguments in copied)
    companions = source_of(plan)["companions"]
    assert companions == {repository: f"s3://{copied[1][2]}/{copied[1][3]}"}


def test_an_adapter_is_copied_too_and_a_folder_of_the_image_is_not() -> None:
    lora = [{"name": "legal", "path": ADAPTER}, {"name": "own", "path": "/adapters/own"}]
    models = stored_models(plan_with(lora=lora).pools)
    assert [model.repo for model in models][1:] == [ADAPTER]


def test_pools_that_share_a_draft_have_it_copied_once() -> None:
    plan = plan_with(speculation=SPECULATIONS[DRAFT])
    assert len(stored_models([*plan.pools, *plan.pools])) == 2
