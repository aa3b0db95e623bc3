"""The account's one-off program keeps the same rules as every stack."""

from __future__ import annotations

import json
import runpy

import pytest
from program.programs import ROOT

from freehold.config import FreeholdError
from freehold.policy.rule import violations
from freehold.policy.rules import RULES
from freehold.recording import Recording, record, sdk


def bootstrap(repository: str = "acme/freehold", *, known: bool = True) -> Recording:
    program = str(ROOT / "platform" / "bootstrap" / "__main__.py")

    def run() -> None:
        runpy.run_path(program, run_name="bootstrap")["main"]()

    return record(
        run,
        stack="bootstrap",
        known=known,
        config={"freehold:region": "us-east-2", "freehold:repository": repository},
    )


@pytest.mark.parametrize("known", [True, False])
def test_it_keeps_every_rule_and_is_well_formed(known: bool) -> None:
    recording = bootstrap(known=known)
    assert violations(RULES, recording.resources) == []
    for resource in recording.resources:
        assert resource.is_component or sdk.problems(resource.type, resource.inputs) == []


def test_state_and_its_key_are_protected() -> None:
    protected = {(r.type, r.name) for r in bootstrap().resources if r.protect}
    assert protected == {("aws:s3/bucket:Bucket", "state"), ("aws:kms/key:Key", "state")}


def test_each_role_has_its_own_part_of_the_repository() -> None:
    subjects = {}
    for role in bootstrap().of_type("aws:iam/role:Role"):
        statement = json.loads(role.inputs["assumeRolePolicy"])["Statement"][0]
        equals = statement["Condition"]["StringEquals"]
        subjects[role.name] = equals["token.actions.githubusercontent.com:sub"]
    assert subjects == {
        "preview": "repo:acme/freehold:pull_request",
        "deploy": "repo:acme/freehold:environment:production",
    }


def test_who_previews_changes_nothing() -> None:
    policy = bootstrap().one("aws:iam/rolePolicy:RolePolicy", "preview").inputs["policy"]
    for statement in json.loads(policy)["Statement"]:
        writes = [a for a in statement["Action"] if a in ("s3:PutObject", "s3:DeleteObject")]
        assert not writes or statement["Resource"] == ["<state.arn>/.pulumi/locks/*"]


def test_a_repository_without_owner_is_refused() -> None:
    with pytest.raises(FreeholdError, match="must be owner/name"):
        bootstrap("freehold")
