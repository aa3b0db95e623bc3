"""All rules, and the pack's form of them."""

from __future__ import annotations

from dataclasses import dataclass

from pulumi_policy import (
    EnforcementLevel,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from .aws_rules import AWS_RULES
from .cluster_rules import CLUSTER_RULES
from .kubernetes_rules import KUBERNETES_RULES
from .rule import Inputs, ResourceRule, Rule, StackRule

# pulumi-eks 4.4 (built on Pulumi's SDK 3.173) registers its component without its arguments, which that
# SDK sends from 3.202 on: the engine shows it empty, and the control plane below it whole.
_EXPANDED = "eks:index:Cluster"

RULES: tuple[Rule, ...] = (*CLUSTER_RULES, *AWS_RULES, *KUBERNETES_RULES)


@dataclass(frozen=True)
class _Shown:
    """A resource of the policy engine, in the form that rules read."""

    type: str
    name: str
    inputs: Inputs


def policies() -> list[ResourceValidationPolicy | StackValidationPolicy]:
    """One mandatory policy a rule."""
    return [
        _resource_policy(rule) if isinstance(rule, ResourceRule) else _stack_policy(rule)
        for rule in RULES
    ]


def _resource_policy(rule: ResourceRule) -> ResourceValidationPolicy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        expanded = args.resource_type == _EXPANDED and not args.props
        if args.resource_type in rule.types and not expanded:
            for problem in rule.check(args.props):
                report(problem, None)

    return ResourceValidationPolicy(
        name=rule.name,
        description=f"{rule.description} ({rule.stands_for})",
        enforcement_level=EnforcementLevel.MANDATORY,
        validate=validate,
    )


def _stack_policy(rule: StackRule) -> StackValidationPolicy:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        shown = [_Shown(r.resource_type, r.name, r.props) for r in args.resources]
        for problem in rule.check(shown):
            report(problem, None)

    return StackValidationPolicy(
        name=rule.name,
        description=f"{rule.description} ({rule.stands_for})",
        enforcement_level=EnforcementLevel.MANDATORY,
        validate=validate,
    )
