"""The rendered gateway: its configuration in the real Envoy, its keys, its going."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_ports

from freehold.config import FreeholdError
from freehold.gateway import envoy, launch
from freehold.gateway.in_pod import gateway_from
from freehold.gateway.model import ApiKey, Dns, Gateway, Pool, Worker
from freehold.gateway.picker import config as picker_config
from freehold.serving.gateway_deployment import drain_script

from .programs import STACKS, changed_plan, container, plan_of, pod, program_of, run
from .recorded import Program, value_of

KEYS = {"gateway": {"keys": [{"tenant": "acme"}, {"tenant": "other", "models": ["chat"]}]}}


def settings(program: Program) -> dict[str, Any]:
    return json.loads(program.one("ConfigMap", "gateway")["data"]["gateway.json"])


@pytest.mark.parametrize("stack", STACKS)
def test_the_real_envoy_loads_what_the_pod_will_write(stack: str, tmp_path: Path) -> None:
    gateway = gateway_from(settings(program_of(stack)), {"default": "sk-test"})
    out = tmp_path / "envoy.json"
    out.write_text(json.dumps(envoy.bootstrap(gateway)))
    done = subprocess.run(
        [*launch.envoy_argv(out), "--mode", "validate"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stack", STACKS)
def test_the_picker_reads_its_own(stack: str, tmp_path: Path) -> None:
    file = tmp_path / "picker.json"
    file.write_text(program_of(stack).one("ConfigMap", "picker")["data"]["picker.json"])
    config = picker_config.load(file)
    assert config.grpc == ("0.0.0.0", 9002)
    assert [pool.name for pool in config.pools] == [pool.name for pool in plan_of(stack).pools]
    hosts = {source.host for pool in config.pools for source in pool.sources}
    assert f"chat.{stack}-models.svc.cluster.local." in hosts


@pytest.mark.parametrize("stack", STACKS)
def test_every_address_of_the_settings_is_a_service(stack: str) -> None:
    program = program_of(stack)
    services = {
        f"{item['metadata']['name']}.{item['metadata']['namespace']}.svc.cluster.local.": {
            port["port"] for port in item["spec"]["ports"]
        }
        for item in program.all("Service")
    }
    found = settings(program)
    asked = [tuple(found["picker"]), tuple(found["picker_standby"])]
    asked += [(p["discovery"]["hostname"], p["discovery"]["port"]) for p in found["pools"]]
    for host, port in asked:
        assert port in services[host]


@pytest.mark.parametrize("stack", STACKS)
def test_no_secret_is_outside_of_secrets(stack: str) -> None:
    for item in program_of(stack).objects:
        if item["kind"] != "Secret":
            assert "made-up-for" not in json.dumps(item), item["metadata"]["name"]


def test_two_replicas_at_least_and_the_limit_is_shared_by_them() -> None:
    program = run(changed_plan("small", {"gateway": {"replicas": 1}}))
    assert program.one("Deployment", "gateway")["spec"]["replicas"] == 2
    assert settings(program)["replicas"] == 2
    scaler = program.one("HorizontalPodAutoscaler", "gateway")["spec"]
    assert scaler["minReplicas"] == 2 < scaler["maxReplicas"]


def test_a_roll_never_has_fewer_and_the_old_ones_go_slowly() -> None:
    program = program_of("large")
    deployment = program.one("Deployment", "gateway")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    command = container(program, "Deployment", "gateway", "envoy")["lifecycle"]["preStop"]["exec"]
    linger, most = map(int, command["command"][-2:])
    grace = pod(program, "Deployment", "gateway")["terminationGracePeriodSeconds"]
    longest = max((pool.settings.options.shutdown_timeout or 0) for pool in plan_of("large").pools)
    assert most >= linger + longest and grace > most


def test_a_change_of_settings_or_of_a_key_restarts_the_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = {"gateway": {"keys": [{"tenant": "acme", "secret_env": "ACME"}, {"tenant": "other"}]}}

    def annotations(key: str, mib: int) -> tuple[dict[str, str], Program]:
        monkeypatch.setenv("ACME", key)
        program = run(changed_plan("small", {"gateway": {**keys["gateway"], "max_body_mib": mib}}))
        template = program.one("Deployment", "gateway")["spec"]["template"]
        return template["metadata"]["annotations"], program

    first, one = annotations("sk-one", 32)
    other_key, two = annotations("sk-two", 32)
    other_settings, _ = annotations("sk-one", 64)
    assert first["freehold/keys"] != other_key["freehold/keys"]
    assert first["freehold/settings"] == other_key["freehold/settings"]
    assert first["freehold/settings"] != other_settings["freehold/settings"]
    changed = [
        item["metadata"]["name"]
        for item in one.objects
        if item["kind"] == "Secret" and item not in two.objects
    ]
    assert changed == ["gateway-key-acme"]


def test_a_key_that_the_environment_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME", raising=False)
    plan = changed_plan("small", {"gateway": {"keys": [{"tenant": "acme", "secret_env": "ACME"}]}})
    with pytest.raises(FreeholdError, match="environment variable ACME is not set"):
        run(plan)


def test_each_tenant_s_key_is_a_file_and_an_output() -> None:
    program = run(changed_plan("small", KEYS))
    (keys,) = (v for v in pod(program, "Deployment", "gateway")["volumes"] if v["name"] == "keys")
    files = {
        item["secret"]["name"]: item["secret"]["items"][0]["path"]
        for item in keys["projected"]["sources"]
    }
    assert files == {"gateway-key-acme": "acme", "gateway-key-other": "other"}
    known = {name: value_of(key) for name, key in program.result.keys.items()}
    assert known["acme"] == "sk-made-up-for-gateway-key-acme"
    assert known == {
        tenant: program.one("Secret", f"gateway-key-{tenant}")["stringData"]["key"]
        for tenant in ("acme", "other")
    }


def test_who_holds_the_certificate() -> None:
    tls = {"gateway": {"tls": {"secret": "door"}}}
    by_balancer = run(changed_plan("small", tls))
    assert settings(by_balancer)["certificate"] is None
    by_envoy = run(changed_plan("small", tls), terminates_tls=False)
    assert settings(by_envoy)["certificate"]
    mounts = container(by_envoy, "Deployment", "gateway", "envoy")["volumeMounts"]
    assert "/etc/freehold/tls" in [item["mountPath"] for item in mounts]
    by_ingress = run(changed_plan("onprem", {"target": {"ingress_class": "nginx"}, **tls}))
    assert settings(by_ingress)["certificate"] is None
    assert by_ingress.one("Ingress", "gateway")["spec"]["tls"] == [{"secretName": "door"}]


def test_the_base_url_is_the_load_balancer_s() -> None:
    program = program_of("small")
    assert value_of(program.result.base_url) == "http://door.example/v1"
    service = program.one("Service", "gateway")["spec"]
    assert service["type"] == "LoadBalancer"
    assert service["loadBalancerSourceRanges"] == ["10.0.0.0/8"]


# --- In a pod: the script and the configuration with a real Envoy ---------------------------------------


class Slow(BaseHTTPRequestHandler):
    """An engine whose answers take two seconds."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(2)
        self._answer(b'{"late": true}')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(tmp_path: Path) -> Iterator[Gateway]:
    engine = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    ports = free_ports(3)
    gateway = Gateway(
        port=ports[0],
        admin_port=ports[1],
        stats=("127.0.0.1", ports[2]),
        pools=(
            Pool("chat", "generate", ("chat",), (Worker("w", "127.0.0.1", engine.server_port),)),
            Pool(
                "away",
                "generate",
                ("away",),
                discovery=Dns("nobody.invalid.", 8000),
                start_seconds=321,
            ),
        ),
        keys=(ApiKey("sk-test"),),
        drainable=True,
    )
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(envoy.bootstrap(gateway)))
    argv = [*launch.envoy_argv(file, concurrency=1), "--drain-strategy", "immediate"]
    process = subprocess.Popen([*argv, "--drain-time-s", "600"], stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{ports[2]}/ready")
        yield gateway
    finally:
        process.kill()
        process.wait()
        engine.shutdown()


def ask(gateway: Gateway, client: httpx.Client, model: str) -> httpx.Response:
    return client.post(
        f"http://127.0.0.1:{gateway.port}/v1/chat/completions",
        json={"model": model, "messages": []},
        headers={"authorization": "Bearer sk-test"},
    )


def test_a_pool_at_zero_says_when_to_come_back(tmp_path: Path) -> None:
    with running(tmp_path) as gateway, httpx.Client(timeout=20) as client:
        answer = ask(gateway, client, "away")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "321"
        assert answer.json()["error"]["code"] == "service_unavailable"


def test_the_drain_waits_for_the_last_answer(tmp_path: Path) -> None:
    script = tmp_path / "drain.sh"
    script.write_text(drain_script())
    with running(tmp_path) as gateway, httpx.Client(timeout=20) as client:
        assert "connection" not in ask(gateway, client, "chat").headers
        began = time.monotonic()
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(ask(gateway, client, "chat")))
        thread.start()
        time.sleep(0.5)
        drain(script, gateway, linger=0, most=30)
        thread.join()
        assert answers[0].json() == {"late": True}
        assert answers[0].headers["connection"] == "close"  # come back on a new connection
        assert 1.5 < time.monotonic() - began < 10
        # New connections are still taken: a load balancer may not know yet.
        assert ask(gateway, httpx.Client(timeout=20), "chat").status_code == 200


