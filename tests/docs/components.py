"""What each Pulumi component takes, makes and hands on, read from its class and from renderings."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pulumi

ROOT = Path(__file__).parents[2]
_PACKAGES = ("cluster", "serving", "monitoring", "load")
# Together they have every component that a preset has.
_STACKS = ("medium", "large", "onprem", "local")
_NOT_INPUTS = ("self", "opts", "name")


@cache
def components() -> dict[str, type[pulumi.ComponentResource]]:
    """Every component by its class name."""
    found: dict[str, type[pulumi.ComponentResource]] = {}
    for package in _PACKAGES:
        for module in _modules(f"freehold.{package}"):
            for name, thing in vars(module).items():
                mine = inspect.isclass(thing) and thing.__module__ == module.__name__
                if mine and issubclass(thing, pulumi.ComponentResource):
                    found[name] = thing
    return found


def _modules(package: str) -> Iterator[Any]:
    root = importlib.import_module(package)
    for info in pkgutil.iter_modules(root.__path__):
        source = Path(root.__path__[0]) / f"{info.name}.py"
        if source.exists() and "ComponentResource" in source.read_text():
            yield importlib.import_module(f"{package}.{info.name}")


def described(name: str) -> str:
    """The generated part of one component's section."""
    component = components()[name]
    lines = [" ".join(inspect.getdoc(component).split()), ""]  # type: ignore[union-attr]
    lines += [f"Creates: {_sentence(made().get(token_of(component), set()))}.", ""]
    lines += ["| input | type | |", "| --- | --- | --- |"]
    lines += [f"| `{n}` | `{kind}` | {text} |" for n, kind, text in inputs(component)]
    outputs = list(_documented(component))
    if outputs:
        lines += ["", "| output | type | |", "| --- | --- | --- |"]
        lines += [f"| `{n}` | `{kind}` | {text} |" for n, kind, text in outputs]
    return "\n".join(lines) + "\n"


def _sentence(types: set[str]) -> str:
    short = sorted({kind.split(":")[-1] if "/" in kind else kind for kind in types})
    return ", ".join(f"`{kind}`" for kind in short) or "nothing in the presets"


def token_of(component: type) -> str:
    """The type that it registers under: the first string of its `super().__init__` call."""
    for node in ast.walk(ast.parse(_source(component))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            first = node.args[0] if node.args else None
            if node.func.attr == "__init__" and isinstance(first, ast.Constant):
                return str(first.value)
    raise AssertionError(f"{component.__name__} registers no type")


def inputs(component: type) -> Iterator[tuple[str, str, str]]:
    """Parameters of the constructor; those of an Args class one by one."""
    module = sys.modules[component.__module__]
    for name, parameter in inspect.signature(component.__init__).parameters.items():
        kind = str(parameter.annotation)
        args = getattr(module, kind, None) if kind.endswith("Args") else None
        if name in _NOT_INPUTS:
            continue
        if args and dataclasses.is_dataclass(args):
            yield from _documented(args)
        else:
            yield name, _cell(kind), ""


def _documented(owner: Any) -> Iterator[tuple[str, str, str]]:
    """Annotated names of a class body, with the string that follows each."""
    body = ast.parse(_source(owner)).body[0].body  # type: ignore[attr-defined]
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            if not node.target.id.startswith("_"):
                yield node.target.id, _cell(ast.unparse(node.annotation)), _cell(text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _source(owner: type) -> str:
    return inspect.cleandoc("\n" + inspect.getsource(owner))


@cache
def made() -> dict[str, set[str]]:
    """Component type -> the types of its children, over the presets' renderings."""
    found: dict[str, set[str]] = {}
    for stack in _STACKS:
        for child in _rendered(stack):
            parent = str(child["parent"] or "").rpartition("::")[0].rpartition("$")[2]
            parent = parent.rpartition("::")[2]
            found.setdefault(parent, set()).add(child["type"])
    return found


def _rendered(stack: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("freehold")), "render", stack, "--out", folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads((Path(folder) / "resources.json").read_text())
