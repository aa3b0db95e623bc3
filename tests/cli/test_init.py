"""`freehold init`: files that the loader and the plan accept, and no chart value that goes missing."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from freehold.cli import plan as plan_command
from freehold.cli.init import command
from freehold.cli.init_answers import Answers
from freehold.cli.init_helm import Converted, convert_values
from freehold.cli.init_tasks import TASKS
from freehold.cli.init_values import carried_keys, dropped_keys, read_values
from freehold.config import FreeholdError, load_stack, parse_stack

ROOT = Path(__file__).parents[2]
CHARTS = Path(__file__).parent / "charts"
VALUES = sorted(CHARTS.glob("*.yaml"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the committed stack files, to work in."""
    for file in ROOT.glob("Pulumi.*.yaml"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(command, arguments, input=input, catch_exceptions=False)


def pools(folder: Path, name: str) -> list[dict[str, Any]]:
    tree = yaml.safe_load((folder / f"Pulumi.{name}.yaml").read_text())
    return tree["config"]["freehold:stack"]["pools"]


# --- Five answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["aws", "own"])
@pytest.mark.parametrize("task", list(TASKS))
def test_each_task_makes_a_file_that_plans(checkout: Path, task: str, where: str) -> None:
    gpu = ("--gpu", "H100", "--gpus", "8", "--machines", "2") if where == "own" else ()
    done = run("mine", "--task", task, "--where", where, *gpu)
    assert done.exit_code == 0
    assert "wrote Pulumi.mine.yaml" in done.output and "runs on" in done.output
    planned = CliRunner().invoke(plan_command.command, ["mine", "--json"], catch_exceptions=False)
    assert planned.exit_code == 0
    assert json.loads(planned.stdout)["pools"][0]["predicted"]


@pytest.mark.parametrize("task", list(TASKS))
def test_the_laptop_s_file_loads(checkout: Path, task: str) -> None:
    assert run("mine", "--task", task, "--where", "laptop").exit_code == 0
    assert load_stack("mine", checkout).target.kind == "local"


def test_a_model_takes_the_place_of_a_task(checkout: Path) -> None:
    run("mine", "--model", "qwen3-8b", "--context", "8192", "--users", "12", "--budget", "2000")
    stack = load_stack("mine", checkout)
    pool = stack.pools[0]
    assert (pool.model, pool.context) == ("qwen3-8b", 8192)
    assert pool.demand and pool.demand.users == 12
    assert stack.budget and stack.budget.usd_per_month == 2000


def test_a_model_that_embeds_makes_a_pool_that_embeds(checkout: Path) -> None:
    assert run("mine", "--model", "bge-m3").exit_code == 0
    assert [pool["role"] for pool in pools(checkout, "mine")] == ["embed"]


def test_every_number_of_the_file_has_a_comment(checkout: Path) -> None:
    run("mine", "--users", "30", "--budget", "3000")
    lines = (checkout / "Pulumi.mine.yaml").read_text().splitlines()
    bare = [line for line in lines if re.search(r": [0-9.]+$", line)]
    assert bare == []


def test_the_questions_are_asked_and_their_answers_used(checkout: Path) -> None:
    done = run("mine", "--ask", input="documents\naws\n32768\n5\n20000\n")
    assert done.exit_code == 0
    assert [line[0] for line in re.findall(r"^[1-5]\. .*", done.output, re.MULTILINE)] == list(
        "12345"
    )
    stack = load_stack("mine", checkout)
    chat = stack.pools[0]
    assert (chat.context, chat.demand and chat.demand.users) == (32768, 5)
    assert [pool.role for pool in stack.pools] == ["generate", "embed", "rerank"]
    assert stack.budget and stack.budget.usd_per_month == 20000


def test_an_option_is_not_asked_again(checkout: Path) -> None:
    done = run("mine", "--ask", "--task", "chat", "--where", "aws", "--users", "3", input="\n\n")
    assert re.findall(r"^([1-5])\. ", done.output, re.MULTILINE) == ["3", "5"]


def test_a_file_that_is_there_stays(checkout: Path) -> None:
    before = (checkout / "Pulumi.small.yaml").read_text()
    with pytest.raises(FreeholdError, match=r"Pulumi.small.yaml is there already"):
        run("small")
    assert (checkout / "Pulumi.small.yaml").read_text() == before


def test_a_refused_plan_writes_nothing(checkout: Path) -> None:
    with pytest.raises(FreeholdError, match=r"(?s)refused.*nothing is written"):
        run("mine", "--task", "agents", "--budget", "10")
    assert not (checkout / "Pulumi.mine.yaml").exists()


def test_a_draft_is_written_with_its_refusal(checkout: Path) -> None:
    done = run("mine", "--task", "agents", "--budget", "10", "--draft")
    assert done.exit_code == 0 and "its plan is refused" in done.output
    assert (checkout / "Pulumi.mine.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Mine!",), "cannot name a stack"),
        (("mine", "--task", "chat", "--model", "qwen3-8b"), "say one of them"),
        (("mine", "--where", "laptop", "--users", "3"), "--users has no effect"),
        (("mine", "--where", "laptop", "--budget", "3"), "--budget has no effect"),
        (("mine", "--model", "lama-3.1-8b"), "llama-3.1-8b"),
        (("mine", "--from-helm", "nothing.yaml"), "cannot be read"),
    ],
)
def test_mistakes_are_told(checkout: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(FreeholdError, match=re.escape(message)):
        run(*arguments)


# --- Chart values ------------------------------------------------------------------------------------


def convert(values: Path | dict[str, Any], where: str = "aws") -> Converted:
    tree = read_values(values) if isinstance(values, Path) else values
    return convert_values(tree, "values.yaml", Answers("chat", where), "freehold init")


def one_model(**keys: Any) -> dict[str, Any]:
    model = {"name": "llama", "modelURL": "meta-llama/Llama-3.1-8B-Instruct", **keys}
    return {"servingEngineSpec": {"modelSpec": [model]}}


def texts(made: Converted, path: str) -> list[str]:
    return [f"{note.what}: {note.text}" for note in made.notes if note.path.endswith(path)]


def leaves(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        parts = [(f"{path}.{key}" if path else str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        parts = [(f"{path}[{place}]", inner) for place, inner in enumerate(value)]
    else:
        return [path]
    return [leaf for where, inner in parts for leaf in leaves(inner, where)]


@pytest.mark.parametrize("where", ["aws", "own", "laptop"])
@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.stem)
def test_no_key_goes_missing(file: Path, where: str) -> None:
    """Each of the chart's own examples: every value under a key that a note speaks of."""
    tree = yaml.safe_load(file.read_text())
    if file.stem == "values":  # its one model is an example that is switched off
        tree["servingEngineSpec"]["modelSpec"][0]["enabled"] = True
    made = convert(tree, where)
    told = [note.path.partition(" ")[0] for note in made.notes]
    silent = [
        leaf
        for leaf in leaves(tree)
        if not any(leaf == path or leaf.startswith((f"{path}.", f"{path}[")) for path in told)
    ]
    assert silent == []


@pytest.mark.parametrize("where", ["aws", "laptop"])
@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.stem)
def test_what_is_written_loads(file: Path, where: str, checkout: Path) -> None:
    if file.stem == "values":
        pytest.skip("its one model is switched off")
    done = run("mine", "--from-helm", str(file), "--where", where, "--draft")
    assert done.exit_code == 0
    load_stack("mine", checkout)


def test_every_key_of_the_chart_is_known() -> None:
    known = [*carried_keys(), *dropped_keys()]
    lines = (CHARTS / "keys.txt").read_text().splitlines()[1:]
    unknown = [
        key
        for key in lines
        if not any(key == one or key.startswith((f"{one}.", f"{one}[")) for one in known)
    ]
    assert len(lines) > 200 and unknown == []


def test_a_misspelt_key_is_told() -> None:
    made = convert(one_model(vllmConfig={"maxModelLenn": 4096}))
    assert texts(made, "maxModelLenn") == [
        'dropped: no key of vllm-stack 0.1.12 (did you mean "maxModelLen"?): the chart ignores it '
        "without a word"
    ]


def test_prefix_caching_is_on_where_the_chart_switches_it_off_silently() -> None:
    made = convert(one_model(vllmConfig={"maxModelLen": 4096}))
    assert texts(made, "enablePrefixCaching")[0].startswith("corrected: it is on")
    assert "prefix_caching" not in made.draft.tree["pools"][0].get("engine", {})
    said = convert(one_model(vllmConfig={"enablePrefixCaching": False}))
    assert said.draft.tree["pools"][0]["engine"]["prefix_caching"] is False


def test_disk_offload_takes_effect() -> None:
    lmcache = {"enabled": True, "cpuOffloadingBufferSize": "30", "diskOffloadingBufferSize": 200}
    made = convert(one_model(lmcacheConfig=lmcache))
    assert made.draft.tree["cache"] == {"host_memory_gib": 30.0, "nvme_gib": 200.0, "redis": None}
    assert texts(made, "diskOffloadingBufferSize")[0].startswith("corrected")


@pytest.mark.parametrize(
    ("logic", "policy"),
    [("roundrobin", "round_robin"), ("session", "session"), ("prefixaware", "prefix")],
)
def test_routing_becomes_a_policy(logic: str, policy: str) -> None:
    made = convert(one_model() | {"routerSpec": {"routingLogic": logic}})
    assert made.draft.tree["pools"][0]["policy"] == policy


def test_a_prefill_and_a_decode_model_become_one_pool() -> None:
    made = convert(CHARTS / "16-disagg-prefill.yaml")
    (pool,) = made.draft.tree["pools"]
    assert pool["name"] == "llama"
    assert pool["aliases"] == ["meta-llama/Llama-3.1-8B-Instruct"]
    assert pool["disaggregated"] == {"prefill_replicas": 1, "decode_replicas": 1}
    assert "replicas" not in pool.get("placement", {})
    assert len([text for text in texts(made, ".kvRole") if text.startswith("kept")]) == 2


def test_one_part_alone_does_both() -> None:
    made = convert(one_model(lmcacheConfig={"enabled": True, "kvRole": "kv_producer"}))
    assert "disaggregated" not in made.draft.tree["pools"][0]
    assert texts(made, ".kvRole") == [
        "dropped: no other model is its counterpart: the pool reads and writes in the same workers"
    ]


def test_a_laptop_serves_the_two_parts_as_two_pools() -> None:
    made = convert(CHARTS / "16-disagg-prefill.yaml", "laptop")
    assert [pool["name"] for pool in made.draft.tree["pools"]] == ["llama-prefill", "llama-decode"]


def test_extra_arguments_become_typed_options() -> None:
    words = ["--kv-cache-dtype", "fp8", "--max_num_batched_tokens=8192", "--seed", "7", "--task"]
    words += ["generate", "--disable-log-requests", "--api-key", "sk-secret", "--no-such", "x"]
    made = convert(one_model(vllmConfig={"extraArgs": words}))
    assert made.draft.tree["pools"][0]["engine"] == {
        "kv_cache_dtype": "fp8",
        "max_num_batched_tokens": 8192,
        "extra_args": ["--seed", "7"],
    }
    assert texts(made, "--disable-log-requests")[0].startswith("dropped: no argument of vLLM")
    assert texts(made, "--no-such")[0].startswith("dropped: no argument of vLLM")


def test_no_secret_is_written() -> None:
    values = one_model(hf_token="hf-of-mine", env=[{"name": "K", "value": "env-of-mine"}])
    values["servingEngineSpec"]["vllmApiKey"] = "key-of-mine"
    made = convert(values)
    assert "of-mine" not in made.draft.text() + "".join(note.text for note in made.notes)


def test_clients_go_on_asking_for_what_they_ask_for() -> None:
    made = convert(one_model())
    assert made.draft.tree["pools"][0]["aliases"] == ["meta-llama/Llama-3.1-8B-Instruct"]


def test_pins_that_cannot_be_are_left_to_the_plan(checkout: Path) -> None:
    values = checkout / "values.yaml"
    vllm = {"tensorParallelSize": 3, "maxModelLen": 8192}
    values.write_text(yaml.safe_dump(one_model(replicaCount=1, vllmConfig=vllm)))
    done = run("mine", "--from-helm", str(values))
    assert done.exit_code == 0
    assert re.search(r"tensorParallelSize: left to the plan; .*does not divide", done.output)
    assert "placement" not in pools(checkout, "mine")[0]


def test_pins_that_can_be_are_kept(checkout: Path) -> None:
    values = checkout / "values.yaml"
    vllm = {"tensorParallelSize": 2, "maxModelLen": 8192}
    values.write_text(yaml.safe_dump(one_model(replicaCount=2, vllmConfig=vllm)))
    assert run("mine", "--from-helm", str(values)).exit_code == 0
    assert pools(checkout, "mine")[0]["placement"] == {"tensor_parallel": 2, "replicas": 2}


def test_other_yaml_is_refused() -> None:
    with pytest.raises(FreeholdError, match=r"has no list servingEngineSpec\.modelSpec"):
        convert({"kind": "Deployment"})


ODD: tuple[Any, ...] = ("x y", -1, 1.5, True, None, [], {}, "30Gi", ["a"], {"a": 1})


@pytest.mark.parametrize("file", [CHARTS / "values.yaml", CHARTS / "06-shared-storage.yaml"])
def test_odd_values_are_no_errors_of_ours(file: Path) -> None:
    """Each value replaced by another kind: converted or refused, never a traceback."""
    tree = yaml.safe_load(file.read_text())
    tree["servingEngineSpec"]["modelSpec"][0]["enabled"] = True
    # What is dropped in any case is not looked at: keys that are carried over, and what they stand in.
    for path in [path for path in branches(tree) if carries(path)]:
        for odd in ODD:
            changed = replaced(tree, path, odd)
            try:
                made = convert(changed, "aws")
                parse_stack(made.draft.tree, "test")
            except FreeholdError:
                continue
            except Exception as error:
                pytest.fail(f"{path} = {odd!r}: {type(error).__name__}: {error}")


def carries(path: tuple[str | int, ...]) -> bool:
    shape = "".join("[]" if isinstance(part, int) else f".{part}" for part in path)[1:]
    return any(key == shape or key.startswith((f"{shape}.", f"{shape}[")) for key in carried_keys())


def branches(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in parts:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from branches(inner, (*path, key))


def replaced(tree: Any, path: tuple[str | int, ...], value: Any) -> Any:
    tree = copy.copy(tree)
    tree[path[0]] = value if len(path) == 1 else replaced(tree[path[0]], path[1:], value)
    return tree
