"""A provider of custom resources that creates nothing: it checks, compares, echoes and writes down.

Inputs are checked against the installed SDK's classes (freehold.recording.sdk); outputs are the inputs and
readable stand-ins for what a cloud makes up. Every change goes to a log, one JSON line each, so that a test
can read in which order things came and went.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty  # pyright: ignore[reportAttributeAccessIssue]
from google.protobuf.struct_pb2 import Struct  # pyright: ignore[reportAttributeAccessIssue]
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from freehold.recording import placeholders, sdk

from .changes import changed, replacing

LOG = "STAND_IN_LOG"
"""Environment variable: the file to write to."""
_CLUSTER = "aws:eks/cluster:Cluster"
_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
_OFFERINGS = "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings"
_MUTABLE = ("enableConfigMapMutable", "enableSecretMutable")


class StandIn(provider_pb2_grpc.ResourceProviderServicer):
    """One package's provider: `aws` or `kubernetes`."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._settings: dict[str, Any] = {}

    # --- What the engine asks of the provider itself

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=importlib.metadata.version(f"pulumi-{self._package}"))

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return _check(f"pulumi:providers:{self._package}", request)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        paths = [*changed(_plain(request.old_inputs), _plain(request.news))]
        return _diff(paths, [path for path in paths if path == "clusterIdentifier"])

    def Configure(self, request: Any, context: Any) -> Any:
        self._settings = _plain(request.args)
        # Secrets stay with the engine, which marks what comes back by name.
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Invoke(self, request: Any, context: Any) -> Any:
        """Every machine is sold in the region's zones a to c."""
        assert request.tok == _OFFERINGS, request.tok
        zones = [f"{self._settings['region']}{letter}" for letter in "abc"]
        answer = {"id": "offerings", "locations": zones, **_plain(request.args)}
        return provider_pb2.InvokeResponse(**{"return": _struct(answer)})

    def Cancel(self, request: Any, context: Any) -> Any:
        return Empty()

    # --- What it asks of one resource

    def Check(self, request: Any, context: Any) -> Any:
        return _check(_type(request), request)

    def Diff(self, request: Any, context: Any) -> Any:
        type_, old, new = _type(request), _plain(request.old_inputs), _plain(request.news)
        paths = [*changed(old, new)]
        data_may_change = all(self._settings.get(name) in (True, "true") for name in _MUTABLE)
        replaces = replacing(type_, paths, data_may_change=data_may_change)
        # Two objects of one name cannot stand side by side.
        same_name = self._package == "kubernetes" and "metadata.name" not in replaces
        return _diff(paths, replaces, delete_first=bool(replaces) and same_name)

    def Create(self, request: Any, context: Any) -> Any:
        type_, inputs = _type(request), _plain(request.properties)
        if request.preview:
            unknown = dict.fromkeys(sdk.output_types(type_), sdk.UNKNOWN)
            return provider_pb2.CreateResponse(properties=_struct(unknown | inputs))
        id_ = f"{request.urn.split('::')[3]}-{secrets.token_hex(3)}"
        _write("create", request, id_)
        state = placeholders.state(type_, id_, inputs)
        return provider_pb2.CreateResponse(id=id_, properties=_struct(state))

    def Read(self, request: Any, context: Any) -> Any:
        return provider_pb2.ReadResponse(
            id=request.id, properties=request.properties, inputs=request.inputs
        )

    def Update(self, request: Any, context: Any) -> Any:
        old, new = _plain(request.old_inputs), _plain(request.news)
        state = {k: v for k, v in _plain(request.olds).items() if k not in old} | new
        if _type(request) == _TEMPLATE:
            state["latestVersion"] = sdk.UNKNOWN if request.preview else state["latestVersion"] + 1
        if not request.preview:
            _write("update", request, request.id, [*changed(old, new)])
        return provider_pb2.UpdateResponse(properties=_struct(state))

    def Delete(self, request: Any, context: Any) -> Any:
        if _type(request) == _CLUSTER and _plain(request.properties).get("deletionProtection"):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "deletion protection is enabled")
        _write("delete", request, request.id)
        return Empty()


def _check(type_: str, request: Any) -> Any:
    given = _plain(request.news)
    given.pop("version", None)  # of the SDK: the engine's own, beside a provider's settings
    problems = sdk.problems(type_, given)
    failures = [provider_pb2.CheckFailure(reason=problem) for problem in problems]
    return provider_pb2.CheckResponse(inputs=request.news, failures=failures)


def _diff(paths: list[str], replaces: list[str], *, delete_first: bool = False) -> Any:
    answer = provider_pb2.DiffResponse
    return answer(
        changes=answer.DIFF_SOME if paths else answer.DIFF_NONE,
        diffs=paths,
        replaces=replaces,
        deleteBeforeReplace=delete_first,
    )


def _write(call: str, request: Any, id_: str, paths: list[str] | None = None) -> None:
    _, _, _, name = request.urn.split("::")
    line = {"call": call, "type": _type(request), "name": name, "id": id_, "paths": paths or []}
    with open(os.environ[LOG], "a") as log:
        log.write(json.dumps(line) + "\n")


def _type(request: Any) -> str:
    """The last of the types in a URN: those of its parents stand before it."""
    return request.urn.split("::")[2].rpartition("$")[2]


def _plain(message: Any) -> dict[str, Any]:
    found: Any = json_format.MessageToDict(message)
    return found


def _struct(values: dict[str, Any]) -> Any:
    return json_format.ParseDict(values, Struct())
