"""The one door in front of every pool: keys, limits, TLS."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .base import Model, Name, Port


class ExternalKey(Model):
    """A key that a secret store keeps. External Secrets, an operator that the cluster runs already,
    copies it into the cluster."""

    store: str = Field(min_length=1, description="Of the SecretStore or ClusterSecretStore.")
    kind: Literal["ClusterSecretStore", "SecretStore"] = "ClusterSecretStore"
    key: str = Field(min_length=1, description="What the store calls it, such as a path.")
    property: str | None = Field(
        default=None, description="Of a secret with several values, the one that is the key."
    )
    refresh_minutes: int = Field(
        default=60, ge=1, description="How often the operator looks for another value."
    )


class GatewayKey(Model):
    """A tenant's key. The secret itself is never in the stack file: it is generated, read from the
    environment variable that `secret_env` names, or kept by a store."""

    tenant: Name
    models: list[str] | None = Field(default=None, description="Allowed models; all when absent.")
    requests_per_minute: int | None = Field(default=None, ge=1)
    secret_env: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]*$")
    external: ExternalKey | None = Field(default=None, description="On a cluster.")
    cache_group: Name | None = Field(
        default=None, description="Tenants that name the same group share their prompt cache."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> GatewayKey:
        if self.secret_env and self.external:
            raise ValueError(
                "names two places for the key: leave secret_env out to take it from the store, or "
                "external to take it from the environment"
            )
        return self


class Tls(Model):
    """The certificate that clients see; one of the two."""

    certificate_arn: str | None = Field(default=None, pattern=r"^arn:aws[a-z-]*:acm:")
    secret: str | None = Field(default=None, description="A kubernetes.io/tls secret.")

    @model_validator(mode="after")
    def _one_certificate(self) -> Tls:
        if (self.certificate_arn is None) == (self.secret is None):
            raise ValueError("name one of certificate_arn (ACM) and secret (Kubernetes)")
        return self


class Rollout(Model):
    """A share of the requests for another pool's name come to this pool instead."""

    of: Name = Field(description="The pool whose name clients ask for.")
    percent: float = Field(ge=0, le=100, description="In steps of 0.01; 0 only prepares it.")


class Gateway(Model):
    """The one door in front of every pool."""

    host: str = "127.0.0.1"
    port: Port = 8080
    keys: list[GatewayKey] = Field(default=[GatewayKey(tenant="default")], min_length=1)
    sealed: bool | None = Field(
        default=None,
        description="Each tenant has its own prompt cache. On where there is more than one tenant.",
    )
    max_body_mib: int = Field(default=32, ge=1, le=512)
    replicas: int = Field(default=2, ge=1, le=16, description="On a cluster; a laptop runs one.")
    exposure: Literal["internal", "internet"] = Field(
        default="internal", description="On a cluster: who the load balancer listens to."
    )
    tls: Tls | None = Field(default=None, description="On a cluster.")

    @property
    def seals(self) -> bool:
        return len(self.keys) > 1 if self.sealed is None else self.sealed

    @property
    def caches(self) -> int:
        """Prompt caches that are kept apart."""
        return len({(key.cache_group, key.cache_group or key.tenant) for key in self.keys})
