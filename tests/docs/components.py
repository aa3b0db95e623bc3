"""What each Pulumi component takes, makes and hands on, read from its class and from recorded programs."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pulumi

if __package__:
    from .pages import DOCS
    from .recordings import made, parents
else:  # as tests/docs/generated.py runs it
    from pages import DOCS  # pyright: ignore[reportMissingImports]
    from recordings import made, parents  # pyright: ignore[reportMissingImports]

_PACKAGES = ("cluster", "serving", "monitoring", "load")
_NOT_INPUTS = ("self", "opts", "name")
# What one name means everywhere; a class that says it itself, in a string below it, is believed first.
_COMMON = {
    "after": "What must be there first.",
    "all": "By part.",
    "apart": "Whether a pool reads prompts and writes answers in separate workers.",
    "base_url": "Where clients send requests: `http(s)://.../v1`.",
    "bucket": "Of the weights.",
    "budget_usd_per_month": "What the stack may cost; alerts watch the pace.",
    "checkout": "Where the repository is in the image.",
    "cluster_name": "Of the EKS cluster.",
    "eks": "The control plane.",
    "email": "Who hears of it; nobody without.",
    "ends": "When EC2 takes the block back.",
    "engine_tag": "Of the engine's image.",
    "engines": "Whether any pool runs on GPUs of the stack.",
    "gateway_namespace": "Whose pods may call the models.",
    "gpu_metrics": "Fields that DCGM's exporter exports.",
    "hosted_port": "Of the models that somebody else runs, where the gateway leads to any.",
    "hub_token": "For gated models; without one only open models are imported.",
    "image": "Reference of a container image.",
    "key": "That encrypts it.",
    "keys": "By tenant.",
    "kubeconfig": "When the machine's own is not to be used.",
    "models": "What it serves.",
    "name": "Of the cluster.",
    "namespace": "Where it lives.",
    "namespaces": "What must be there first.",
    "network": "Subnets and security groups.",
    "node_cache": "Whether LMCache is once a node.",
    "node_cache_port": "Of LMCache, where it is once a node.",
    "node_group": "With its launch template.",
    "node_selector": "Labels of the nodes that it may run on.",
    "own_redis": "Whether the stack has a Redis of its own.",
    "part": "Prefill or decode, in a pool that does them apart.",
    "plan": "All that was [decided](../plan.md).",
    "platform": "What workloads need to know of it.",
    "provider": "By which Kubernetes objects are made.",
    "ready": "What must be there first.",
    "redis": "Of the stack, or one that exists.",
    "redis_endpoint": "Port of a Redis that exists, where it is used.",
    "region": "Of AWS.",
    "role": "What they may do in AWS.",
    "root": "The checkout.",
    "stack": "The stack's name: the beginning of every other.",
    "target": "The cluster, as [workloads](serving.md) see it.",
    "tier": "Whose traffic it sends.",
    "token": "For gated models.",
    "tolerations": "Taints of nodes that it may run on.",
    "topic": "Where the message is sent.",
    "usd_per_month": "What may be spent.",
    "user": "Pods that get the role.",
    "users": "The namespace of pods that may reach it.",
    "values_override": "Merged over the chart's values, last.",
    "version": "Of Kubernetes.",
    "versions": "The release's, by add-on.",
    "wanted": "Settings by add-on.",
    "workers": "Pods that send.",
    "zones": "Availability zones.",
}


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


def page_of(name: str) -> Path:
    """docs/components/model-pool.md of ModelPool."""
    return DOCS / "components" / (re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower() + ".md")


# --- The generated part of a page --------------------------------------------------------------------


def described(name: str) -> str:
    """What one component is, creates, takes and hands on."""
    component = components()[name]
    token = token_of(component)
    text = f"{_prose(component)}\n\n`{component.__module__}.{name}`, in Pulumi `{token}`"
    inside = [_link(parent) for parent in sorted(parents(token))]
    text += f", inside {' or '.join(inside)}.\n" if inside else ".\n"
    text += "\n## Creates\n\n" + _creates(token)
    text += "\n## Inputs\n\n" + _table("input", _with_words(inputs(component), component))
    if outputs := list(_documented(component)):
        text += "\n## Outputs\n\n" + _table("output", _with_words(outputs, component))
    return text


def listed(_: str) -> str:
    """Every component with its page, in the order of the packages."""
    rows = []
    for name, component in components().items():
        text = _prose(component)
        first = text.partition(". ")[0].rstrip(".") + "."
        package = component.__module__.split(".")[1]
        rows.append(f"| [{name}]({page_of(name).name}) | {package} | {_cell(first)} |\n")
    return "| component | package | what it is |\n| --- | --- | --- |\n" + "".join(rows)


def _creates(token: str) -> str:
    """One row a type, one column a program that has the component: how many of each."""
    columns = made(token)
    if not columns:
        return "No preset has one.\n"
    head = ["resource", *columns]
    rows = [["components of this kind", *_counts(columns, (token, False))]]
    for kind, protected in sorted({key for counted in columns.values() for key in counted}):
        if kind != token:
            title = f"{_link(kind)}, protected" if protected else _link(kind)
            rows.append([title, *_counts(columns, (kind, protected))])
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])


def _counts(columns: dict[str, Counter[tuple[str, bool]]], key: tuple[str, bool]) -> list[str]:
    return [str(counted[key] or "-") for counted in columns.values()]


def _link(kind: str) -> str:
    """A component's page, or the short name of a provider's type."""
    for name, component in components().items():
        if token_of(component) == kind:
            return f"[{name}]({page_of(name).name})"
    return f"`{kind.removeprefix('kubernetes:')}`"


def _table(what: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| {what} | type | |\n| --- | --- | --- |\n"]
    lines += [f"| `{name}` | `{_kind(kind)}` | {_cell(text)} |\n" for name, kind, text in rows]
    return "".join(lines)


def _kind(text: str) -> str:
    """A type in a table's code: a bar would end the cell, and a backslash before it would be shown."""
    return text.replace("|", "or")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- What a class says of itself ---------------------------------------------------------------------


