"""Runs a serving program without an engine and keeps every object that it registers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime import Mocks, set_mocks
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs
from pulumi.runtime.stack import run_pulumi_func

_SECRET = "4dabf18193072939515e22adb298388d"


@dataclass(frozen=True)
class Seen:
    """One registered resource."""

    type: str
    name: str
    inputs: dict[str, Any]
    custom: bool


@dataclass
class Recorder(Mocks):
    seen: list[Seen] = field(default_factory=list)

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.seen.append(Seen(args.typ, args.name, dict(args.inputs), bool(args.custom)))
        state = dict(args.inputs)
        if "GeneratedSecret" in args.typ:
            state["value"] = f"{args.inputs.get('prefix', '')}made-up-for-{args.name}"
        if args.typ == "kubernetes:core/v1:Service":
            state["status"] = {"loadBalancer": {"ingress": [{"hostname": "door.example"}]}}
        return f"{args.name}-id", state

    def call(self, args: MockCallArgs) -> Any:
        raise AssertionError(f"serving calls nothing: {args.token}")


@dataclass
class Program:
    """What a program registered, and the Kubernetes objects among it."""

    seen: list[Seen]
    result: Any = None

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [
            plain(seen.inputs)
            for seen in self.seen
            if seen.type.startswith("kubernetes:") and "kind" in seen.inputs
        ]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = (
            item
            for item in self.objects
            if item["kind"] == kind and item["metadata"]["name"] == name
        )
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [item for item in self.objects if item["kind"] == kind]


def plain(value: Any) -> Any:
    """Without the marks that Pulumi puts on secrets; whole numbers as such."""
    if isinstance(value, dict):
        if _SECRET in value:
            return plain(value["value"])
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def record(program: Callable[[], Any], *, preview: bool = False) -> Program:
    """`preview` makes everything unknown that only the cloud can tell."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    recorder = Recorder()
    set_mocks(recorder, project="freehold", stack="test", preview=preview)
    done = Program(recorder.seen)

    def run() -> None:
        done.result = program()

    loop.run_until_complete(run_pulumi_func(run))
    loop.close()
    return done


def value_of(output: pulumi.Output[Any]) -> Any:
    """An output's value, once its program has run."""
    return asyncio.new_event_loop().run_until_complete(output.future())
