"""The bucket that holds the models: nothing else is needed when an engine starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from freehold.catalog.models import find_model
from freehold.planning.plan import PoolPlan

from . import iam
from .model_companions import companions, on_hub
from .tags import tags

# Whoever replaces a model by mistake has a month to notice (working choice).
_OLD_VERSIONS_DAYS = 30


@dataclass(frozen=True)
class StoredModel:
    """One checkpoint, and where it lies in the bucket."""

    repo: str
    revision: str
    gated: bool
    allow_code: bool

    @property
    def prefix(self) -> str:
        return f"{self.repo}/{self.revision}"

    @property
    def name(self) -> str:
        """For Kubernetes: lower-case letters, digits and dashes, at most 63."""
        plain = "".join(c if c.isalnum() else "-" for c in f"{self.repo}-{self.revision[:12]}")
        return plain.lower().strip("-")[-63:].strip("-")


def stored_model(pool: PoolPlan) -> StoredModel | None:
    """What the store must hold for a pool; None for a model that is a folder of the image, or
    somebody else's."""
    repo = pool.settings.model
    if pool.hosted or not on_hub(repo):
        return None
    known = find_model(repo)
    return StoredModel(
        repo=repo,
        revision=pool.settings.revision or "main",
        gated=known.gated if known else False,
        allow_code=pool.settings.options.trust_remote_code,
    )


def stored_companions(pool: PoolPlan) -> list[StoredModel]:
    """Draft models and adapters. They bring no code: only the pool's own model may be trusted to."""
    return [StoredModel(repo, "main", gated=False, allow_code=False) for repo in companions(pool)]


def stored_models(pools: Sequence[PoolPlan]) -> list[StoredModel]:
    """Every checkpoint once, in the order of the pools."""
    found: dict[StoredModel, None] = {}
    for pool in pools:
        if model := stored_model(pool):
            found |= dict.fromkeys([model, *stored_companions(pool)])
    return list(found)


class ModelStore(pulumi.ComponentResource):
    """Bucket and key: versioned, encrypted, private, TLS only, and kept when the stack goes."""

    bucket: aws.s3.Bucket
    key: aws.kms.Key

    def __init__(self, stack: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__("freehold:cluster:ModelStore", "model-store", {}, opts)
        # Its settings too: what stays stays closed and encrypted.
        kept = pulumi.ResourceOptions(parent=self, protect=True)
        self.key = aws.kms.Key(
            "models",
            description=f"Models of {stack}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            tags=tags(stack),
            opts=kept,
        )
        self.bucket = aws.s3.Bucket(
            "models", bucket_prefix=f"{stack}-models-", tags=tags(stack), opts=kept
        )
        name = self.bucket.bucket
        aws.s3.BucketVersioning(
            "models",
            bucket=name,
            versioning_configuration={"status": "Enabled"},
            opts=kept,
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            "models",
            bucket=name,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": self.key.arn,
                    },
                    "bucket_key_enabled": True,  # one call to KMS for many objects
                }
            ],
            opts=kept,
        )
        aws.s3.BucketPublicAccessBlock(
            "models",
            bucket=name,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=kept,
        )
        aws.s3.BucketOwnershipControls(
            "models", bucket=name, rule={"object_ownership": "BucketOwnerEnforced"}, opts=kept
        )
        aws.s3.BucketLifecycleConfiguration(
            "models",
            bucket=name,
            rules=[
                {
                    "id": "old-versions",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "noncurrent_version_expiration": {"noncurrent_days": _OLD_VERSIONS_DAYS},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
                }
            ],
            opts=kept,
        )
        aws.s3.BucketPolicy(
            "models", bucket=name, policy=self.bucket.arn.apply(_tls_only), opts=kept
        )
        self.register_outputs({"bucket": name})

    def reader_policy(self) -> pulumi.Output[str]:
        """List and read; nothing else."""
        return pulumi.Output.all(self.bucket.arn, self.key.arn).apply(
            lambda arns: _policy(arns[0], arns[1], ["s3:GetObject"], ["kms:Decrypt"])
        )

    def writer_policy(self) -> pulumi.Output[str]:
        """What the copy job does. A file that fails its checksum is taken away again."""
        return pulumi.Output.all(self.bucket.arn, self.key.arn).apply(
            lambda arns: _policy(
                arns[0],
                arns[1],
                ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                ["kms:Decrypt", "kms:GenerateDataKey"],
            )
        )


def _policy(bucket: str, key: str, objects: Sequence[str], keys: Sequence[str]) -> str:
    return iam.document(
        [
            iam.allow(["s3:ListBucket"], [bucket]),
            iam.allow(objects, [f"{bucket}/*"]),
            iam.allow(keys, [key]),
        ]
    )


def _tls_only(bucket: str) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "TlsOnly",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [bucket, f"{bucket}/*"],
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                }
            ],
        }
    )
