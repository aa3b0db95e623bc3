"""What one run of a program registered: resources with their options, and exports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

STACK_TYPE = "pulumi:pulumi:Stack"


@dataclass(frozen=True)
class Resource:
    """One registered resource. `inputs` are those of the wire: camelCase, numbers as floats."""

    type: str
    name: str
    urn: str
    parent: str
    """URN; the stack's for what stands at the top."""
    inputs: Mapping[str, Any]
    custom: bool
    """False: a component."""
    remote: bool
    """A component that a provider expands: its children are not seen here."""
    protect: bool
    retain_on_delete: bool
    dependencies: tuple[str, ...]
    """URNs, those of inputs and of `depends_on` together."""
    deleted_with: str
    """URN, or empty."""
    provider: str
    """URN and id of an explicit provider, or empty."""
    ignore_changes: tuple[str, ...]
    replace_on_changes: tuple[str, ...]
    aliases: tuple[str, ...]
    secrets: tuple[str, ...]
    """Inputs that are secret, whole or in part."""

    @property
    def is_component(self) -> bool:
        return not self.custom and not self.remote

    def option_summary(self) -> dict[str, Any]:
        """Options that differ from Pulumi's defaults."""
        options = {
            "protect": self.protect,
            "retainOnDelete": self.retain_on_delete,
            "dependsOn": list(self.dependencies),
            "deletedWith": self.deleted_with,
            "provider": self.provider,
            "ignoreChanges": list(self.ignore_changes),
            "replaceOnChanges": list(self.replace_on_changes),
            "aliases": list(self.aliases),
            "secrets": list(self.secrets),
        }
        return {key: value for key, value in options.items() if value}


@dataclass(frozen=True)
class Recording:
    """Everything that one run registered, by URN: the same program gives the same recording."""

    resources: tuple[Resource, ...]
    exports: Mapping[str, Any]
    secret_exports: frozenset[str]
    invokes: tuple[tuple[str, Mapping[str, Any]], ...]
    """Functions of providers that the program called: (token, arguments)."""

    def of_type(self, type_: str) -> list[Resource]:
        return [resource for resource in self.resources if resource.type == type_]

    def one(self, type_: str, name: str | None = None) -> Resource:
        """The only resource of this type (and name). Raises LookupError when there is not one."""
        found = [r for r in self.of_type(type_) if name is None or r.name == name]
        if len(found) != 1:
            names = ", ".join(r.name for r in self.of_type(type_)) or "none"
            raise LookupError(f"not one {type_} {name or ''}: there are {names}")
        return found[0]

    def by_urn(self) -> dict[str, Resource]:
        return {resource.urn: resource for resource in self.resources}

    def ancestors(self, resource: Resource) -> Iterator[Resource]:
        """Parents up to the stack, nearest first."""
        known = self.by_urn()
        while resource.parent in known:
            resource = known[resource.parent]
            yield resource
