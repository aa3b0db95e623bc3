"""A small checkout whose stack file says something else than the repository's, for commands that read one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from freehold.config.inheritance import merge

ROOT = Path(__file__).parents[1]


def changed_checkout(folder: Path, stack: str, change: dict[str, Any]) -> Path:
    """In `folder`: the program and all stack files, with `change` laid over that of `stack`."""
    (folder / "platform").mkdir(parents=True)
    program = ROOT / "platform" / "__main__.py"
    (folder / "platform" / "__main__.py").write_text(program.read_text())
    for file in [ROOT / "Pulumi.yaml", *ROOT.glob("Pulumi.*.yaml")]:
        (folder / file.name).write_text(file.read_text())
    file = folder / f"Pulumi.{stack}.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["config"]["freehold:stack"] = merge(tree["config"]["freehold:stack"], change)
    file.write_text(yaml.safe_dump(tree))
    return folder
