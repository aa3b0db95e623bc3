"""What an AWS account needs once, before any stack: a place for state, a key for secrets, and two
roles for GitHub: one that previews pull requests and reads, one that deploys from an environment.

Run it with local state, then keep that state in the bucket it made (docs/platform.md).
"""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pulumi_aws as aws

from freehold.cluster import iam
from freehold.cluster.tags import tags
from freehold.config import FreeholdError

_GITHUB = "token.actions.githubusercontent.com"
_POLICIES = "arn:aws:iam::aws:policy"
_STACK = "bootstrap"
_ROLE_WRITES = (
    "iam:AttachRolePolicy",
    "iam:CreateRole",
    "iam:DeleteRole",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PassRole",
    "iam:PutRolePolicy",
    "iam:TagRole",
    "iam:UntagRole",
    "iam:UpdateAssumeRolePolicy",
)


class Bootstrap(pulumi.ComponentResource):
    """Bucket, key and roles. Bucket and key are protected: every stack's state depends on them."""

    def __init__(self, region: str, repository: str) -> None:
        super().__init__("freehold:bootstrap:Bootstrap", _STACK)
        provider = aws.Provider("aws", region=region, opts=pulumi.ResourceOptions(parent=self))
        self._child = pulumi.ResourceOptions(parent=self, provider=provider)
        self._kept = pulumi.ResourceOptions(parent=self, provider=provider, protect=True)
        self._repository = repository
        self.key = aws.kms.Key(
            "state",
            description="State and secrets of Freehold's stacks",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            tags=tags(_STACK),
            opts=self._kept,
        )
        self.bucket = self._bucket()
        self.github = aws.iam.OpenIdConnectProvider(
            "github",
            url=f"https://{_GITHUB}",
            client_id_lists=["sts.amazonaws.com"],
            tags=tags(_STACK),
            opts=self._child,
        )
        self.preview = self._role(
            "preview", "pull_request", [f"{_POLICIES}/ReadOnlyAccess"], _preview_statements
        )
        self.deploy = self._role(
            "deploy",
            "environment:production",
            [f"{_POLICIES}/PowerUserAccess"],
            _deploy_statements,
        )
        self.register_outputs({})

    def _bucket(self) -> aws.s3.Bucket:
        bucket = aws.s3.Bucket(
            "state", bucket_prefix="freehold-state-", tags=tags(_STACK), opts=self._kept
        )
        name, opts = bucket.bucket, self._child
        aws.s3.BucketVersioning(
            "state", bucket=name, versioning_configuration={"status": "Enabled"}, opts=opts
        )
        encryption: Any = {
            "sse_algorithm": "aws:kms",
            "kms_master_key_id": self.key.arn,
        }
        aws.s3.BucketServerSideEncryptionConfiguration(
            "state",
            bucket=name,
            rules=[
                {
                    "apply_server_side_encryption_by_default": encryption,
                    "bucket_key_enabled": True,
                }
            ],
            opts=opts,
        )
        aws.s3.BucketPublicAccessBlock(
            "state",
            bucket=name,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=opts,
        )
        aws.s3.BucketPolicy("state", bucket=name, policy=bucket.arn.apply(_tls_only), opts=opts)
        return bucket

    def _role(self, name: str, subject: str, managed: list[str], statements: Any) -> aws.iam.Role:
        """`subject` is what of the repository may assume it (GitHub docs, OIDC subject claims)."""
        role = aws.iam.Role(
            name,
            assume_role_policy=self.github.arn.apply(
                lambda arn: _trust(arn, f"repo:{self._repository}:{subject}")
            ),
            max_session_duration=7200,  # a first `up` with GPUs takes most of an hour
            tags=tags(_STACK),
            opts=self._child,
        )
        for arn in managed:
            aws.iam.RolePolicyAttachment(
                f"{name}-{arn.rpartition('/')[2]}",
                role=role.name,
                policy_arn=arn,
                opts=self._child,
            )
        aws.iam.RolePolicy(
            name,
            role=role.name,
            policy=pulumi.Output.all(self.bucket.arn, self.key.arn).apply(
                lambda arns: iam.document(statements(*arns))
            ),
            opts=self._child,
        )
        return role


def _preview_statements(bucket: str, key: str) -> list[dict[str, Any]]:
    """Reads state and its secrets. Locks of its own: a preview without them meets a deploy."""
    return [
        iam.allow(["s3:PutObject", "s3:DeleteObject"], [f"{bucket}/.pulumi/locks/*"]),
        iam.allow(["kms:Decrypt", "kms:GenerateDataKey"], [key]),
    ]


def _deploy_statements(bucket: str, key: str) -> list[dict[str, Any]]:
    """PowerUserAccess excludes IAM: of it only the roles of stacks, which have a path of their own."""
    return [
        iam.allow(["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"], [key]),
        iam.allow(_ROLE_WRITES, [f"arn:aws:iam::*:role{iam.PATH}*"]),
        iam.allow(["iam:GetRole", "iam:GetRolePolicy", "iam:ListRolePolicies"], ["*"]),
        iam.allow(["iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole"], ["*"]),
    ]


def _trust(provider: str, subject: str) -> str:
    condition = {"StringEquals": {f"{_GITHUB}:aud": "sts.amazonaws.com", f"{_GITHUB}:sub": subject}}
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": provider},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": condition,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _tls_only(bucket: str) -> str:
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [bucket, f"{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def main() -> None:
    config = pulumi.Config()
    repository = config.require("repository")
    if repository.count("/") != 1:
        raise FreeholdError(f"config repository: {repository!r} must be owner/name")
    made = Bootstrap(config.require("region"), repository)
    pulumi.export("backendUrl", pulumi.Output.concat("s3://", made.bucket.bucket))
    pulumi.export("secretsProvider", pulumi.Output.concat("awskms:///", made.key.arn))
    pulumi.export("previewRole", made.preview.arn)
    pulumi.export("deployRole", made.deploy.arn)


if __name__ == "__main__":
    try:
        main()
    except FreeholdError as error:
        raise pulumi.RunError(str(error)) from None
