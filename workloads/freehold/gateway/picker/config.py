"""What the picker is told: `freehold.gateway.launch.picker_config` writes it, this reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from freehold.config.errors import FreeholdError
from freehold.gateway.model import ENGINE_HEALTH, Address, Policy, Role


@dataclass(frozen=True)
class WorkerSource:
    """Where workers of a pool are: each address that `host` stands for is one. `name` labels the
    worker in metrics; without one it is its address."""

    host: str
    port: int
    name: str | None = None


@dataclass(frozen=True)
class Share:
    """Requests for the model `of` whose lot is below `below` go to `pool`; to somebody else's workers
    when None."""

    pool: str | None
    below: int
    of: str


@dataclass(frozen=True)
class PoolConfig:
    name: str
    policy: Policy
    served: dict[str, str]
    """What clients may put in `model`, each with the name that the engine knows it by."""
    sources: tuple[WorkerSource, ...]
    share: Share | None = None
    """Of its requests, another pool's."""
    health_path: str = ENGINE_HEALTH
    role: Role = "generate"

    @property
    def model(self) -> str:
        """The name that every worker of it knows."""
        return next(iter(self.served.values()))


@dataclass(frozen=True)
class PickerConfig:
    grpc: Address
    http: Address
    replicas: int
    max_body_bytes: int
    pools: tuple[PoolConfig, ...]


def load(path: Path) -> PickerConfig:
    try:
        data = orjson.loads(path.read_bytes())
        return PickerConfig(
            grpc=(data["grpc"][0], data["grpc"][1]),
            http=(data["http"][0], data["http"][1]),
            replicas=data["replicas"],
            max_body_bytes=data["max_body_bytes"],
            pools=tuple(
                PoolConfig(
                    name=pool["name"],
                    policy=pool["policy"],
                    served=pool["served"],
                    sources=tuple(WorkerSource(**source) for source in pool["sources"]),
                    share=Share(**pool["share"]) if pool["share"] else None,
                    health_path=pool["health_path"],
                    role=pool["role"],
                )
                for pool in data["pools"]
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FreeholdError(f"picker configuration {path} cannot be read: {error!r}") from error
