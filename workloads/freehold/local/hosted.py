"""Pools that Bedrock serves, on this machine: only the gateway runs, with the caller's own credentials."""

from __future__ import annotations

import configparser
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import certifi

from freehold.config import FreeholdError
from freehold.config.bedrock import BedrockTarget
from freehold.gateway.model import Hosted, Pool
from freehold.gateway.rollout import rollout_of
from freehold.planning.plan import Plan

_KEY_ID, _SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
CREDENTIALS = (_KEY_ID, _SECRET, "AWS_SESSION_TOKEN")
"""Passed on in the environment, never written anywhere."""
_PROFILE, _FILE = "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"


def hosted_pools(plan: Plan) -> list[Pool]:
    """The pools of a stack with target.kind bedrock, as its gateway sees them."""
    assert isinstance(plan.target, BedrockTarget)
    host, port = plan.target.address
    # As for other programs: a company's own authorities, or those that Mozilla trusts.
    trusted_ca = os.environ.get("SSL_CERT_FILE") or certifi.where()
    return [
        Pool(
            name=pool.name,
            role=pool.role,
            models=(pool.name,),
            aliases=dict.fromkeys(pool.aliases, pool.name),
            hosted=Hosted(pool.hosted.id, pool.hosted.region, host, trusted_ca, port),
            rollout=rollout_of(pool.rollout),
        )
        for pool in plan.pools
        if pool.hosted
    ]


def signing_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What tells Envoy where to find the credentials, and itself no secret.

    Raises FreeholdError where there are none. Other credentials make another environment, so that the
    gateway is started anew.
    """
    environ = os.environ if environ is None else environ
    given = {name: environ[name] for name in CREDENTIALS if environ.get(name)}
    if _KEY_ID in given and _SECRET in given:
        digest = hashlib.sha256("\n".join(given.values()).encode()).hexdigest()[:16]
        return {"FREEHOLD_AWS_CREDENTIALS": digest}
    if _KEY_ID in given or _SECRET in given:
        missing = _SECRET if _KEY_ID in given else _KEY_ID
        raise FreeholdError(f"the environment variable {missing} is not set, its other half is")
    profile = environ.get(_PROFILE, "default")
    file = Path(environ.get(_FILE) or "~/.aws/credentials").expanduser()
    if not _holds(file, profile):
        raise FreeholdError(
            f"no AWS credentials to sign requests to Bedrock with: set {_KEY_ID} and {_SECRET} (after "
            '`aws sso login` or for a role: eval "$(aws configure export-credentials --format env)"), '
            f"or put a key under [{profile}] in {file}"
        )
    return {_PROFILE: profile, _FILE: str(file)}


def _holds(file: Path, profile: str) -> bool:
    """Does the file have a key for the profile? Envoy reads keys only, no `role_arn`, no SSO."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise FreeholdError(f"{file} is no AWS credentials file: {error}") from None
    return parser.has_option(profile, "aws_secret_access_key")
