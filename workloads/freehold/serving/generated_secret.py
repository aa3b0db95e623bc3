"""Secrets that nobody has to think up: made once, kept encrypted in the stack's state."""

from __future__ import annotations

import secrets as random
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider

_BYTES = 32


class _Provider(ResourceProvider):
    def create(self, props: dict[str, Any]) -> CreateResult:
        value = props["prefix"] + random.token_urlsafe(_BYTES)
        return CreateResult(id_=random.token_hex(8), outs={**props, "value": value})


class GeneratedSecret(Resource, module="serving", name="GeneratedSecret"):
    """A random string of 256 bits after `prefix`. `pulumi up --replace URN` makes a new one."""

    value: pulumi.Output[str]

    def __init__(
        self, name: str, *, prefix: str = "", opts: pulumi.ResourceOptions | None = None
    ) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["value"])
        super().__init__(
            _Provider(),
            name,
            {"prefix": prefix, "value": None},
            pulumi.ResourceOptions.merge(opts, secret),
        )
