"""What the docs name exists: commands, options, make targets, keys of a stack file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel

from freehold.cli.main import COMMANDS, cli
from freehold.config import Stack, parse_stack
from freehold.config.base import Model
from freehold.config.inheritance import merge
from freehold.config.loader import KEY, load_tree

from .pages import ROOT, Block, blocks, name_of, pages

# A command in a shell block or between backticks, up to the end of what it says.
_COMMAND = re.compile(r"(?:^|[\s(`/])freehold (?P<rest>[a-z][^`\n#|&;>]*)")
_MAKE = re.compile(r"(?:^|[`\s(])make (?P<target>[a-z][a-z0-9-]*)")
_SHELL = ("bash", "sh", "console", "")
_ALWAYS = {"-h", "--help", "--version"}


def said(page: Path) -> Iterator[str]:
    """Lines of shell blocks, continued ones joined, and what stands between backticks."""
    text = page.read_text(encoding="utf-8")
    for block in blocks():
        if block.page == name_of(page) and block.language in _SHELL:
            yield from block.text.replace("\\\n", " ").splitlines()
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def options(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command
    return {
        text
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for text in (*parameter.opts, *parameter.secondary_opts)
    } | _ALWAYS


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    wrong = []
    for line in said(page):
        flat = re.sub(r"\$\([^()]*\)", "VALUE", line)
        for found in _COMMAND.finditer(f" {flat}"):
            name, *words = found["rest"].split()
            if name not in COMMANDS:
                wrong.append(f"freehold {name}")
                continue
            flags = {re.split(r"[=\]]", word)[0] for word in words if word.startswith("--")}
            wrong += [f"freehold {name} {flag}" for flag in sorted(flags - options(name))]
    assert wrong == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {found["target"] for line in said(page) for found in _MAKE.finditer(line)}
    assert named - targets == set()


# --- Stack files -------------------------------------------------------------------------------------


def yaml_blocks() -> list[Block]:
    other = ("not a stack file", "fork: append")
    return [one for one in blocks() if one.language == "yaml" and not one.mark.startswith(other)]


@pytest.mark.parametrize("block", yaml_blocks(), ids=lambda block: block.where)
def test_keys_of_stack_files_exist(block: Block) -> None:
    """A whole file is loaded; of a part, the keys must lead to a place in the tree."""
    tree = yaml.safe_load(block.text)
    if isinstance(tree, dict) and isinstance(tree.get("config"), dict) and KEY in tree["config"]:
        stack = tree["config"][KEY]
        if "extends" in stack:
            stack = merge(load_tree(stack["extends"], ROOT)[0], stack)
        parse_stack(stack, block.where)
        return
    part = tree[0] if isinstance(tree, list) else tree
    homes = [model for model in config_models() if fits(part, model)]
    assert homes, f"{block.where}: {list(part)} are keys of no part of a stack file"


def config_models() -> list[type[BaseModel]]:
    """Stack, and every model below it."""
    found: list[type[BaseModel]] = []

    def walk(model: type[BaseModel]) -> None:
        if model not in found:
            found.append(model)
            for field in model.model_fields.values():
                for inner in models_in(field.annotation):
                    walk(inner)

    walk(Stack)
    return found


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from models_in(part)


def fits(value: Any, model: type[BaseModel]) -> bool:
    """Whether every key of a map, and of the maps below, is one of the model's."""
    if not isinstance(value, dict):
        return True
    for key, inner in value.items():
        if key == "remove":
            continue
        if key not in model.model_fields:
            return False
        inner_models = list(models_in(model.model_fields[key].annotation))
        parts = inner if isinstance(inner, list) else [inner]
        if inner_models and not all(any(fits(part, one) for one in inner_models) for part in parts):
            return False
    return True


_DOTTED = re.compile(r"^([a-z_]+(?:\[\])?(?:\.[a-z_]+(?:\[\])?)+)(?::.*)?$")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_dotted_keys_exist(page: Path) -> None:
    """`engine.memory_share`, `gateway.keys[].tenant`: of what starts like a key, all of it is one."""
    wrong = []
    for inline in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text(encoding="utf-8")):
        found = _DOTTED.match(inline)
        if not found:
            continue
        parts = found[1].replace("[]", "").split(".")
        homes = [model for model in config_models() if parts[0] in model.model_fields]
        # `openai.com` and file names begin with no key; a key without maps below ends here.
        homes = [m for m in homes if list(models_in(m.model_fields[parts[0]].annotation))]
        if homes and parts[-1] not in _SUFFIXES and not any(leads(parts, m) for m in homes):
            wrong.append(inline)
    assert wrong == []


_SUFFIXES = {"yaml", "py", "md", "json", "csv", "txt"}


def leads(parts: list[str], model: type[BaseModel]) -> bool:
    if parts[0] not in model.model_fields:
        return False
    if len(parts) == 1:
        return True
    inner = list(models_in(model.model_fields[parts[0]].annotation))
    return any(leads(parts[1:], one) for one in inner)
