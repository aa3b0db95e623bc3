"""What an account must have before Bedrock answers: each model, in the stack's region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold.planning.plan import HostedModel, Plan

from .preflight import Finding, Need

# What Bedrock says of a model for an account -> the word that is good.
_GOOD = {
    "authorizationStatus": "AUTHORIZED",
    "entitlementAvailability": "AVAILABLE",
    "regionAvailability": "AVAILABLE",
}


def bedrock_needs(plan: Plan) -> list[Need]:
    """One for each model. Quotas of requests and tokens a minute are not among them: Service Quotas gives
    them no names that say which model they are of."""
    hosted = {pool.hosted.id: pool.hosted for pool in plan.pools if pool.hosted}
    return [
        Need(
            what=f"{model.id} can be invoked in {model.region}",
            where="Bedrock's console, Model access; and an IAM policy that allows bedrock:InvokeModel on it",
            check=_check(model),
        )
        for model in hosted.values()
    ]


def _check(model: HostedModel) -> Callable[[Any], Finding]:
    def check(session: Any) -> Finding:
        client = session.client("bedrock", region_name=model.region)
        said = client.get_foundation_model_availability(modelId=model.id)
        bad = [f"{key} is {said[key]}" for key, good in _GOOD.items() if said[key] != good]
        return Finding(not bad, ", ".join(bad) or "Bedrock says so")

    return check
