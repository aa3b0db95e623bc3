"""Each tenant's key as a Secret of its own, so that one changes without another."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Target
from freehold.config.errors import FreeholdError
from freehold.config.gateway import ExternalKey, GatewayKey

from .generated_secret import GeneratedSecret
from .names import Names
from .pods import digest, metadata


def key_secret_name(tenant: str) -> str:
    """The Secret that holds a tenant's key, under `key`."""
    return f"gateway-key-{tenant}"


@dataclass(frozen=True)
class Keys:
    """What the gateway's pods and the program's outputs need of them."""

    values: Mapping[str, pulumi.Output[str]]
    """By tenant, of those that no store keeps."""
    digest: pulumi.Output[str]
    """Changes with every key that is known here, and with where the others lie."""
    objects: Sequence[pulumi.Resource]


def gateway_keys(
    keys: Sequence[GatewayKey],
    names: Names,
    target: Target,
    parent: pulumi.Resource,
    ready: Sequence[pulumi.Resource] = (),
) -> Keys:
    """Creates a Secret a tenant, or an ExternalSecret, from which the cluster's operator makes it."""
    options = target.options(parent, depends_on=ready)
    values = {key.tenant: _value(key, parent) for key in keys if not key.external}
    specs = {
        key.tenant: external_secret_spec(key.tenant, key.external) for key in keys if key.external
    }
    secrets = [
        k8s.core.v1.Secret(
            key_secret_name(tenant),
            metadata=metadata(key_secret_name(tenant), names.gateway, "gateway"),
            string_data={"key": value},
            opts=options,
        )
        for tenant, value in values.items()
    ]
    kept = [
        k8s.apiextensions.CustomResource(
            key_secret_name(tenant),
            api_version="external-secrets.io/v1",
            kind="ExternalSecret",
            metadata=metadata(key_secret_name(tenant), names.gateway, "gateway"),
            spec=spec,
            opts=options,
        )
        for tenant, spec in specs.items()
    ]
    known = pulumi.Output.all(**values).apply(  # a list where there are none
        lambda found: digest(json.dumps({**dict(found), **specs}, sort_keys=True))
    )
    return Keys(values, known, [*secrets, *kept])


def external_secret_spec(tenant: str, external: ExternalKey) -> dict[str, Any]:
    """What the operator reads, and the Secret that it writes."""
    remote = {"key": external.key}
    if external.property:
        remote["property"] = external.property
    return {
        "refreshInterval": f"{external.refresh_minutes}m0s",
        "secretStoreRef": {"kind": external.kind, "name": external.store},
        "target": {"name": key_secret_name(tenant), "creationPolicy": "Owner"},
        "data": [{"secretKey": "key", "remoteRef": remote}],
    }


def _value(key: GatewayKey, parent: pulumi.Resource) -> pulumi.Output[str]:
    if key.secret_env is None:
        made = GeneratedSecret(
            key_secret_name(key.tenant),
            prefix="sk-",
            opts=pulumi.ResourceOptions(parent=parent),
        )
        return pulumi.Output.secret(made.value)
    if key.secret_env not in os.environ:
        raise FreeholdError(
            f"gateway.keys ({key.tenant}).secret_env: the environment variable {key.secret_env} is not "
            "set: set it to the tenant's key, or leave secret_env out and one is made"
        )
    return pulumi.Output.secret(os.environ[key.secret_env])
