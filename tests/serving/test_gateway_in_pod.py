"""What the gateway gained for a cluster: two-part configuration, TLS, drain, standby, Retry-After."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.gateway import envoy, launch
from freehold.gateway.in_pod import gateway_from, read_keys, settings_of
from freehold.gateway.model import ApiKey, Certificate, Dns, Gateway, Pool, Worker

GATEWAY = Gateway(
    port=8080,
    admin_port=9901,
    host="0.0.0.0",
    pools=(
        Pool(
            "chat", "generate", ("chat",), discovery=Dns("chat.models.svc", 8000), start_seconds=300
        ),
        Pool(
            "embed",
            "embed",
            ("embed",),
            (Worker("embed-0", "127.0.0.1", 1),),
            aliases={"e": "embed"},
        ),
    ),
    keys=(
        ApiKey("secret-of-acme", "acme", ("chat",), 60),
        ApiKey("secret-of-other", "other", cache_group="friends"),
    ),
    picker=("picker-a.gateway.svc", 9002),
    picker_http=("picker-a.gateway.svc", 9003),
    picker_standby=("picker-b.gateway.svc", 9002),
    stats=("0.0.0.0", 9902),
    drainable=True,
    replicas=2,
    sealed=True,
)


def test_settings_hold_no_secret_and_lose_nothing() -> None:
    written = json.dumps(settings_of(GATEWAY))
    assert "secret-of" not in written
    secrets = {"acme": "secret-of-acme", "other": "secret-of-other"}
    assert gateway_from(json.loads(written), secrets) == GATEWAY


def test_the_pod_writes_what_the_builder_builds(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "acme").write_text("secret-of-acme\n")
    (keys / "other").write_text("secret-of-other")
    (keys / "..data").mkdir()
    assert read_keys(keys) == {"acme": "secret-of-acme", "other": "secret-of-other"}
    (tmp_path / "gateway.json").write_text(json.dumps(settings_of(GATEWAY)))
    out = tmp_path / "envoy.json"
    command = [sys.executable, "-m", "freehold.gateway.in_pod"]
    subprocess.run([*command, tmp_path / "gateway.json", keys, out], check=True)
    assert json.loads(out.read_text()) == json.loads(json.dumps(envoy.bootstrap(GATEWAY)))
    assert os.stat(out).st_mode & 0o077 == 0
    accepted(out)


def test_a_tenant_without_a_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "gateway.json").write_text(json.dumps(settings_of(GATEWAY)))
    arguments = [tmp_path / "gateway.json", tmp_path / "keys", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-m", "freehold.gateway.in_pod", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "tenant acme has no key" in done.stderr


@pytest.mark.parametrize("drainable", [False, True])
def test_only_a_drainable_gateway_takes_the_order(drainable: bool) -> None:
    built = envoy.bootstrap(dataclasses.replace(GATEWAY, drainable=drainable))
    (paths,) = built["admin"]["allow_paths"]
    assert ("drain_listeners" in paths["safe_regex"]["regex"]) == drainable


def test_pickers_are_asked_in_order() -> None:
    clusters = envoy.bootstrap(GATEWAY)["static_resources"]["clusters"]
    (picker,) = (cluster for cluster in clusters if cluster["name"] == "picker")
    hosts = [
        (
            group["priority"],
            group["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"],
        )
        for group in picker["load_assignment"]["endpoints"]
    ]
    assert hosts == [(0, "picker-a.gateway.svc"), (1, "picker-b.gateway.svc")]


def test_a_certificate_makes_the_door_speak_tls(tmp_path: Path) -> None:
    chain, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-nodes", "-subj", "/CN=gateway", "-days", "1", "-out", chain, "-keyout", key),
        ],
        check=True,
        capture_output=True,
    )
    certificate = Certificate(str(chain), str(key))
    out = tmp_path / "envoy.json"
    built = envoy.bootstrap(dataclasses.replace(GATEWAY, certificate=certificate))
    out.write_text(json.dumps(built))
    accepted(out)
    sockets = {
        listener["name"]: "transport_socket" in listener["filter_chains"][0]
        for listener in built["static_resources"]["listeners"]
    }
    assert sockets == {"door": True, "stats": False}


def accepted(configuration: Path) -> None:
    """The real Envoy loads it."""
    done = subprocess.run(
        [*launch.envoy_argv(configuration), "--mode", "validate"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
