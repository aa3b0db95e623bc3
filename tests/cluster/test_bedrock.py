"""What a stack whose models Bedrock serves has in AWS, alone and with a cluster for its gateway."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.model import ServiceModel
from botocore.stub import Stubber
from click.testing import CliRunner
from program.programs import ROOT, recorded
from serving.recorded import plain
from serving.schemas import VERSIONS, check

from freehold.cli.preflight import command
from freehold.cluster.bedrock import BedrockPlatform, refuse
from freehold.cluster.bedrock_preflight import bedrock_needs
from freehold.config import FreeholdError
from freehold.config.bedrock import BedrockTarget
from freehold.config.inheritance import merge
from freehold.config.loader import load_tree, parse_stack
from freehold.planning.plan import Plan, make_plan
from freehold.policy.rule import violations
from freehold.policy.rules import RULES
from freehold.program.serve import serve
from freehold.recording import Recording, record, sdk
from freehold.serving.names import Names

MODEL = "openai.gpt-oss-120b-1:0"
MODEL_ARN = f"arn:aws:bedrock:us-east-2::foundation-model/{MODEL}"
CLUSTER = {
    "kind": "eks",
    "region": "eu-west-1",
    "zones": ["eu-west-1a", "eu-west-1b"],
    "endpoint": {"runner": "in-vpc"},
}
FAKE = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
BOTH = pytest.mark.parametrize("known", [True, False], ids=["up", "preview"])


def plan_with(change: dict[str, Any], name: str = "bedrock") -> Plan:
    tree, _ = load_tree("bedrock", ROOT)
    return make_plan(name, parse_stack(merge(tree, change), "test"))


def record_plan(plan: Plan, *, known: bool = True) -> Recording:
    settings = plan.target
    assert isinstance(settings, BedrockTarget)

    def program() -> None:
        made = BedrockPlatform(plan, settings, gateway_namespace=Names(plan.stack).gateway)
        if made.platform:
            serve(plan, made.platform.target)

    return record(program, stack=plan.stack, known=known)


@cache
def on_cluster(known: bool = True) -> Recording:
    change = {"target": {"cluster": CLUSTER}, "budget": {"usd_per_month": 900}}
    return record_plan(plan_with(change), known=known)


@cache
def service(name: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(name)


def shape(service_name: str, name: str) -> Any:
    return service(service_name).shape_for(name)


def statements(recording: Recording) -> list[dict[str, Any]]:
    policy = recording.one("aws:iam/rolePolicy:RolePolicy", "bedrock-caller").inputs["policy"]
    return json.loads(policy)["Statement"]


def test_alone_it_is_a_profile_a_pool_one_role_and_a_budget_and_no_gpu() -> None:
    types = sorted(r.type for r in recorded("bedrock").resources if r.type.startswith("aws:"))
    assert types == [
        "aws:bedrock/inferenceProfile:InferenceProfile",
        "aws:budgets/budget:Budget",
        "aws:iam/role:Role",
        "aws:iam/rolePolicy:RolePolicy",
    ]


def test_each_profile_is_of_its_pool_s_model_and_tagged_for_the_bill() -> None:
    pools = [
        {"name": "chat"},
        {**_pool(), "name": "small--talk", "model": MODEL.replace("120b", "20b")},
    ]
    recording = record_plan(plan_with({"pools": pools}, name="team.a"))
    made = {
        r.name: r.inputs for r in recording.of_type("aws:bedrock/inferenceProfile:InferenceProfile")
    }
    assert made["chat"]["modelSource"] == {"copyFrom": MODEL_ARN}
    assert made["chat"]["tags"] == {"freehold:stack": "team.a", "freehold:pool": "chat"}
    names = [inputs["name"] for inputs in made.values()]
    assert names == ["team-a-chat", "team-a-small-talk"]
    known = shape("bedrock", "InferenceProfileName")
    for name in names:
        assert re.fullmatch(known.metadata["pattern"], name) and len(name) <= known.metadata["max"]
    copied = shape("bedrock", "InferenceProfileModelSource").members["copyFrom"].metadata["pattern"]
    assert re.search(copied, made["small--talk"]["modelSource"]["copyFrom"])


def _pool() -> dict[str, Any]:
    tree, _ = load_tree("bedrock", ROOT)
    return dict(tree["pools"][0])


def test_the_role_may_invoke_these_models_and_nothing_else() -> None:
    (statement,) = statements(recorded("bedrock"))
    assert statement["Action"] == ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"]
    assert statement["Resource"] == [MODEL_ARN, "<chat.arn>"]
    for action in statement["Action"]:
        assert action.partition(":")[2] in service("bedrock-runtime").operation_names


def test_the_role_is_for_the_account_s_own_people() -> None:
    """Its trust names the account that the profile's address holds."""
    from freehold.cluster.hosted_models import _own_account

    arn = "arn:aws:bedrock:us-east-2:123456789012:application-inference-profile/abc123def456"
    (statement,) = json.loads(_own_account(arn))["Statement"]
    assert statement["Principal"] == {"AWS": "123456789012"}
    role = recorded("bedrock").one("aws:iam/role:Role").inputs
    assert role["path"] == "/freehold/" and role["tags"]["freehold:stack"] == "bedrock"