def test_the_drain_ends_at_its_limit(tmp_path: Path) -> None:
    script = tmp_path / "drain.sh"
    script.write_text(drain_script())
    with running(tmp_path) as gateway, httpx.Client(timeout=20) as client:
        thread = threading.Thread(target=ask, args=(gateway, client, "chat"))
        thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        drain(script, gateway, linger=0, most=1)
        assert time.monotonic() - began < 1.9
        thread.join()


def drain(script: Path, gateway: Gateway, linger: int, most: int) -> None:
    subprocess.run(
        ["bash", script, str(gateway.admin_port), str(linger), str(most)], check=True, timeout=40
    )


def wait_for(url: str) -> None:
    for _ in range(100):
        try:
            if httpx.get(url, timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_the_pod_writes_the_configuration_with_the_image_s_command(tmp_path: Path) -> None:
    configure = container(program_of("small"), "Deployment", "gateway", "configure")
    assert configure["command"][:2] == ["python3", "-m"]
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "default").write_text("sk-test")
    (tmp_path / "gateway.json").write_text(json.dumps(settings(program_of("small"))))
    places = {
        "/etc/freehold/gateway": str(tmp_path),
        "/etc/freehold/keys": str(tmp_path / "keys"),
        "/run/envoy": str(tmp_path),
    }
    arguments = [
        next((a.replace(k, v) for k, v in places.items() if k in a), a) for a in configure["args"]
    ]
    subprocess.run([sys.executable, *configure["command"][1:], *arguments], check=True)
    assert json.loads((tmp_path / "envoy.json").read_text())["node"]["cluster"] == "freehold"
    assert os.stat(tmp_path / "envoy.json").st_mode & 0o077 == 0
