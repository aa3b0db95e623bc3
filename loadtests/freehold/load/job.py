"""The load test inside the cluster: a master and workers, as two Kubernetes Jobs.

It runs the same tier file as `freehold load`, without the internet between it and the gateway. Each
worker hands its records to the master when it is done; the master judges, ends with the same exit
code as `freehold load`, and its log's last line is report.json:

    kubectl -n NAMESPACE logs job/NAME-master | tail -n 1 > report.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import ConfigMap, Service

from .run import MASTER_PORT
from .test import API_KEY, TEST_FILE, LoadTest
from .verdict import Promise

_CONFIG, _RECORDS = "/etc/freehold", "/records"
# One locust process is one core of Python; the memory of some thousand streams and their records.
_CPU, _MEMORY = "1", "1Gi"


@dataclass(frozen=True)
class LoadTestJobArgs:
    """`test.out`, `test.corpora` and `test.processes` are set here; `base_url` is the gateway's
    address inside the cluster."""

    namespace: str
    image: str
    """An image with this repository installed, at `checkout`."""
    test: LoadTest
    tier: str = "small"
    promise: Promise = field(default_factory=Promise)
    workers: int = 2
    key_secret: tuple[str, str] | None = None
    """Name and key of the Secret that holds the gateway key."""
    checkout: str = "/app"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    keep_seconds: int = 86_400
    """How long finished pods and their logs stay."""


class LoadTestJob(pulumi.ComponentResource):
    """`freehold:load:LoadTestJob`: runs once; change the test's salt to run it again."""

    def __init__(
        self, name: str, args: LoadTestJobArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("freehold:load:LoadTestJob", name, None, opts)
        self._name, self._args = name, args
        child = pulumi.ResourceOptions(parent=self)
        self.config = ConfigMap(
            f"{name}-test", metadata=self._metadata("test"), data=self._files(), opts=child
        )
        address: Any = {
            "clusterIP": "None",
            # Workers look for the master before it is ready.
            "publishNotReadyAddresses": True,
            "selector": self._labels("master"),
            "ports": [{"name": "locust", "port": MASTER_PORT}],
        }
        self.service = Service(
            f"{name}-master", metadata=self._metadata("address"), spec=address, opts=child
        )
        file = f"{args.checkout}/loadtests/tiers/{args.tier}.py"
        lead = ["python", "-m", "freehold.load.run", f"{_CONFIG}/test.json"]
        lead += ["--promise", f"{_CONFIG}/promise.json", "--locustfile", file]
        self.master = self._job("master", 1, lead)
        work = ["python", "-m", "locust", "-f", file, "--headless", "--worker"]
        work += ["--master-host", f"{name}-master", "--master-port", str(MASTER_PORT)]
        self.workers = self._job("worker", args.workers, work)
        self.register_outputs({"report": f"kubectl logs job/{name}-master | tail -n 1"})

    def _files(self) -> dict[str, str]:
        update = {
            "out": Path(_RECORDS),
            "corpora": Path(_RECORDS) / "corpora",
            "processes": self._args.workers,
        }
        test = self._args.test.model_copy(update=update)
        return {
            "test.json": test.model_dump_json(indent=1),
            "promise.json": json.dumps(self._args.promise.as_json(), indent=1),
        }

    def _job(self, role: str, count: int, command: list[str]) -> Job:
        pod = {"metadata": {"labels": self._labels(role)}, "spec": self._pod(role, command)}
        spec: Any = {
            "completions": count,
            "parallelism": count,
            # A second try would be another measurement under the same name.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": self._args.keep_seconds,
            "template": pod,
        }
        return Job(
            f"{self._name}-{role}",
            metadata=self._metadata(role),
            spec=spec,
            # A Job's template cannot change: another test is another Job.
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[self.config, self.service], replace_on_changes=["spec"]
            ),
        )

    def _pod(self, role: str, command: list[str]) -> dict[str, Any]:
        args = self._args
        return {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "nodeSelector": dict(args.node_selector),
            "tolerations": [dict(each) for each in args.tolerations],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": role,
                    "image": args.image,
                    "workingDir": args.checkout,
                    "command": command,
                    "env": self._environment(),
                    "ports": [{"containerPort": MASTER_PORT}] if role == "master" else [],
                    "resources": {
                        "requests": {"cpu": _CPU, "memory": _MEMORY},
                        "limits": {"memory": _MEMORY},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "test", "mountPath": _CONFIG, "readOnly": True},
                        {"name": "records", "mountPath": _RECORDS},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                {"name": "test", "configMap": {"name": f"{self._name}-test"}},
                {"name": "records", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
            ],
        }

    def _environment(self) -> list[dict[str, Any]]:
        env: list[dict[str, Any]] = [{"name": TEST_FILE, "value": f"{_CONFIG}/test.json"}]
        if self._args.key_secret:
            secret, key = self._args.key_secret
            source = {"secretKeyRef": {"name": secret, "key": key}}
            env.append({"name": API_KEY, "valueFrom": source})
        return env

    def _metadata(self, role: str) -> Any:
        name = "master" if role == "address" else role
        metadata: dict[str, Any] = {
            "name": f"{self._name}-{name}",
            "namespace": self._args.namespace,
            "labels": self._labels(name),
        }
        if role in ("master", "worker"):  # Pulumi would wait until the whole test has run
            metadata["annotations"] = {"pulumi.com/skipAwait": "true"}
        return metadata

    def _labels(self, role: str) -> dict[str, str]:
        return {
            "app.kubernetes.io/name": "freehold-load",
            "app.kubernetes.io/instance": self._name,
            "app.kubernetes.io/component": role,
        }
