"""The installed SDKs' own classes, as the schema of what a provider takes and gives.

No provider schema ships in the Python packages, but every resource has an `Args` class whose
annotations say names, nesting, types and (by default values) what is required. These are the names
of the wire: camelCase.
"""

from __future__ import annotations

import collections.abc
import enum
import importlib
import inspect
import json
from functools import cache
from typing import Any, Union, get_args, get_origin

import pulumi
from pulumi import _types
from pulumi.runtime.rpc import UNKNOWN as UNKNOWN

_PACKAGES = {"aws": "pulumi_aws", "eks": "pulumi_eks", "kubernetes": "pulumi_kubernetes"}
# Helm's own module has another name on the wire.
_MODULES = {"helm.sh/v3": "helm.v3", "helm.sh/v4": "helm.v4"}


@cache
def resource_class(token: str) -> type | None:
    """The class of a resource type such as `aws:eks/cluster:Cluster`; None when no SDK has it."""
    package, module, name = token.split(":")
    if package == "pulumi" and module == "providers":
        sdk, path = _PACKAGES.get(name), ""
        name = "Provider"
    else:
        sdk, path = _PACKAGES.get(package), _module_path(package, module)
    if sdk is None:
        return None
    try:
        found = importlib.import_module(f"{sdk}.{path}" if path else sdk)
    except ModuleNotFoundError:
        return None
    return getattr(found, name, None)


def _module_path(package: str, module: str) -> str:
    """`eks/cluster` -> `eks`; `apps/v1` -> `apps.v1`; `networking.k8s.io/v1` -> `networking.v1`."""
    if module.split("/")[0] == "index":
        return ""
    if package != "kubernetes":
        return module.split("/")[0]
    if module in _MODULES:
        return _MODULES[module]
    group, _, version = module.partition("/")
    return f"{group.removesuffix('.k8s.io').replace('.', '_')}.{version}"


@cache
def args_class(token: str) -> type | None:
    """The class of a resource's inputs."""
    found = resource_class(token)
    if found is None:
        return None
    module = inspect.getmodule(found)
    name = "ProviderArgs" if found.__name__ == "Provider" else f"{found.__name__}InitArgs"
    args = getattr(module, name, None) or getattr(module, f"{found.__name__}Args", None)
    return args if args is not None and _types.is_input_type(args) else None


@cache
def properties(args: type) -> dict[str, Any]:
    """Name on the wire -> type, of an `Args` class."""
    return dict(_types.input_type_types(args))


@cache
def required(args: type) -> frozenset[str]:
    """Names on the wire of what must be given."""
    names = _types.input_type_py_to_pulumi_names(args)
    parameters = inspect.signature(args.__init__).parameters.values()
    return frozenset(
        names[p.name]
        for p in parameters
        if p.name in names and p.default is inspect.Parameter.empty
    )


@cache
def output_types(token: str) -> dict[str, Any]:
    """Name on the wire -> type, of a resource's outputs."""
    found = resource_class(token)
    if found is None or not issubclass(found, pulumi.Resource):
        return {}
    return dict(_types.resource_types(found))


def problems(token: str, inputs: collections.abc.Mapping[str, Any]) -> list[str]:
    """What a provider's check would refuse: unknown names, missing ones, values of another shape.

    Custom resources of Kubernetes are in no SDK: they have none here.
    """
    args = args_class(token)
    if args is None:
        known = token.startswith("kubernetes:") or token.startswith("pulumi")
        return [] if known else [f"{token}: no installed SDK has it"]
    if token.startswith("pulumi:providers:"):
        types = properties(args)
        texts = {name for name, type_ in types.items() if str in _choices(type_)}
        inputs = {k: v if k in texts else _decoded(v) for k, v in inputs.items()}
    return [f"{token}: {problem}" for problem in _object_problems(args, inputs, "")]


def _decoded(value: Any) -> Any:
    """Settings of a provider travel as JSON inside strings, unless they are strings."""
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def _object_problems(
    args: type, value: collections.abc.Mapping[str, Any], where: str
) -> collections.abc.Iterator[str]:
    types = properties(args)
    for name in required(args) - value.keys():
        yield f"{_at(where, name)} is required"
    for name, inner in value.items():
        # The SDK adds this marker to every resource that a component provider makes.
        if name == "__internal":
            continue
        if name not in types:
            yield f"{_at(where, name)} is not known; there are {', '.join(sorted(types))}"
        else:
            yield from _value_problems(types[name], inner, _at(where, name))


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _value_problems(type_: Any, value: Any, where: str) -> collections.abc.Iterator[str]:
    choices = _choices(type_)
    if value is None or value == UNKNOWN or Any in choices or not choices:
        return
    found = [list(_one_type_problems(choice, value, where)) for choice in choices]
    if all(found):
        yield from min(found, key=len)


def _choices(type_: Any) -> list[Any]:
    """The types that a value may have: members of unions, less None, futures and outputs."""
    if get_origin(type_) is Union or isinstance(type_, type(int | str)):
        return [inner for part in get_args(type_) for inner in _choices(part)]
    if type_ is type(None) or get_origin(type_) in (collections.abc.Awaitable, pulumi.Output):
        return []
    return [type_]


def _one_type_problems(type_: Any, value: Any, where: str) -> collections.abc.Iterator[str]:
    origin = get_origin(type_)
    if origin is collections.abc.Sequence:
        if not isinstance(value, list | tuple):
            yield f"{where} must be a list"
            return
        for place, inner in enumerate(value):
            yield from _value_problems(get_args(type_)[0], inner, f"{where}[{place}]")
    elif origin is collections.abc.Mapping:
        if not isinstance(value, collections.abc.Mapping):
            yield f"{where} must be a map"
            return
        for key, inner in value.items():
            yield from _value_problems(get_args(type_)[1], inner, _at(where, str(key)))
    elif isinstance(type_, type) and _types.is_input_type(type_):
        if not isinstance(value, collections.abc.Mapping):
            yield f"{where} must be a map of {type_.__name__.removesuffix('Args')}"
            return
        yield from _object_problems(type_, value, where)
    elif isinstance(type_, type) and issubclass(type_, enum.Enum):
        allowed = [member.value for member in type_]
        if value not in allowed:
            yield f"{where} must be one of {', '.join(map(str, allowed))} (given: {value!r})"
    elif type_ in _SCALARS and (
        not isinstance(value, _SCALARS[type_]) or (type_ is not bool and isinstance(value, bool))
    ):
        yield f"{where} must be {type_.__name__} (given: {value!r})"


# What the wire has for each type; every number travels as a double.
_SCALARS: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int, float),
    float: (int, float),
}
