"""A gateway's configuration in two parts, for a cluster: settings that anybody may read, and keys.

The settings lie in a ConfigMap, each tenant's key in a Secret of its own (so that one is rotated
without touching another). In the pod, before Envoy starts, this puts them together:

    python -m freehold.gateway.in_pod SETTINGS.json KEYS_FOLDER ENVOY.json
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.config.errors import FreeholdError

from .envoy import bootstrap
from .model import Address, ApiKey, Certificate, Dns, Gateway, Hosted, Pool, Rollout, Worker


def settings_of(gateway: Gateway) -> dict[str, Any]:
    """Everything but the keys' secrets, as JSON."""
    settings = dataclasses.asdict(gateway)
    for key in settings["keys"]:
        del key["secret"]
    return settings


def gateway_from(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> Gateway:
    """The gateway that `settings_of` took apart; `secrets` are the keys by tenant."""
    certificate = settings["certificate"]
    structured: dict[str, Any] = {
        "keys": tuple(_key(key, secrets) for key in settings["keys"]),
        "pools": tuple(_pool(pool) for pool in settings["pools"]),
        "certificate": Certificate(**certificate) if certificate else None,
    }
    for name in ("picker", "picker_http", "picker_standby", "stats"):
        structured[name] = _address(settings[name])
    return Gateway(**{**settings, **structured})


def _address(value: list[Any] | None) -> Address | None:
    return (value[0], value[1]) if value else None


def _key(key: Mapping[str, Any], secrets: Mapping[str, str]) -> ApiKey:
    if key["tenant"] not in secrets:
        raise FreeholdError(f"tenant {key['tenant']} has no key; there are: {', '.join(secrets)}")
    models = tuple(key["models"]) if key["models"] is not None else None
    return ApiKey(**{**key, "models": models}, secret=secrets[key["tenant"]])


def _pool(pool: Mapping[str, Any]) -> Pool:
    discovery, hosted, rollout = pool["discovery"], pool["hosted"], pool["rollout"]
    return Pool(
        **{
            **pool,
            "models": tuple(pool["models"]),
            "workers": tuple(Worker(**worker) for worker in pool["workers"]),
            "discovery": Dns(**discovery) if discovery else None,
            "hosted": Hosted(**hosted) if hosted else None,
            "rollout": Rollout(**rollout) if rollout else None,
        }
    )


def read_keys(folder: Path) -> dict[str, str]:
    """One file a tenant. What Kubernetes puts beside them begins with two dots."""
    files = (path for path in folder.iterdir() if not path.name.startswith("."))
    return {path.name: path.read_text(encoding="utf-8").strip() for path in files}


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        print(f"usage: {__spec__.name} SETTINGS.json KEYS_FOLDER ENVOY.json", file=sys.stderr)
        return 2
    settings, keys, out = map(Path, arguments)
    try:
        gateway = gateway_from(json.loads(settings.read_text(encoding="utf-8")), read_keys(keys))
    except (FreeholdError, OSError, ValueError, KeyError, TypeError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(bootstrap(gateway), file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
