"""The one door in front of every pool: keys, limits, TLS."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .base import Model, Name, Port


class GatewayKey(Model):
    """A tenant's key. The secret itself is never in the stack file: it is generated, or read from
    the environment variable that `secret_env` names."""

    tenant: Name
    models: list[str] | None = Field(default=None, description="Allowed models; all when absent.")
    requests_per_minute: int | None = Field(default=None, ge=1)
    secret_env: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]*$")


class Tls(Model):
    """The certificate that clients see; one of the two."""

    certificate_arn: str | None = Field(default=None, pattern=r"^arn:aws[a-z-]*:acm:")
    secret: str | None = Field(default=None, description="A kubernetes.io/tls secret.")

    @model_validator(mode="after")
    def _one_certificate(self) -> Tls:
        if (self.certificate_arn is None) == (self.secret is None):
            raise ValueError("name one of certificate_arn (ACM) and secret (Kubernetes)")
        return self


class Gateway(Model):
    """The one door in front of every pool."""

    host: str = "127.0.0.1"
    port: Port = 8080
    keys: list[GatewayKey] = Field(default=[GatewayKey(tenant="default")], min_length=1)
    max_body_mib: int = Field(default=32, ge=1, le=512)
    replicas: int = Field(default=2, ge=1, le=16, description="On a cluster; a laptop runs one.")
    exposure: Literal["internal", "internet"] = Field(
        default="internal", description="On a cluster: who the load balancer listens to."
    )
    tls: Tls | None = Field(default=None, description="On a cluster.")
