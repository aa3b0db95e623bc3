"""What watches the stack."""

from __future__ import annotations

from pydantic import Field

from .base import Model, Port


class Prometheus(Model):
    port: Port = 9091
    retention: str = Field(default="2d", pattern=r"^[0-9]+[hdw]$")
    storage_gib: int = Field(default=20, ge=1, description="Its volume on a cluster.")


class Observability(Model):
    prometheus: Prometheus | None = Prometheus()
    runbook_url: str = Field(
        default="docs/runbooks/{alert}.md",
        pattern=r"\{alert\}",
        description="Where the page of an alert is, `{alert}` standing for its name: a path in the "
        "checkout, or an address that whoever is woken can open.",
    )
