"""The recording monitor: Pulumi's own mock monitor, which also keeps every option.

`set_mocks` alone hides parents, protection, dependencies and deletion order; the monitor's request
has them all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import json_format
from pulumi.runtime import mocks, rpc
from pulumi.runtime.config import set_all_config
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import SETTINGS, configure, set_root_resource
from pulumi.runtime.stack import run_in_stack
from pulumi.runtime.sync_await import _ensure_event_loop, _sync_await

from . import placeholders
from .resource import STACK_TYPE, Recording, Resource

PROJECT = "freehold"
_SECRET_MARK = {rpc._special_sig_key: rpc._special_secret_sig}
_DYNAMIC = "pulumi-python:dynamic"
_CLUSTER = "eks:index:Cluster"
_CONTROL_PLANE = "aws:eks/cluster:Cluster"


def record(
    program: Callable[[], None],
    *,
    stack: str,
    known: bool = True,
    config: Mapping[str, str] | None = None,
    secret_keys: tuple[str, ...] = (),
) -> Recording:
    """Run a program and keep what it registers.

    `known=False` is a first preview: whatever a provider would make up is unknown, so code that
    reads it outside `apply` fails here as it would there. Any exception of the program is raised.
    """
    monitor = _Monitor(known)
    set_all_config(dict(config or {}), list(secret_keys))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    _configure(monitor, stack, preview=not known)
    try:
        loop.run_until_complete(run_in_stack(program))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        set_all_config({}, [])
    return monitor.recording()


def _configure(monitor: _Monitor, stack: str, *, preview: bool) -> None:
    """What `pulumi.runtime.set_mocks` does, without the second root resource that it makes."""
    logging.getLogger("grpc").setLevel(logging.ERROR)
    features = monitor.GetDeploymentInfo(None).supportedFeatures
    settings = mocks.MockSettings(
        monitor=monitor,
        monitor_features=set(features),
        engine=mocks.MockEngine(None),
        project=PROJECT,
        stack=stack,
        dry_run=preview,
        organization=None,
        callbacks=None,
    )
    configure(settings)
    # Nothing of an earlier run of this process may reach this one.
    current: Any = SETTINGS
    current.rpc_manager.clear()
    current.outputs.clear()
    set_root_resource(None)  # pyright: ignore[reportArgumentType]


class _NoMocks(mocks.Mocks):
    """The monitor below answers everything itself."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict]:
        raise NotImplementedError

    def call(self, args: mocks.MockCallArgs) -> Any:
        return placeholders.invoke_result(args.token)


class _Monitor(mocks.MockMonitor):
    def __init__(self, known: bool) -> None:
        super().__init__(_NoMocks())
        self._known = known
        self._recorded: list[Resource] = []
        self._exports: dict[str, Any] = {}
        self._secret_exports: frozenset[str] = frozenset()
        self._invokes: list[tuple[str, Mapping[str, Any]]] = []

    def recording(self) -> Recording:
        return Recording(
            # What does not wait for one another is registered in any order.
            resources=tuple(sorted(self._recorded, key=lambda resource: resource.urn)),
            exports=dict(self._exports),
            secret_exports=self._secret_exports,
            invokes=tuple(self._invokes),
        )

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == STACK_TYPE:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        _ensure_event_loop()
        inputs, secrets = _without_secrets(_as_dict(request.object))
        self._recorded.append(_resource(request, urn, inputs, secrets))
        id_, state = self._outcome(request, urn, inputs)
        self.resources[urn] = mocks.MockMonitor.ResourceRegistration(urn, id_, state)
        return resource_pb2.RegisterResourceResponse(
            urn=urn, id=id_, object=_sync_await(rpc.serialize_properties(state, {}))
        )

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if request.urn.split("::")[2] == STACK_TYPE:
            _ensure_event_loop()
            exports, secrets = _without_secrets(_as_dict(request.outputs))
            self._exports |= exports
            self._secret_exports |= frozenset(secrets)
        return super().RegisterResourceOutputs(request)

    def ReadResource(self, request: Any) -> Any:
        raise LookupError(
            f"the program reads an existing {request.type}: what is not the stack's own is named in "
            "the stack file, not looked up"
        )

    def Invoke(self, request: Any) -> Any:
        if request.tok != "pulumi:pulumi:getResource":
            self._invokes.append((request.tok, rpc.deserialize_properties(request.args)))
        return super().Invoke(request)

    def _outcome(
        self, request: Any, urn: str, inputs: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Id and outputs: inputs come back, the rest is made up (or unknown in a preview)."""
        if not request.custom and not request.remote:
            return "", {}
        if not self._known:
            return "", dict(inputs)
        state = placeholders.state(request.type, request.name, inputs)
        if request.type.startswith(_DYNAMIC):
            # Its Python code makes this up; the wire does not tell names of outputs.
            state.setdefault("value", f"<{request.name}.value>")
        if request.type == _CLUSTER:
            state |= self._control_plane(request, urn, inputs)
        return placeholders.resource_id(request.name), state

    def _control_plane(self, request: Any, urn: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """The one child of `eks.Cluster` that programs read, as a reference to it."""
        name = f"{request.name}-eksCluster"
        child = self.make_urn(urn, _CONTROL_PLANE, name)
        state = placeholders.state(_CONTROL_PLANE, request.name, {})
        state["name"] = inputs.get("name", state["name"])
        state["vpcConfig"] = {"clusterSecurityGroupId": f"<{request.name}.securityGroup>"}
        id_ = placeholders.resource_id(request.name)
        self.resources[child] = mocks.MockMonitor.ResourceRegistration(child, id_, state)
        reference = {
            rpc._special_sig_key: rpc._special_resource_sig,
            "urn": child,
            "id": id_,
            "packageVersion": "",
        }
        return {"eksCluster": reference}


def _as_dict(message: Any) -> dict[str, Any]:
    found: Any = json_format.MessageToDict(message)
    return found


def _without_secrets(properties: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Plain values, and the names of those that hold a secret anywhere inside."""
    secrets = tuple(sorted(name for name, value in properties.items() if _holds_secret(value)))
    return _plain(properties), secrets


def _is_secret(value: Any) -> bool:
    return isinstance(value, Mapping) and _SECRET_MARK.items() <= value.items()


def _holds_secret(value: Any) -> bool:
    if _is_secret(value):
        return True
    if isinstance(value, Mapping):
        return any(map(_holds_secret, value.values()))
    return isinstance(value, list) and any(map(_holds_secret, value))


def _plain(value: Any) -> Any:
    if _is_secret(value):
        return _plain(value["value"])
    if isinstance(value, Mapping) and rpc._special_sig_key in value and "urn" in value:
        return value["urn"]  # another resource, handed over whole
    if isinstance(value, Mapping):
        # On the wire keys come in any order.
        return {key: _plain(value[key]) for key in sorted(value)}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _resource(request: Any, urn: str, inputs: dict[str, Any], secrets: tuple[str, ...]) -> Resource:
    return Resource(
        type=request.type,
        name=request.name,
        urn=urn,
        parent=request.parent,
        inputs=inputs,
        custom=request.custom,
        remote=request.remote,
        protect=request.protect,
        retain_on_delete=request.retainOnDelete,
        dependencies=tuple(sorted(request.dependencies)),
        deleted_with=request.deletedWith,
        provider=request.provider,
        ignore_changes=tuple(request.ignoreChanges),
        replace_on_changes=tuple(request.replaceOnChanges),
        aliases=tuple(alias.urn or alias.spec.name for alias in request.aliases),
        secrets=secrets,
    )
