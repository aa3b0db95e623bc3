"""The stack file: what is accepted, and that every mistake is named with its place and its mend."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.config import FreeholdError, load_stack, parse_stack

ROOT = Path(__file__).parents[2]
MINIMAL: dict[str, Any] = {
    "target": {"kind": "local"},
    "pools": [{"name": "chat", "role": "generate", "model": "tiny-chat"}],
}


def refusal(**changes: Any) -> str:
    """The message for the minimal stack with some keys replaced."""
    with pytest.raises(FreeholdError) as caught:
        parse_stack({**copy.deepcopy(MINIMAL), **changes}, "Pulumi.x.yaml")
    return str(caught.value)


def test_every_committed_stack_file_loads() -> None:
    files = sorted(ROOT.glob("Pulumi.*.yaml"))
    assert files
    for file in files:
        name = file.name.removeprefix("Pulumi.").removesuffix(".yaml")
        assert load_stack(name, ROOT).pools


def test_the_commented_second_chat_model_is_valid_once_uncommented() -> None:
    text = (ROOT / "Pulumi.local.yaml").read_text()
    lines = [
        line.replace("# ", "", 1) if line.startswith(("      # - name", "      #   ")) else line
        for line in text.splitlines()
    ]
    stack = parse_stack(yaml.safe_load("\n".join(lines))["config"]["freehold:stack"], "local")
    assert [pool.name for pool in stack.pools] == ["chat", "assistant", "embed", "rerank"]


def test_what_pulumi_keeps_beside_our_key_is_left_alone(tmp_path: Path) -> None:
    document = {
        "encryptionsalt": "v1:abc",
        "config": {"aws:region": "x", "freehold:stack": MINIMAL},
    }
    (tmp_path / "Pulumi.mine.yaml").write_text(yaml.safe_dump(document))
    assert load_stack("mine", tmp_path).pools[0].name == "chat"


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    pools = [{**MINIMAL["pools"][0], "replica": 2}]
    message = refusal(pools=pools)
    assert "pools[0].replica: unknown key" in message
    assert 'did you mean "replicas"' in message


def test_an_unknown_key_inside_a_union_member_is_refused_too() -> None:
    engine = {"speculation": {"method": "ngram", "num_speculative_token": 4}}
    message = refusal(pools=[{**MINIMAL["pools"][0], "engine": engine}])
    assert 'did you mean "num_speculative_tokens"' in message


def test_all_mistakes_are_told_at_once() -> None:
    pools = [{"name": "Chat", "role": "generat", "model": "tiny-chat", "replicas": 0}]
    message = refusal(pools=pools, gateway={"port": 80})
    assert "4 mistakes" in message
    for place in ("pools[0].name", "pools[0].role", "pools[0].replicas", "gateway.port"):
        assert place in message
    assert "(given: 0)" in message and "(given: 80)" in message


def test_a_missing_key_is_named() -> None:
    assert "pools[0].model: is required" in refusal(pools=[{"name": "chat", "role": "generate"}])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "chat"}, {"name": "chat"}),
        ({"name": "chat"}, {"name": "other", "aliases": ["chat"]}),
        (
            {"name": "chat", "engine": {"lora": [{"name": "law", "path": "./law"}]}},
            {"name": "law"},
        ),
    ],
)
def test_one_name_leads_to_one_place(first: dict[str, Any], second: dict[str, Any]) -> None:
    base = {"role": "generate", "model": "tiny-chat"}
    assert "must differ" in refusal(pools=[{**base, **first}, {**base, **second}])


def test_a_key_for_a_model_that_nobody_serves_is_refused() -> None:
    message = refusal(gateway={"keys": [{"tenant": "a", "models": ["gpt"]}]})
    assert 'allows the model "gpt"' in message and "served are: chat" in message


def test_an_unknown_stack_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.local.yaml").write_text("config: {}\n")
    with pytest.raises(FreeholdError, match=r'no stack "locla".*did you mean "local"'):
        load_stack("locla", tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("config: [", "not valid YAML"),
        ("config: {}\n", "has no key config -> freehold:stack"),
        ("- 1\n", "has no key config -> freehold:stack"),
    ],
)
def test_a_file_that_is_no_stack_file_is_one_message(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "Pulumi.bad.yaml").write_text(text)
    with pytest.raises(FreeholdError, match=words):
        load_stack("bad", tmp_path)
