"""Jobs that fill the model store, one a checkpoint. They end before any engine starts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from . import iam
from .cluster import Cluster
from .model_store import ModelStore, StoredModel
from .nodes import SYSTEM
from .tags import tags
from .targets import NODE_GROUP_LABEL, pod_security_labels

_NAMESPACE = "model-import"
_ACCOUNT = "model-import"
# 700 GB at the 1.25 GB/s of a system node's network at best; five times that, and three tries.
_DEADLINE_SECONDS, _TRIES = 4 * 3600, 3
_NOBODY = 65534


class ModelImport(pulumi.ComponentResource):
    """Namespace, identity, script and jobs. `ready` are jobs that succeeded."""

    ready: tuple[pulumi.Resource, ...]

    def __init__(
        self,
        cluster: Cluster,
        region: str,
        store: ModelStore,
        models: Sequence[StoredModel],
        image: pulumi.Input[str],
        token: pulumi.Output[str] | None,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:ModelImport", "model-import", {}, opts)
        self._region, self._bucket, self._image = region, store.bucket.bucket, image

        def options(*before: pulumi.Resource) -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions(
                parent=self,
                provider=cluster.provider,
                depends_on=[*after, *before],
                deleted_with=cluster.eks,
            )

        namespace = k8s.core.v1.Namespace(
            _NAMESPACE,
            metadata={"name": _NAMESPACE, "labels": pod_security_labels("restricted")},
            opts=options(),
        )
        _, identity = iam.pod_role(
            "model-import",
            iam.PodUser(cluster.cluster_name, _NAMESPACE, _ACCOUNT),
            pulumi.ResourceOptions(parent=self),
            tags=tags(cluster.name),
            policy=store.writer_policy(),
        )
        account = k8s.core.v1.ServiceAccount(
            _ACCOUNT,
            metadata={"name": _ACCOUNT, "namespace": _NAMESPACE},
            automount_service_account_token=False,
            opts=options(namespace),
        )
        script = k8s.core.v1.ConfigMap(
            "model-copy",
            metadata={"name": "model-copy", "namespace": _NAMESPACE},
            data={"model_copy.py": files("freehold.cluster").joinpath("model_copy.py").read_text()},
            opts=options(namespace),
        )
        secret = (
            k8s.core.v1.Secret(
                "hub-token",
                metadata={"name": "hub-token", "namespace": _NAMESPACE},
                string_data={"HF_TOKEN": token},
                opts=options(namespace),
            )
            if token is not None
            else None
        )
        closed = k8s.networking.v1.NetworkPolicy(
            "model-import",
            metadata={"name": "model-import", "namespace": _NAMESPACE},
            spec={
                "pod_selector": {},
                "policy_types": ["Ingress", "Egress"],
                "egress": [
                    {"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]},
                    # The hub's addresses, and S3's, are not known in advance.
                    {
                        "to": [{"ip_block": {"cidr": "0.0.0.0/0"}}],
                        "ports": [{"port": 443, "protocol": "TCP"}],
                    },
                    {
                        "to": [{"ip_block": {"cidr": "169.254.170.23/32"}}],
                        "ports": [{"port": 80, "protocol": "TCP"}],
                    },
                ],
            },
            opts=options(namespace),
        )
        before = [account, script, closed, *identity, *([secret] if secret else [])]
        self.ready = tuple(self._job(model, secret, options(*before)) for model in models)
        self.register_outputs({})

    def _job(
        self,
        model: StoredModel,
        secret: k8s.core.v1.Secret | None,
        opts: pulumi.ResourceOptions,
    ) -> k8s.batch.v1.Job:
        spec: Any = {
            "backoff_limit": _TRIES,
            "active_deadline_seconds": _DEADLINE_SECONDS,
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": "model-import"}},
                "spec": self._pod(model, secret is not None),
            },
        }
        return k8s.batch.v1.Job(
            f"import-{model.name}",
            # The name says what it copied: another revision is another job.
            metadata={"name": model.name, "namespace": _NAMESPACE},
            spec=spec,
            opts=pulumi.ResourceOptions.merge(
                opts,
                pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create="4h")),
            ),
        )

    def _pod(self, model: StoredModel, token: bool) -> dict[str, Any]:
        flags = ["--allow-code"] if model.allow_code else []
        return {
            "service_account_name": _ACCOUNT,
            "automount_service_account_token": False,
            "restart_policy": "Never",
            "node_selector": {NODE_GROUP_LABEL: SYSTEM},
            "security_context": {
                "run_as_non_root": True,
                "run_as_user": _NOBODY,
                "run_as_group": _NOBODY,
                "seccomp_profile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "copy",
                    "image": self._image,
                    "command": ["python3", "/script/model_copy.py"],
                    "args": [model.repo, model.revision, self._bucket, model.prefix, *flags],
                    "env": [
                        {"name": "AWS_REGION", "value": self._region},
                        {"name": "HF_HOME", "value": "/tmp/hub"},
                        {"name": "HF_HUB_DISABLE_TELEMETRY", "value": "1"},
                    ],
                    "env_from": [{"secret_ref": {"name": "hub-token"}}] if token else [],
                    "resources": {
                        "requests": {"cpu": "500m", "memory": "512Mi"},
                        "limits": {"memory": "1Gi"},
                    },
                    "security_context": {
                        "allow_privilege_escalation": False,
                        "read_only_root_filesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volume_mounts": [
                        {"name": "script", "mount_path": "/script", "read_only": True},
                        {"name": "tmp", "mount_path": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                {"name": "script", "config_map": {"name": "model-copy"}},
                {"name": "tmp", "empty_dir": {"size_limit": "64Mi"}},
            ],
        }