def test_the_budget_tells_by_mail_before_and_at_the_limit() -> None:
    recording = record_plan(plan_with({"target": {"alarm_email": "money@example.com"}}))
    budget = recording.one("aws:budgets/budget:Budget").inputs
    assert budget["limitAmount"] == "400.00" and budget["limitUnit"] == "USD"
    assert budget["budgetType"] in shape("budgets", "BudgetType").enum
    assert budget["timeUnit"] in shape("budgets", "TimeUnit").enum
    assert budget["costFilters"] == [{"name": "Service", "values": ["Amazon Bedrock"]}]
    said = [(n["notificationType"], n["threshold"]) for n in budget["notifications"]]
    assert said == [("ACTUAL", 80), ("FORECASTED", 100)]
    for notification in budget["notifications"]:
        assert notification["notificationType"] in shape("budgets", "NotificationType").enum
        assert notification["comparisonOperator"] in shape("budgets", "ComparisonOperator").enum
        assert notification["thresholdType"] in shape("budgets", "ThresholdType").enum
        assert notification["subscriberEmailAddresses"] == ["money@example.com"]


def test_an_alarm_that_nobody_hears_is_refused_but_rendered() -> None:
    plan = plan_with({})
    assert isinstance(plan.target, BedrockTarget)
    with pytest.raises(FreeholdError, match=r"target\.alarm_email: nobody would hear"):
        refuse(plan, plan.target)
    refuse(plan, plan.target, rendering=True)
    without = plan_with({"budget": None})
    refuse(without, plan.target)
    assert not record_plan(without).of_type("aws:budgets/budget:Budget")


@BOTH
def test_with_a_cluster_every_rule_holds_and_every_input_is_known(known: bool) -> None:
    resources = on_cluster(known).resources
    assert violations(RULES, resources) == []
    custom = [r for r in resources if not r.is_component]
    assert [p for r in custom for p in sdk.problems(r.type, r.inputs)] == []


def test_the_cluster_has_no_gpu_no_engine_and_no_models() -> None:
    recording = on_cluster()
    assert not recording.of_type("aws:s3/bucket:Bucket")
    groups = [r.name for r in recording.of_type("aws:eks/nodeGroup:NodeGroup")]
    charts = [r.name for r in recording.of_type("kubernetes:helm.sh/v3:Release")]
    pods = [r.name for r in recording.of_type("kubernetes:apps/v1:Deployment")]
    assert groups == ["system"] and charts == ["aws-load-balancer-controller"]
    assert pods == ["gateway"]
    namespaces = [r.name for r in recording.of_type("kubernetes:core/v1:Namespace")]
    assert namespaces == ["controllers", "bedrock-gateway"]
    regions = {r.name: r.inputs["region"] for r in recording.of_type("pulumi:providers:aws")}
    assert regions == {"bedrock": "us-east-2", "aws": "eu-west-1"}


