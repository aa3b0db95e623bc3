"""`pulumi up -s local`: the laptop's runtime as one resource, so that the real engine runs the real
program with no cloud."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from freehold.config import FreeholdError, load_stack


class _Runtime(ResourceProvider):
    """Brings the stack's processes up, changes what differs, and stops them.

    Pulumi keeps a copy of this class in its state, so what it needs is imported when it runs.
    """

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(id_=f"{props['root']}:{props['stack']}", outs=_up(props))

    def diff(self, _id: str, old: dict[str, Any], new: dict[str, Any]) -> DiffResult:
        moved = [key for key in ("root", "stack") if old.get(key) != new.get(key)]
        changed = bool(moved) or any(old.get(key) != new.get(key) for key in ("plan", "settings"))
        return DiffResult(changes=changed, replaces=moved, delete_before_replace=True)

    def update(self, _id: str, old: dict[str, Any], new: dict[str, Any]) -> UpdateResult:
        return UpdateResult(outs=_up(new))

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        from freehold.local import runtime
        from freehold.local.home import StackHome

        runtime.down(StackHome.of(Path(props["root"]), props["stack"]).folder)


def _up(props: dict[str, Any]) -> dict[str, Any]:
    from freehold.config.target import LocalTarget
    from freehold.local.bring_up import bring_up, bring_up_simulated
    from freehold.local.home import StackHome
    from freehold.planning.plan import make_plan

    root, stack = Path(props["root"]), str(props["stack"])
    plan = make_plan(stack, load_stack(stack, root))
    simulated = isinstance(plan.target, LocalTarget) and plan.target.engine == "simulated"
    start = bring_up_simulated if simulated else bring_up
    try:
        start(plan, StackHome.of(root, stack), pulumi.log.info)
    except FreeholdError:
        sys.tracebacklimit = 0  # Pulumi prints the traceback of whatever a provider raises
        raise
    return props


class LaptopStack(pulumi.ComponentResource):
    """Parent of the one resource."""

    def __init__(self, stack: str, root: Path, plan: dict[str, Any]) -> None:
        super().__init__("freehold:local:LaptopStack", stack)
        Laptop("processes", stack, root, plan, pulumi.ResourceOptions(parent=self))
        self.register_outputs({})


class Laptop(Resource):
    """Every process of a stack. `plan` is for people to read; that and the stack file's settings decide
    whether anything is different."""

    def __init__(
        self,
        name: str,
        stack: str,
        root: Path,
        plan: dict[str, Any],
        opts: pulumi.ResourceOptions,
    ) -> None:
        settings = load_stack(stack, root).model_dump_json()
        wanted = {"stack": stack, "root": str(root), "plan": plan, "settings": settings}
        super().__init__(_Runtime(), name, wanted, opts)
