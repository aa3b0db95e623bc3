"""The real engine brings every stack up, changes it and takes it down, against stand-in providers.

They check inputs as the installed SDKs would, replace what the real ones replace, and write down what
they were asked to do; nothing is created. One `up` a stack, with the policy pack; the last test of each takes
it down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from program.earlier import start_earlier
from program.engine import NEEDS_PULUMI, PACK, Engine, names
from program.programs import BLOCK, EKS_STACKS, ROOT

pytestmark = NEEDS_PULUMI

CONTROL_PLANE = "aws:eks/cluster:Cluster"
OWN_SOMETHING_OUTSIDE = {
    ("kubernetes:core/v1:Service", "gateway"),  # its load balancer
    ("kubernetes:helm.sh/v3:Release", "kube-prometheus-stack"),  # the disk of its claim
}
KEPT = {("aws:kms/key:Key", "cluster-secrets"), ("aws:kms/key:Key", "models")} | {
    (f"aws:s3/{kind[0].lower()}{kind[1:]}:{kind}", "models")
    for kind in (
        "Bucket",
        "BucketLifecycleConfiguration",
        "BucketOwnershipControls",
        "BucketPolicy",
        "BucketPublicAccessBlock",
        "BucketServerSideEncryptionConfiguration",
        "BucketVersioning",
    )
}
TOKEN = "hf_the-token-that-must-not-be-in-the-state"


@dataclass(frozen=True)
class Upgrade:
    """From what ran before to this checkout: what was said, and what was done."""

    engine: Engine
    previewed: list[dict[str, Any]]
    done: list[dict[str, Any]]


@pytest.fixture(scope="module", params=("bedrock", *EKS_STACKS, "onprem"))
def upgrade(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Upgrade:
    stack: str = request.param
    engine = start_earlier(tmp_path_factory.mktemp(stack), stack)
    fill_in(engine)
    if stack in EKS_STACKS:
        engine.run("config", "set", "--secret", "freehold:hubToken", TOKEN)
    # What is unknown before the first `up` passes the rules, too.
    assert {step["op"] for step in engine.preview("--policy-pack", str(PACK))} == {"create"}
    engine.up("--policy-pack", str(PACK))
    earlier_providers(engine)
    engine.use(ROOT)
    fill_in(engine)
    previewed = engine.preview("--policy-pack", str(PACK))
    return Upgrade(engine, previewed, engine.up("--policy-pack", str(PACK)))


def fill_in(engine: Engine) -> None:
    """What only a user can: who is told of the money, and which Capacity Block was bought."""
    if engine.stack == "bedrock":
        engine.change({"target": {"alarm_email": "team@example.com"}})
    if engine.stack == "large":
        engine.change({"pools": [{"name": "chat", "capacity": BLOCK}]})


def earlier_providers(engine: Engine) -> None:
    """As if the state had been written by the patch versions before those of the installed SDKs."""
    state = json.loads(engine.run("stack", "export"))
    for resource in state["deployment"]["resources"]:
        version = resource.get("inputs", {}).get("version")
        if version and resource["type"].startswith("pulumi:providers:"):
            earlier = f"{version.rpartition('.')[0]}.0"
            resource["inputs"]["version"] = resource["outputs"]["version"] = earlier
    file = engine.folder / "state.json"
    file.write_text(json.dumps(state))
    engine.run("stack", "import", "--file", str(file))


@pytest.fixture(scope="module")
def up(upgrade: Upgrade) -> Engine:
    return upgrade.engine


@pytest.fixture
def serving(up: Engine) -> Engine:
    if up.stack == "bedrock":
        pytest.skip("its gateway runs elsewhere")
    return up


@pytest.fixture
def on_eks(up: Engine) -> Engine:
    if up.stack not in EKS_STACKS:
        pytest.skip("nothing of it is in AWS")
    return up


def test_an_upgrade_says_what_it_replaces_and_that_is_only_jobs(upgrade: Upgrade) -> None:
    replaced = {
        (step["urn"].split("::")[2].rpartition("$")[2], step["urn"].rpartition("::")[2])
        for step in upgrade.previewed
        if step["op"] == "replace"
    }
    print(f"{upgrade.engine.stack}: an upgrade replaces {sorted(replaced)}")
    assert {type_ for type_, _ in replaced} <= {"kubernetes:batch/v1:Job"}


def test_an_upgrade_takes_the_control_plane_before_the_nodes(upgrade: Upgrade) -> None:
    if upgrade.engine.stack not in EKS_STACKS:
        pytest.skip("the cluster is somebody else's")
    updated = [call["type"] for call in upgrade.done if call["call"] == "update"]
    assert updated.count("aws:eks/nodeGroup:NodeGroup") >= 2
    assert updated.index(CONTROL_PLANE) < updated.index("aws:eks/nodeGroup:NodeGroup")


def test_zones_without_the_machine_are_refused_in_the_preview(on_eks: Engine) -> None:
    """The stand-in sells machines in zones a to c."""
    if on_eks.stack == "large":
        pytest.skip("the Capacity Block says the zone")
    with on_eks.changed({"target": {"zones": ["us-east-2d", "us-east-2e", "us-east-2f"]}}):
        done = on_eks.attempt("preview")
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "AWS has it in us-east-2a, us-east-2b, us-east-2c" in said
    assert "Traceback" not in said


def test_a_second_preview_changes_nothing(up: Engine) -> None:
    assert up.preview("--policy-pack", str(PACK)) == []


def test_a_refresh_finds_nothing(up: Engine) -> None:
    up.run("refresh", "--yes", "--skip-preview")
    assert up.preview() == []


def test_secrets_are_encrypted_in_the_state(serving: Engine) -> None:
    shown = json.loads(serving.run("stack", "output", "--json", "--show-secrets"))
    secrets = [TOKEN, *shown["apiKeys"].values(), shown["dashboardsPassword"]]
    files = [file for file in (serving.folder / "state").rglob("*") if file.is_file()]
    assert all(secrets) and len(secrets) > 2 and files
    for file in files:
        text = file.read_text()
        assert [secret for secret in secrets if secret in text] == [], file


def test_another_limit_changes_the_gateway_in_place(serving: Engine) -> None:
    with serving.changed({"gateway": {"max_body_mib": 16}}):
        steps = serving.preview()
    assert names(steps, "replace") == set()
    assert "gateway" in names(steps, "update")


def test_other_system_nodes_replace_the_system_s_group_and_nothing_else(on_eks: Engine) -> None:
    larger = {"small": "m7i.xlarge", "medium": "m7i.2xlarge"}
    if on_eks.stack not in larger:
        pytest.skip("has the largest that the catalog knows")
    with on_eks.changed({"target": {"system": {"instance_type": larger[on_eks.stack]}}}):
        steps = on_eks.preview()
    assert names(steps, "replace") == {"system"}


def test_a_public_endpoint_changes_the_control_plane_in_place(on_eks: Engine) -> None:
    with on_eks.changed({"target": {"endpoint": {"public_cidrs": ["203.0.113.0/24"]}}}):
        steps = on_eks.preview()
    assert names(steps, "replace") == set()
    assert f"{on_eks.stack}-eksCluster" in names(steps, "update")


def test_destroy_begins_with_what_owns_something_outside_and_leaves_the_data(
    on_eks: Engine,
) -> None:
    on_eks.change({"target": {"deletion_protection": False}})
    on_eks.up()
    gone = [(call["type"], call["name"]) for call in on_eks.destroy("--exclude-protected")]
    nodes = [gone.index(one) for one in gone if one[0] == "aws:eks/nodeGroup:NodeGroup"]
    network = [gone.index(one) for one in gone if one[0].startswith(("aws:ec2/vpc", "aws:ec2/sub"))]
    # While the controllers that clean up after them still run; all other objects go with the cluster.
    objects = [gone.index(one) for one in gone if one[0].startswith("kubernetes:")]
    assert {gone[place] for place in objects} == OWN_SOMETHING_OUTSIDE
    control_plane = gone.index((CONTROL_PLANE, f"{on_eks.stack}-eksCluster"))
    assert max(objects) < min(nodes) and max(nodes) < control_plane < min(network)
    left = [r for r in on_eks.resources() if r["custom"] and "pulumi:providers" not in r["type"]]
    assert {(r["type"], r["urn"].rpartition("::")[2]) for r in left} == KEPT


def test_destroy_of_a_stack_that_keeps_no_data_leaves_nothing(up: Engine) -> None:
    if up.stack in EKS_STACKS:
        pytest.skip("keeps its models")
    up.destroy()
    assert up.resources() == []
