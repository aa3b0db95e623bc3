"""docs/components/engine.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from freehold.config.engine import EngineOptions
from freehold.engine.arguments import FREE_WHEN_UNSET, TYPED
from freehold.engine.vllm_flags import flags

from .pinned import HOPPER_ANSWERS
from .wrong import WRONG

_PAGE = (Path(__file__).parents[2] / "docs/components/engine.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading, its lines joined so that wrapping does not matter."""
    found = re.search(
        rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", _PAGE, re.MULTILINE | re.DOTALL
    )
    assert found, title
    return found[1]


def test_the_table_has_every_option_with_its_argument() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`(--[\w-]+)`)? ?\|", section("Options"), re.MULTILINE)
    table = dict(rows)
    assert list(table) == list(EngineOptions.model_fields)
    assert {flag for flag in table.values() if flag} <= flags().keys()
    assert {option: TYPED[flag] for option, flag in table.items() if flag} == {
        option: option for option in table if option != "extra_args"
    }


def test_every_reason_to_refuse_alone_is_explained() -> None:
    text = section("What is refused, and why")
    explained = {
        " ".join(bullet.split()).partition(":")[0]
        for bullet in re.findall(r"^- (.*?)(?=^- |\Z)", text, re.MULTILINE | re.DOTALL)
    }
    assert explained == {wrong.alone for wrong in WRONG if wrong.alone}


def test_what_the_pretended_gpu_answers_is_listed() -> None:
    text = section("What only a GPU can check").split("So a combination")[0]
    assert set(re.findall(r"`(\w+)`", text)) - {"create_engine_config"} == HOPPER_ANSWERS


def test_arguments_that_are_free_while_unset_are_listed() -> None:
    listed = set(re.findall(r"`(--[\w-]+)`", section("extra_args: the way out")))
    assert listed == FREE_WHEN_UNSET
