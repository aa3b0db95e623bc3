"""User data of a node: nodeadm's NodeConfig, in the MIME form that EKS merges with its own.

No image id stands beside it in the launch template, so EKS keeps choosing and updating the AMI.
"""

from __future__ import annotations

import base64
from typing import Any

import yaml

_BOUNDARY = "freehold"
# Parallel pull is experimental and ignored on small sizes: 2xlarge and larger (amazon-eks-ami
# FastImagePull, 2026-07).
FAST_PULL_VCPU = 8


def node_config(*, local_storage: bool, fast_image_pull: bool) -> dict[str, Any]:
    """`local_storage`: kubelet, containerd and pod volumes live on the node's own NVMe disks, as one
    RAID0: fast, and gone with the node."""
    spec: dict[str, Any] = {}
    if local_storage:
        spec["instance"] = {"localStorage": {"strategy": "RAID0"}}
    if fast_image_pull:
        spec["featureGates"] = {"FastImagePull": True}
    return {"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec}


def user_data(config: dict[str, Any]) -> str:
    """Base64, as launch templates take it."""
    message = "\n".join(
        [
            "MIME-Version: 1.0",
            f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"',
            "",
            f"--{_BOUNDARY}",
            "Content-Type: application/node.eks.aws",
            "",
            yaml.safe_dump(config, sort_keys=False).rstrip(),
            "",
            f"--{_BOUNDARY}--",
            "",
        ]
    )
    return base64.b64encode(message.encode()).decode()
