"""What every node of the cluster is started with, GPUs or not."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_aws as aws

from .node_config import user_data
from .tags import tags

# gp3 without extra charge has 3,000 IOPS and 125 MiB/s; parallel image pull wants 600 MiB/s or more
# (amazon-eks-ami FastImagePull, 2026-07).
_FAST_MIBS, _FAST_IOPS = 1000, 4000


def launch_template(
    name: str,
    stack: str,
    *,
    root_gib: int,
    config: dict[str, Any],
    fast_disk: bool,
    opts: pulumi.ResourceOptions,
    **capacity: Any,
) -> aws.ec2.LaunchTemplate:
    """`capacity`: arguments that say how the instances are bought.

    The disk is encrypted with the account's EBS key: a key of the stack's own would need a grant for
    the role of Auto Scaling in every account. Pods do not reach the instance's metadata (hop limit
    1): what they may do comes from Pod Identity.
    """
    disk: Any = {
        "volume_type": "gp3",
        "volume_size": root_gib,
        "encrypted": "true",
        "delete_on_termination": "true",
        **({"throughput": _FAST_MIBS, "iops": _FAST_IOPS} if fast_disk else {}),
    }
    return aws.ec2.LaunchTemplate(
        name,
        update_default_version=True,
        user_data=user_data(config),
        block_device_mappings=[{"device_name": "/dev/xvda", "ebs": disk}],
        metadata_options={
            "http_endpoint": "enabled",
            "http_tokens": "required",
            "http_put_response_hop_limit": 1,
            "instance_metadata_tags": "disabled",
        },
        monitoring={"enabled": True},
        tag_specifications=[
            {"resource_type": kind, "tags": tags(stack, f"{stack}-{name}")}
            for kind in ("instance", "volume", "network-interface")
        ],
        tags=tags(stack, f"{stack}-{name}"),
        opts=opts,
        **capacity,
    )