def test_the_gateway_s_pods_alone_get_the_role_and_get_it_in_time() -> None:
    recording = on_cluster()
    association = next(
        r
        for r in recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
        if r.name == "bedrock-caller"
    )
    user = (association.inputs["namespace"], association.inputs["serviceAccount"])
    assert user == ("bedrock-gateway", "gateway")
    gateway = recording.one("kubernetes:apps/v1:Deployment", "gateway")
    assert association.urn in gateway.dependencies
    assert gateway.inputs["spec"]["template"]["spec"]["serviceAccountName"] == "gateway"
    # EKS is asked in the cluster's region, Bedrock in its own.
    providers = {r.urn: r.inputs["region"] for r in recording.of_type("pulumi:providers:aws")}
    used = next(region for urn, region in providers.items() if association.provider.startswith(urn))
    assert used == "eu-west-1"


def test_the_gateway_signs_with_its_pod_s_role_and_reaches_bedrock() -> None:
    recording = on_cluster()
    files = recording.one("kubernetes:core/v1:ConfigMap", "gateway").inputs["data"]
    settings = json.loads(files["gateway.json"])
    assert settings["picker"] is None
    assert settings["pools"][0]["hosted"] == {
        "model": MODEL,
        "region": "us-east-2",
        "host": "bedrock-runtime.us-east-2.amazonaws.com",
        "port": 443,
        "trusted_ca": "/etc/ssl/certs/ca-certificates.crt",
        "credentials": "pod_identity",
    }
    policy = recording.one(
        "kubernetes:networking.k8s.io/v1:NetworkPolicy", "bedrock-gateway-gateway"
    ).inputs["spec"]
    ports = [rule["ports"][0]["port"] for rule in policy["egress"]]
    assert 443 in ports and 80 in ports  # Bedrock, and Pod Identity's agent


@pytest.mark.parametrize("version", VERSIONS)
def test_its_objects_pass_kubernetes_own_schemas(version: str) -> None:
    objects = [
        dict(r.inputs)
        for r in on_cluster().resources
        if r.type.startswith("kubernetes:") and "kind" in r.inputs
    ]
    assert len(objects) > 10
    for item in objects:
        check(plain(item), version)


def test_of_the_budget_what_the_cluster_takes_is_not_for_tokens() -> None:
    plan = plan_with({"target": {"cluster": CLUSTER}, "budget": {"usd_per_month": 900}})
    assert plan.cost
    limit = float(on_cluster().one("aws:budgets/budget:Budget").inputs["limitAmount"])
    beside = plan.cost.usd_per_month - plan.cost.token_usd_per_month
    assert beside > 200 and limit == pytest.approx(900 - beside, abs=0.01)


@pytest.mark.parametrize(
    ("authorized", "met"), [("AUTHORIZED", True), ("NOT_AUTHORIZED", False)], ids=["may", "may not"]
)
def test_preflight_asks_bedrock_for_each_model(authorized: str, met: bool) -> None:
    (need,) = bedrock_needs(plan_with({}))
    assert MODEL in need.what and "us-east-2" in need.what
    session = boto3.Session(region_name="eu-west-1", **FAKE)
    client = session.client("bedrock", region_name="us-east-2")
    answer = {
        "modelId": MODEL,
        "agreementAvailability": {"status": "AVAILABLE"},
        "authorizationStatus": authorized,
        "entitlementAvailability": "AVAILABLE",
        "regionAvailability": "AVAILABLE",
    }
    with Stubber(client) as stubbed:
        stubbed.add_response("get_foundation_model_availability", answer, {"modelId": MODEL})
        finding = need.check(_Session(client))
    assert finding.met is met
    assert met or "authorizationStatus is NOT_AUTHORIZED" in finding.said


class _Session:
    """Gives the one client, in the region that was asked for."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def client(self, name: str, region_name: str) -> Any:
        assert (name, region_name) == ("bedrock", self._client.meta.region_name)
        return self._client


def test_the_preflight_command_says_it_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(command, ["bedrock", "--offline"])
    assert done.exit_code == 0 and f"{MODEL} can be invoked in us-east-2" in done.output
