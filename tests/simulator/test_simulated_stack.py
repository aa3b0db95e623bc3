"""Stacks with simulated engines: what runs, with which command lines, at whose speed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from freehold.cli import up as up_module
from freehold.cli.up import command as up
from freehold.config import load_stack
from freehold.config.errors import FreeholdError
from freehold.engine.command_line import command_line
from freehold.local.compose import compose_simulated
from freehold.local.home import StackHome
from freehold.local.process import ProcessSpec
from freehold.planning.plan import Plan, make_plan
from freehold.simulator import fleet
from freehold.simulator.settings import ENVIRONMENT, settings_of
from freehold.simulator.timing import pace_of
from freehold.simulator.validation import relative_errors

ROOT = Path(__file__).parents[2]
TOOLS = {name: Path("/bin/true") for name in ("prometheus", "promtool", "grafana")}


def plan_of(stack: str) -> Plan:
    return make_plan(stack, load_stack(stack, ROOT))


def specs_of(plan: Plan, folder: Path) -> dict[str, ProcessSpec]:
    """The processes of a plan, their files written."""
    home = StackHome.of(folder, plan.stack)
    home.prepare()
    specs = {spec.name: spec for spec in compose_simulated(plan, TOOLS, home)}
    for spec in specs.values():
        for path, text in spec.files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
    return specs


@pytest.mark.parametrize("stack", ["small", "medium", "large"])
def test_every_replica_of_a_tier_runs_its_own_command_line_at_the_plan_s_speed(
    stack: str, tmp_path: Path
) -> None:
    plan = plan_of(stack)
    specs = specs_of(plan, tmp_path)
    assert {"gateway", "picker", "prometheus"} <= set(specs)
    assert ("cache" in specs) == (plan.cache is not None)
    for pool in plan.pools:
        for index in range(pool.replicas):
            spec = specs[f"{pool.name}-{index}"]
            line = command_line(pool.settings)
            assert spec.argv[3 : 3 + len(line)] == tuple(line)
            settings = settings_of(spec.argv[3:], spec.env)
            assert settings.port == spec.port and settings.names == (pool.name,)
            assert isinstance(settings.timing, dict) and pool.placement
            assert settings.timing["gpu"] == pool.placement.gpu
            assert settings.limits.max_model_len == pool.settings.options.max_model_len
            pace_of(settings.timing)
            if pool.settings.kv_transfer:
                assert settings.shared_tier and plan.cache
                assert settings.shared_tier.address == ("127.0.0.1", plan.cache.port)
                assert spec.after == ("cache",)


def test_the_kv_cache_is_as_large_as_planned(tmp_path: Path) -> None:
    plan = plan_of("large")
    chat = next(pool for pool in plan.pools if pool.role == "generate")
    spec = specs_of(plan, tmp_path)["chat-0"]
    limits = settings_of(spec.argv[3:], spec.env).limits
    assert chat.sizing and chat.sizing.kv_cache_tokens
    planned = chat.sizing.kv_cache_tokens // chat.replicas
    assert limits.blocks * limits.block_size == pytest.approx(planned, abs=limits.block_size)
    assert limits.draft_tokens == 1 and limits.tokens_per_step == pytest.approx(1.85)


def test_many_replicas_share_processes_and_keep_their_ports(tmp_path: Path) -> None:
    plan = plan_of("local")
    pools = tuple(replace(p, replicas=20 if p.name == "chat" else 1) for p in plan.pools)
    engines = [
        spec
        for spec in specs_of(replace(plan, pools=pools), tmp_path).values()
        if spec.role == "engine"
    ]
    assert len(engines) <= 10
    assert [spec.name for spec in engines][:2] == ["chat-0-to-2", "chat-3-to-5"]
    ports = [port for spec in engines for port in (spec.port, *spec.extra_ports)]
    assert len(set(ports)) == 22
    for spec in engines:
        replicas = fleet.read(Path(spec.argv[3]))
        listening = [replica.settings.port for replica in replicas]
        assert listening == [spec.port, *spec.extra_ports]


def test_a_stack_without_a_prediction_runs_at_a_made_up_speed(tmp_path: Path) -> None:
    spec = specs_of(plan_of("local"), tmp_path)["chat-0"]
    assert json.loads(Path(spec.env[ENVIRONMENT]).read_text()) == {"faults": True}


def test_a_deployment_that_the_catalog_lacks_is_refused(tmp_path: Path) -> None:
    spec = specs_of(plan_of("small"), tmp_path)["chat-0"]
    timing = settings_of(spec.argv[3:], spec.env).timing
    assert isinstance(timing, dict)
    with pytest.raises(FreeholdError, match="GPU T4 is not in the catalog"):
        pace_of({**timing, "gpu": "T4"})


def test_a_stack_for_a_cluster_is_not_brought_up_here_with_real_engines() -> None:
    done = CliRunner().invoke(up, ["small"])
    assert isinstance(done.exception, FreeholdError)
    assert "--engine simulated" in str(done.exception)


def test_a_local_stack_may_say_that_its_engines_are_simulated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (ROOT / "Pulumi.local.yaml").read_text()
    (tmp_path / "Pulumi.local.yaml").write_text(text.replace("engine: vllm", "engine: simulated"))
    monkeypatch.chdir(tmp_path)
    started: list[str] = []
    for name in ("bring_up", "bring_up_simulated"):
        monkeypatch.setattr(up_module, name, lambda *_, name=name: started.append(name) or {})
    monkeypatch.setattr(up_module, "_tell", lambda *_: None)
    for engine in ((), ("--engine", "vllm")):
        CliRunner().invoke(up, ["local", "--no-smoke", *engine], catch_exceptions=False)
    assert started == ["bring_up_simulated", "bring_up"]


def test_a_restart_takes_the_divided_time_of_loading(tmp_path: Path) -> None:
    plan = plan_of("small")
    home = StackHome.of(tmp_path, "small")
    home.prepare()
    plain, divided = (
        {s.name: s for s in compose_simulated(plan, TOOLS, home, by)}["chat-0"].files
        for by in (1.0, 20.0)
    )
    chat = plan.pools[0]
    assert chat.sizing
    start = chat.sizing.startup
    (scenario,) = divided.values()
    assert json.loads(scenario)["start_seconds"] == (start.weights + start.warm_up) / 20
    assert "start_seconds" not in json.loads(next(iter(plain.values())))


def test_the_scheduler_reproduces_measured_rows() -> None:
    """A few, as a check that step times and scheduler fit together; the benchmark runs all of them."""
    errors = relative_errors(every=37)
    assert len(errors) > 5
    tpot = sorted(abs(error) for _, error in errors)
    assert tpot[len(tpot) // 2] < 0.15
    ttft = sorted(abs(error) for error, _ in errors)
    assert ttft[len(ttft) // 2] < 0.30
