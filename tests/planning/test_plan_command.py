"""`freehold plan` as a program: its JSON contract, exit codes, and what it writes."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from freehold.cli.plan import command
from freehold.config import FreeholdError, load_stack, stack_names
from freehold.engine.command_line import command_line
from freehold.planning.plan import make_plan

ROOT = Path(__file__).parents[2]
STACKS = ("local", "small", "medium", "large")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the committed stack files, to work in."""
    for file in ROOT.glob("Pulumi.*.yaml"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def plan_json(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", STACKS)
def test_the_json_holds_the_contract_s_keys(checkout: Path, name: str) -> None:
    plan = plan_json(name)
    assert {"cost", "warnings", "release", "pools"} <= set(plan)
    assert {"usd_per_hour", "usd_per_month", "usd_per_million_output_tokens", "items"} <= set(
        plan["cost"]
    )
    for item in plan["cost"]["items"]:
        assert {"name", "usd_per_hour", "usd_per_month"} <= set(item)
    for pool in plan["pools"]:
        assert {
            "name",
            "role",
            "model",
            "quantization",
            "instance_type",
            "capacity",
            "nodes",
            "replicas",
            "gpus_per_replica",
            "tensor_parallel",
            "pipeline_parallel",
            "max_model_len",
            "memory_gib",
            "max_concurrency",
            "engine_args",
        } <= set(pool)
        if name == "local":
            assert pool["predicted"] is None and pool["not_predicted"]
            continue
        assert {"weights", "kv_cache", "activations", "overhead", "total", "available"} <= set(
            pool["memory_gib"]
        )
        if pool["role"] == "generate":
            assert {
                "concurrency",
                "median_ttft_ms",
                "median_tpot_ms",
                "median_itl_ms",
                "output_throughput",
                "total_token_throughput",
                "request_throughput",
                "max_concurrent_requests",
            } <= set(pool["predicted"])


@pytest.mark.parametrize("name", STACKS)
def test_engine_args_are_the_engine_s_command_line(checkout: Path, name: str) -> None:
    expected = [command_line(pool.settings) for pool in make_plan(name, load_stack(name)).pools]
    assert [pool["engine_args"] for pool in plan_json(name)["pools"]] == expected


@pytest.mark.parametrize("name", STACKS)
def test_the_screen_shows_every_pool_and_the_price(checkout: Path, name: str) -> None:
    shown = run(name).stdout
    for pool in load_stack(name).pools:
        assert pool.name in shown
    if name != "local":
        for words in ("GPUs only", "all in", "single points of failure", "first token from zero"):
            assert words in shown


def test_alternatives_say_why_each_lost(checkout: Path) -> None:
    shown = run("medium", "--alternatives").stdout
    assert "an hour more" in shown and "p5.48xlarge" in shown
    plan = plan_json("medium", "--alternatives")
    chat = plan["pools"][0]
    assert len(chat["alternatives"]) > 20
    assert all(chat["misfits"].values())


def test_what_if_compares_and_lets_the_budget_go(checkout: Path) -> None:
    done = run("large", "--what-if", "concurrency=64,context=100000", "--json")
    both = json.loads(done.stdout)
    now, then = both["plan"], both["what_if"]
    assert then["pools"][0]["max_model_len"] == 100_000
    assert then["pools"][0]["predicted"]["concurrency"] == 64
    assert then["cost"]["usd_per_month"] > now["cost"]["usd_per_month"]
    assert "concurrency=64" in run("large", "--what-if", "concurrency=64,context=100000").stdout


def test_what_if_of_one_pool_leaves_the_others(checkout: Path) -> None:
    both = json.loads(run("medium", "--what-if", "embed.context=2048", "--json").stdout)
    assert [pool["max_model_len"] for pool in both["what_if"]["pools"]] == [51_200, 2048, 8192]


@pytest.mark.parametrize(
    ("what_if", "words"),
    [
        ("contxt=5", 'did you mean "context"'),
        ("context", "is not KEY=VALUE"),
        ("chatt.context=5", 'no pool "chatt"'),
        ("context=abc", "pools[0].context"),
        ("tensor_parallel=3", "does not divide"),
    ],
)
def test_a_what_if_that_cannot_be_says_so(checkout: Path, what_if: str, words: str) -> None:
    with pytest.raises(FreeholdError) as caught:
        run("medium", "--what-if", what_if)
    assert words in str(caught.value)


def test_write_pins_what_was_planned_and_nothing_else(checkout: Path) -> None:
    file = checkout / "Pulumi.medium.yaml"
    before, planned = file.read_text(), plan_json("medium")
    assert run("medium", "--write").exit_code == 0
    after = file.read_text()
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert set(before.splitlines()) <= set(after.splitlines()), "a line or a comment was lost"
    assert all("#" not in line for line in added)
    chat = load_stack("medium", checkout).pools[0]
    assert chat.placement.model_dump() == {
        key: planned["pools"][0][key]
        for key in ("instance_type", "tensor_parallel", "pipeline_parallel", "replicas")
    }
    assert plan_json("medium") == planned
    assert not list(checkout.glob(".*tmp*")) and len(list(checkout.iterdir())) == len(
        list(ROOT.glob("Pulumi.*.yaml"))
    )


def test_writing_twice_changes_nothing_more(checkout: Path) -> None:
    run("small", "--write")
    once = (checkout / "Pulumi.small.yaml").read_text()
    run("small", "--write")
    assert (checkout / "Pulumi.small.yaml").read_text() == once


def test_write_leaves_what_pulumi_keeps_and_adds_pools_of_the_base(checkout: Path) -> None:
    text = (
        "encryptionsalt: v1:abc=\nconfig:\n  aws:region: us-east-2\n"
        "  freehold:stack:\n    extends: small # ours\n"
    )
    (checkout / "Pulumi.mine.yaml").write_text(text)
    run("mine", "--write")
    written = (checkout / "Pulumi.mine.yaml").read_text()
    assert written.startswith(text)
    document = yaml.safe_load(written)
    names = [pool["name"] for pool in document["config"]["freehold:stack"]["pools"]]
    assert names == ["chat", "embed", "rerank"]
    assert load_stack("mine", checkout).pools[0].placement.replicas


def test_a_local_stack_has_nothing_to_pin(checkout: Path) -> None:
    with pytest.raises(FreeholdError, match="no placement to pin"):
        run("local", "--write")


def test_all_sums_the_stacks(checkout: Path) -> None:
    summary = json.loads(run("--all", "--json").stdout)
    names = stack_names(checkout)  # a fork has more
    total = sum(plan_json(name)["cost"]["usd_per_month"] for name in names)
    assert summary["usd_per_month"] == pytest.approx(total, abs=0.05)
    assert {stack["stack"] for stack in summary["stacks"]} == set(names) >= set(STACKS)
    assert "all in $/month" in run("--all").stdout


def test_all_tells_of_a_refused_stack_and_sums_the_rest(checkout: Path) -> None:
    text = "config:\n  freehold:stack:\n    extends: small\n    budget: {usd_per_month: 1}\n"
    (checkout / "Pulumi.poor.yaml").write_text(text)
    with pytest.raises(FreeholdError, match=r"not in the sum: 1 refused\n.*stack poor"):
        run("--all")


def test_a_stack_must_be_named(checkout: Path) -> None:
    with pytest.raises(FreeholdError, match="name a stack"):
        run()


LLAMA_LIKE = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 16384,
    "model_type": "llama",
    "torch_dtype": "bfloat16",
}


def test_any_other_model_through_its_config_json(checkout: Path) -> None:
    (checkout / "config.json").write_text(json.dumps(LLAMA_LIKE))
    text = (
        "config:\n  freehold:stack:\n    extends: small\n    budget: null\n"
        "    pools:\n      - {name: chat, model: acme/own-8b, quantization: bf16, context: 16384}\n"
    )
    (checkout / "Pulumi.own.yaml").write_text(text)
    with pytest.raises(FreeholdError, match=r'no "acme/own-8b".*--model-config'):
        run("own")
    chat = plan_json("own", "--model-config", "config.json")["pools"][0]
    assert chat["repository"] == "acme/own-8b" and chat["quantization"] == "bf16"
    # 8 billion weights of two bytes.
    assert chat["memory_gib"]["weights"] == pytest.approx(15, rel=0.05)
    named = plan_json("own", "--model-config", "acme/own-8b=config.json")["pools"][0]
    assert named == chat


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model hub that knows one model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/acme/own-8b/resolve/main/config.json"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(LLAMA_LIKE).encode() if known else b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_a_config_json_straight_from_the_hub(checkout: Path) -> None:
    def own(model: str) -> None:
        text = (
            "config:\n  freehold:stack:\n    extends: small\n    budget: null\n    pools:\n"
            f"      - {{name: chat, model: {model}, quantization: bf16, context: 16384}}\n"
        )
        (checkout / "Pulumi.own.yaml").write_text(text)

    own("acme/own-8b")
    assert plan_json("own", "--model-config", "hub")["pools"][0]["repository"] == "acme/own-8b"
    own("acme/none")
    with pytest.raises(FreeholdError, match=r"acme/none/resolve/main/config\.json gave no"):
        run("own", "--model-config", "hub")


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "cannot be read"), ("[]", "holds no JSON object"), ("{}", 'has no "hidden_size"')],
)
def test_a_config_json_that_is_none_is_one_message(
    checkout: Path, content: str, words: str
) -> None:
    (checkout / "config.json").write_text(content)
    text = "config:\n  freehold:stack:\n    extends: small\n    pools: [{name: chat, model: a/b}]\n"
    (checkout / "Pulumi.own.yaml").write_text(text)
    with pytest.raises(FreeholdError, match=words):
        run("own", "--model-config", "config.json")


def test_the_schema_needs_no_stack(checkout: Path) -> None:
    assert json.loads(run("--schema").stdout)["properties"]["config"]
