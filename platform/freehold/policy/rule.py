"""What a rule is: which control it stands for, what it looks at, and what it says is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Inputs = Mapping[str, Any]


class Seen(Protocol):
    """A resource, as the recorder and Pulumi's policy engine both show it."""

    @property
    def type(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Inputs: ...


@dataclass(frozen=True)
class ResourceRule:
    """Looks at one resource of some types at a time."""

    name: str
    stands_for: str
    """Control of the CIS EKS Benchmark 1.7.0 (numbers and titles as in kube-bench's cfg/eks-1.7.0, read
    2026-11-24), or chapter of the EKS best practices guide."""
    description: str
    types: tuple[str, ...]
    check: Callable[[Inputs], Iterable[str]]


@dataclass(frozen=True)
class StackRule:
    """Looks at all resources together."""

    name: str
    stands_for: str
    description: str
    check: Callable[[Sequence[Seen]], Iterable[str]]


Rule = ResourceRule | StackRule


def violations(rules: Iterable[Rule], resources: Sequence[Seen]) -> list[str]:
    """Everything that some rule finds: `rule: resource: what is wrong`."""
    return [problem for rule in rules for problem in _violations(rule, resources)]


def _violations(rule: Rule, resources: Sequence[Seen]) -> Iterator[str]:
    if isinstance(rule, StackRule):
        yield from (f"{rule.name}: {problem}" for problem in rule.check(resources))
        return
    for resource in resources:
        if resource.type in rule.types:
            for problem in rule.check(resource.inputs):
                yield f"{rule.name}: {resource.type} {resource.name}: {problem}"


def at(inputs: Any, path: str, default: Any = None) -> Any:
    """A value by dotted path; the default where any part is missing."""
    for part in path.split("."):
        if not isinstance(inputs, Mapping) or part not in inputs:
            return default
        inputs = inputs[part]
    return inputs