@cache
def token_of(component: type) -> str:
    """The type that it registers under: the first string of its `super().__init__` call."""
    for node in ast.walk(ast.parse(_source(component))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            first = node.args[0] if node.args else None
            if node.func.attr == "__init__" and isinstance(first, ast.Constant):
                return str(first.value)
    raise AssertionError(f"{component.__name__} registers no type")


def _with_words(
    rows: Iterable[tuple[str, str, str]], component: type
) -> list[tuple[str, str, str]]:
    """Each row with what it means: in its own words, its name's, or its type's first sentence."""
    module = sys.modules[component.__module__]
    return [
        (name, kind, text or _COMMON.get(name) or _meaning(kind, module))
        for name, kind, text in rows
    ]


def _meaning(kind: str, module: Any) -> str:
    for word in re.findall(r"\w+", kind):
        thing = getattr(module, word, None)
        if inspect.isclass(thing) and thing.__module__.startswith("freehold."):
            text = _prose(thing)
            # A dataclass without a docstring of its own shows its signature.
            return "" if text.startswith(f"{word}(") else text.partition(". ")[0].rstrip(".") + "."
    return ""


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
            yield name, kind, ""


def _documented(owner: Any) -> Iterator[tuple[str, str, str]]:
    """Annotated names of a class body, with the string that follows each."""
    body = ast.parse(_source(owner)).body[0].body  # type: ignore[attr-defined]
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            if not node.target.id.startswith("_"):
                yield node.target.id, ast.unparse(node.annotation), text


def _prose(owner: type) -> str:
    return " ".join((inspect.getdoc(owner) or "").split())


def _source(owner: type) -> str:
    return inspect.cleandoc("\n" + inspect.getsource(owner))
