"""Rules about the control plane.

`eks:index:Cluster` is a component that its provider expands: offline only its inputs are seen, under
the real engine its child `aws:eks/cluster:Cluster` too. The rules know both spellings.
"""

from __future__ import annotations

from collections.abc import Iterator

from .rule import Inputs, ResourceRule, at

_EITHER = ("eks:index:Cluster", "aws:eks/cluster:Cluster")
_LOGS = {"api", "audit", "authenticator", "controllerManager", "scheduler"}
_WORLD = {"0.0.0.0/0", "::/0"}


def _setting(inputs: Inputs, component: str, raw: str) -> object:
    return at(inputs, component, at(inputs, raw))


def _endpoint(inputs: Inputs) -> Iterator[str]:
    if _setting(inputs, "endpointPrivateAccess", "vpcConfig.endpointPrivateAccess") is not True:
        yield "its private endpoint is off: nodes would speak to the API over the internet"
    public = _setting(inputs, "endpointPublicAccess", "vpcConfig.endpointPublicAccess")
    cidrs = _setting(inputs, "publicAccessCidrs", "vpcConfig.publicAccessCidrs") or []
    if public is not False and not cidrs:
        yield "its public endpoint is open to the whole internet: name networks, or switch it off"
    if isinstance(cidrs, list) and _WORLD & set(cidrs):
        yield "its public endpoint lets the whole internet in: name networks"


def _logs(inputs: Inputs) -> Iterator[str]:
    if missing := _LOGS - set(inputs.get("enabledClusterLogTypes") or []):
        yield f"control-plane logs are off: {', '.join(sorted(missing))}"


def _secrets(inputs: Inputs) -> Iterator[str]:
    raw = at(inputs, "encryptionConfig.provider.keyArn")
    if not (inputs.get("encryptionConfigKeyArn") or raw):
        yield "Kubernetes secrets are not encrypted under a key of the account"


def _authentication(inputs: Inputs) -> Iterator[str]:
    mode = _setting(inputs, "authenticationMode", "accessConfig.authenticationMode")
    if mode != "API":
        yield "authenticationMode must be API: access entries, not the aws-auth ConfigMap"


def _support(inputs: Inputs) -> Iterator[str]:
    if at(inputs, "upgradePolicy.supportType") != "STANDARD":
        yield "upgradePolicy must be STANDARD: extended support costs six times as much"


def _admins(inputs: Inputs) -> Iterator[str]:
    if str(inputs.get("policyArn", "")).endswith("/AmazonEKSClusterAdminPolicy"):
        scope = at(inputs, "accessScope.type")
        if scope != "cluster":
            yield "cluster admin in a namespace's scope is a mistake: use AmazonEKSAdminPolicy"


CLUSTER_RULES = (
    ResourceRule(
        "cluster-endpoint",
        "CIS 5.4.1, 5.4.2",
        "The API is reached privately, and from named networks at most.",
        _EITHER,
        _endpoint,
    ),
    ResourceRule(
        "cluster-logs", "CIS 2.1.1", "All five control-plane logs are kept.", _EITHER, _logs
    ),
    ResourceRule(
        "cluster-secrets-encrypted",
        "CIS 5.3.1",
        "Kubernetes secrets are encrypted under a customer's key.",
        _EITHER,
        _secrets,
    ),
    ResourceRule(
        "cluster-authentication",
        "CIS 4.1.7, 5.5.1",
        "Who may enter is said by access entries alone.",
        _EITHER,
        _authentication,
    ),
    ResourceRule(
        "cluster-support",
        "EKS best practices: cluster upgrades",
        "Standard support.",
        _EITHER,
        _support,
    ),
    ResourceRule(
        "cluster-admin-scope",
        "EKS best practices: identity and access",
        "Cluster admin is said to be one.",
        ("aws:eks/accessPolicyAssociation:AccessPolicyAssociation",),
        _admins,
    ),
)
