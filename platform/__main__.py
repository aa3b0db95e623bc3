"""The Pulumi program: a stack file, its plan, and what the plan becomes on its target."""

from __future__ import annotations

import datetime
from pathlib import Path

import pulumi

from freehold.config import FreeholdError, load_stack
from freehold.config.bedrock import BedrockTarget
from freehold.config.target import EksTarget, ExistingCluster
from freehold.planning.plan import Plan, make_plan
from freehold.planning.to_json import plan_to_json

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    stack = pulumi.get_stack()
    plan = make_plan(stack, load_stack(stack, ROOT))
    for warning in plan.warnings:
        pulumi.log.warn(warning)
    if isinstance(plan.target, EksTarget):
        _on_eks(plan, plan.target)
    elif isinstance(plan.target, ExistingCluster):
        _on_existing(plan, plan.target)
    elif isinstance(plan.target, BedrockTarget):
        _on_bedrock(plan, plan.target)
    else:
        _on_this_machine(plan)
    described = plan_to_json(plan)
    pulumi.export("plan", described["pools"])
    pulumi.export("cost", described["cost"])


def _on_eks(plan: Plan, settings: EksTarget) -> None:
    from freehold.cluster.compose import EksPlatform
    from freehold.cluster.offerings import refuse_zones
    from freehold.cluster.refusals import refuse
    from freehold.monitoring.dcgm import counters_csv
    from freehold.program.serve import serve
    from freehold.serving.images import engine_tag

    config = pulumi.Config("freehold")
    token = config.get_secret("hubToken")
    rendering = bool(config.get_bool("rendering"))  # only `freehold render` sets it
    now = datetime.datetime.now(datetime.UTC)
    refuse(plan, settings, hub_token=token is not None, now=now, rendering=rendering)
    metrics, tag = counters_csv(), engine_tag(plan.release)
    made = EksPlatform(
        plan, settings, engine_tag=tag, hub_token=token, gpu_metrics=metrics
    ).platform
    if not rendering:
        refuse_zones(plan, made.target.aws)
    pulumi.export("clusterName", made.target.cluster.cluster_name)
    pulumi.export("kubeconfig", made.kubeconfig)
    serve(plan, made.target)


def _on_bedrock(plan: Plan, settings: BedrockTarget) -> None:
    from freehold.cluster.bedrock import BedrockPlatform, refuse
    from freehold.program.serve import serve
    from freehold.serving.names import Names

    refuse(plan, settings, rendering=bool(pulumi.Config("freehold").get_bool("rendering")))
    made = BedrockPlatform(plan, settings, gateway_namespace=Names(plan.stack).gateway)
    pulumi.export("roleArn", made.models.role.arn)
    pulumi.export("inferenceProfiles", dict(made.models.profiles))
    if made.platform:
        pulumi.export("kubeconfig", made.platform.kubeconfig)
        serve(plan, made.platform.target)


def _on_existing(plan: Plan, settings: ExistingCluster) -> None:
    from freehold.cluster.existing_target import ExistingPlatform
    from freehold.program.serve import serve

    kubeconfig = pulumi.Config("freehold").get_secret("kubeconfig")
    target = ExistingPlatform(plan.stack, settings, plan.gateway, kubeconfig).target
    pulumi.export("clusterName", settings.context)
    serve(plan, target)


def _on_this_machine(plan: Plan) -> None:
    from freehold.cluster.laptop import LaptopStack

    LaptopStack(plan.stack, ROOT, plan_to_json(plan))
    pulumi.export("baseUrl", f"http://{plan.gateway.host}:{plan.gateway.port}/v1")


if __name__ == "__main__":
    try:
        main()
    except FreeholdError as error:
        # Pulumi prints it as the program's one error, without a traceback.
        raise pulumi.RunError(str(error)) from None
