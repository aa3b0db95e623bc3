"""`freehold render`: everything that a stack would create, as files, without a cloud."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yaml

from freehold.config import FreeholdError
from freehold.config.loader import load_stack, stack_file
from freehold.config.target import ExistingCluster

from .checkout import checkout_root
from .render_digests import by_digest, release_lines, resolve

_HELM = "kubernetes:helm.sh/v3:Release"


@click.command("render")
@click.argument("stack")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, metavar="DIR"
)
@click.option("--bundle", is_flag=True, help="Also list what an air gap must carry over.")
@click.option(
    "--resolve-digests",
    is_flag=True,
    help="Ask the images' registries what their tags name, and write images by digest.",
)
def command(stack: str, out: Path, bundle: bool, resolve_digests: bool) -> None:
    """Write everything that STACK would create into DIR. Nothing is created, and no network is used but
    for --resolve-digests.

    DIR/kubernetes/*.yaml holds every object, DIR/helm/*.yaml every chart with its values,
    DIR/resources.json every resource with its options. What only the cloud knows is a placeholder in
    angle brackets.
    """
    from freehold.recording.program import record_program

    root = checkout_root()
    stack_file(stack, root)
    with _no_collector():
        recording = record_program(root, stack)
    objects = {
        _file_name(r.inputs): r.inputs for r in recording.resources if _is_object(r.type, r.inputs)
    }
    charts = {r.inputs["name"]: _chart(r.inputs) for r in recording.of_type(_HELM)}
    mirror = _mirror(stack, root)
    digests = resolve([*objects.values()], mirror=mirror) if resolve_digests else {}
    objects = {name: by_digest(item, digests) for name, item in objects.items()}
    try:
        _write_all(out / "kubernetes", objects)
        _write_all(out / "helm", charts)
        resources = [by_digest(_resource(resource), digests) for resource in recording.resources]
        (out / "resources.json").write_text(json.dumps(resources, indent=2) + "\n")
        if bundle:
            from .bundle import write_bundle

            write_bundle(out / "bundle", stack, root, objects, charts, mirror)
    except OSError as error:
        raise FreeholdError(f"--out {out}: {error.strerror or error}") from None
    click.echo(
        f"{len(recording.resources)} resources, {len(objects)} Kubernetes objects and "
        f"{len(charts)} charts of stack {stack} are in {out}"
    )
    if lines := release_lines(digests, mirror=mirror):
        click.echo("To keep these digests, put this into platform/freehold/catalog/release.yaml:\n")
        click.echo("\n".join(["images:", *lines]))


def _mirror(stack: str, root: Path) -> str | None:
    target = load_stack(stack, root).target
    return target.registry_mirror if isinstance(target, ExistingCluster) else None


@contextmanager
def _no_collector() -> Iterator[None]:
    """The providers' SDKs are thousands of classes that stay: looking for garbage among them costs a
    sixth of the whole command (3.7 s of CPU without, 4.4 with; 2 cores, 2026-11-24)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _is_object(type_: str, inputs: Any) -> bool:
    return type_.startswith("kubernetes:") and "kind" in inputs and "apiVersion" in inputs


def _file_name(inputs: Any) -> str:
    metadata = inputs["metadata"]
    parts = [metadata.get("namespace", ""), inputs["kind"], metadata["name"]]
    return "-".join(part for part in parts if part).lower()


def _chart(inputs: Any) -> dict[str, Any]:
    mirror, _, name = inputs["chart"].rpartition("/")
    return {
        "chart": name,
        "repository": mirror or inputs["repositoryOpts"]["repo"],
        "version": inputs["version"],
        "namespace": inputs["namespace"],
        "values": inputs.get("values", {}),
    }


def _resource(resource: Any) -> dict[str, Any]:
    return {
        "type": resource.type,
        "name": resource.name,
        "urn": resource.urn,
        "parent": resource.parent,
        "component": not resource.custom,
        "inputs": _whole(resource.inputs),
        "options": resource.option_summary(),
    }


def _write_all(folder: Path, documents: dict[str, Any]) -> None:
    """One file each; files of an earlier rendering do not stay behind."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        old.unlink()
    for name, document in documents.items():
        text = yaml.dump(_whole(document), Dumper=_DUMPER, sort_keys=False, width=100)
        (folder / f"{name}.yaml").write_text(text)


# The C writer when PyYAML has it: several times as fast, same result.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _whole(value: Any) -> Any:
    """Numbers as people write them: Pulumi sends every number as a double."""
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
