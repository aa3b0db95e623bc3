"""The cluster-wide tier of the KV cache: one Redis, if the stack brings none of its own."""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Target
from freehold.config.cache import RedisCache

from .generated_secret import GeneratedSecret
from .kv_cache import SECRET
from .names import REDIS_PORT, Names, labels
from .pods import digest, empty_dir, memory, metadata, mount, pod_spec, pod_template, selector
from .security import container_security

_USER = 999  # `redis` of the official image
# Redis's own tables, buffers and fragments take up to a quarter more than what it stores.
_SPARE = 1.25
_OWN_GIB = 0.1


def redis_configuration(memory_gib: float) -> str:
    """A cache: full means that the least recently used goes, and nothing is on disk. The password lies
    in a file of its own."""
    lines = [
        "include /etc/redis-auth/auth.conf",
        f"port {REDIS_PORT}",
        "bind * -::*",
        f"maxmemory {int(memory_gib * 2**30)}",
        "maxmemory-policy allkeys-lru",
        'save ""',
        "appendonly no",
        "dir /tmp",
    ]
    return "\n".join(lines) + "\n"


class Redis(pulumi.ComponentResource):
    """Creates a StatefulSet of one without a volume, its headless Service, and a password that LMCache's
    servers get as a Secret in their own namespace."""

    def __init__(
        self,
        cache: RedisCache,
        names: Names,
        target: Target,
        image: str,
        users: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        """`users` is the namespace of those who ask it."""
        super().__init__("freehold:serving:Redis", "redis", None, opts)
        options = target.options(self)
        generated = GeneratedSecret("redis-password", opts=pulumi.ResourceOptions(parent=self))
        password = pulumi.Output.secret(generated.value)
        self.secrets = [
            k8s.core.v1.Secret(
                f"redis-{namespace}",
                metadata=k8s.meta.v1.ObjectMetaArgs(name=SECRET, namespace=namespace),
                string_data={
                    "password": password,
                    "auth.conf": pulumi.Output.concat("requirepass ", password, "\n"),
                },
                opts=options,
            )
            for namespace in (names.cache, users)
        ]
        configuration = redis_configuration(cache.memory_gib)
        about = metadata("redis", names.cache, "redis")
        k8s.core.v1.ConfigMap(
            "redis", metadata=about, data={"redis.conf": configuration}, opts=options
        )
        k8s.core.v1.Service(
            "redis",
            metadata=about,
            spec=k8s.core.v1.ServiceSpecArgs(
                cluster_ip="None",
                selector=labels("redis"),
                ports=[k8s.core.v1.ServicePortArgs(name="redis", port=REDIS_PORT)],
            ),
            opts=options,
        )
        account = k8s.core.v1.ServiceAccount(
            "redis", metadata=about, automount_service_account_token=False, opts=options
        )
        k8s.apps.v1.StatefulSet(
            "redis",
            metadata=about,
            spec=k8s.apps.v1.StatefulSetSpecArgs(
                replicas=1,
                service_name="redis",
                selector=selector("redis"),
                template=_pod(cache.memory_gib, configuration, target, image),
            ),
            opts=target.options(self, depends_on=[account, *self.secrets]),
        )
        self.register_outputs({})


def _pod(
    memory_gib: float, configuration: str, target: Target, image: str
) -> k8s.core.v1.PodTemplateSpecArgs:
    port = k8s.core.v1.TCPSocketActionArgs(port=REDIS_PORT)
    container = k8s.core.v1.ContainerArgs(
        name="redis",
        image=image,
        command=["redis-server", "/etc/redis/redis.conf"],
        ports=[k8s.core.v1.ContainerPortArgs(name="redis", container_port=REDIS_PORT)],
        readiness_probe=k8s.core.v1.ProbeArgs(tcp_socket=port, period_seconds=5),
        liveness_probe=k8s.core.v1.ProbeArgs(tcp_socket=port, period_seconds=10),
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": "250m", "memory": memory(memory_gib + _OWN_GIB)},
            limits={"memory": memory(memory_gib * _SPARE + _OWN_GIB)},
        ),
        security_context=container_security(),
        volume_mounts=[
            mount("configuration", "/etc/redis"),
            mount("auth", "/etc/redis-auth"),
            mount("tmp", "/tmp"),
        ],
    )
    auth = k8s.core.v1.SecretVolumeSourceArgs(
        secret_name=SECRET, items=[k8s.core.v1.KeyToPathArgs(key="auth.conf", path="auth.conf")]
    )
    spec = pod_spec(
        target,
        target.system,
        service_account="redis",
        grace_seconds=10,
        user=_USER,
        containers=[container],
        volumes=[
            k8s.core.v1.VolumeArgs(
                name="configuration",
                config_map=k8s.core.v1.ConfigMapVolumeSourceArgs(name="redis"),
            ),
            k8s.core.v1.VolumeArgs(name="auth", secret=auth),
            empty_dir("tmp", "100Mi"),
        ],
    )
    return pod_template(
        spec, "redis", annotations={"freehold/configuration": digest(configuration)}
    )
